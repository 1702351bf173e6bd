"""A local lab for the whole session, driven with the real `sampan` and the real kubectl.

A failing test's report carries the events, the pods and the tails of the component logs.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 90.0


class Failed(AssertionError):
    """A command that ended with an error; shows what it printed."""


class Lab:
    """A running lab, through the commands that its user has."""

    def __init__(self, name: str, kubeconfig: Path) -> None:
        self.name = name
        self.kubeconfig = kubeconfig

    def sampan(self, *args: str, timeout_s: float = 300, check: bool = True) -> str:
        return run(str(ROOT / "sampan"), *args, timeout_s=timeout_s, check=check)

    def kubectl(self, *args: str, stdin: str | None = None, timeout_s: float = 120, check: bool = True) -> str:
        return run(*self.command(*args), stdin=stdin, timeout_s=timeout_s, check=check)

    def command(self, *args: str) -> list[str]:
        return ["kubectl", f"--kubeconfig={self.kubeconfig}", *args]

    def json(self, *args: str) -> Any:
        return json.loads(self.kubectl(*args, "-o", "json"))

    def nodes(self) -> list[str]:
        return [node["metadata"]["name"] for node in self.json("get", "nodes")["items"]]


def run(*command: str, stdin: str | None = None, timeout_s: float = 120, check: bool = True) -> str:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False)
    if check and done.returncode != 0:
        raise Failed(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout if done.returncode == 0 else done.stdout + done.stderr


def eventually(condition: Callable[[], Any], what: str = "", timeout_s: float = WAIT_S) -> Any:
    """The first true value of `condition`; a failed command counts as not yet."""
    deadline = time.monotonic() + timeout_s
    last: Any = None
    while time.monotonic() < deadline:
        try:
            last = condition()
            if last:
                return last
        except (Failed, KeyError, IndexError, ConnectionError, subprocess.TimeoutExpired) as error:
            last = error
        time.sleep(0.1)
    raise AssertionError(f"{what or condition} did not come true in {timeout_s} s; last seen: {last!r}")


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    name = f"e2e{os.getpid()}"
    made = Lab(name, tmp_path_factory.mktemp("lab") / "kubeconfig")
    try:
        made.sampan("up", "--name", name, "--workers", "2", "--kubeconfig", str(made.kubeconfig), timeout_s=900)
        yield made
    finally:
        made.sampan("down", "--name", name)


@pytest.fixture
def namespace(lab: Lab) -> Iterator[str]:
    """A namespace of the test's own; its deletion is waited for, so that nothing runs on into the next test."""
    name = f"t-{uuid.uuid4().hex[:8]}"
    lab.kubectl("create", "namespace", name)
    eventually(lambda: lab.kubectl("-n", name, "get", "serviceaccount", "default"), "the default service account")
    yield name
    lab.kubectl("delete", "namespace", name, "--timeout=120s", timeout_s=130)


@pytest.fixture
def kubectl(lab: Lab, namespace: str) -> Callable[..., str]:
    """kubectl in the test's namespace."""

    def call(*args: str, **more: Any) -> str:
        return lab.kubectl("-n", namespace, *args, **more)

    return call


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome: Any = yield
    report = outcome.get_result()
    lab = getattr(item, "funcargs", {}).get("lab")
    if report.failed and lab is not None:
        space = item.funcargs.get("namespace", "default")  # type: ignore[attr-defined]
        for title, args in {
            "pods": ("get", "pods", "-A", "-o", "wide"),
            "events": ("-n", space, "get", "events"),
            "described": ("-n", space, "describe", "pods"),
        }.items():
            report.sections.append((title, lab.kubectl(*args, check=False)[-6000:]))
        report.sections.append(("lab", lab.sampan("status", "--name", lab.name, check=False)))
