"""A local lab for the whole session, driven with the real `sampan` and the real kubectl.

A failing test's report carries the events, the pods and the tails of the component logs.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.e2e.lab import Lab, eventually


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
