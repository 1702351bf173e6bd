"""A lab for the whole session, driven with the real `sampan` and the real kubectl: a local one, or, with
SAMPAN_TEST_BACKEND=libvirt in the environment, one of virtual machines, for the same tests.

A failing test's report carries the events, the pods and the tails of the component logs.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.e2e.lab import WITHIN, Lab, eventually

BACKEND = os.environ.get("SAMPAN_TEST_BACKEND", "local")
UP_TIMEOUT_S = {"local": 900, "libvirt": 3600}  # with the image built, on a machine without KVM


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    name = f"e2e{os.getpid()}"
    made = Lab(name, tmp_path_factory.mktemp("lab") / "kubeconfig")
    options = ["--name", name, "--workers", "2", "--kubeconfig", str(made.kubeconfig)]
    try:
        made.sampan("up", "--backend", BACKEND, *options, timeout_s=UP_TIMEOUT_S[BACKEND])
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
    lab.kubectl("delete", "namespace", name, WITHIN)


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
