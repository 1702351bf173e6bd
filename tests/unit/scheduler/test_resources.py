from __future__ import annotations

from typing import Any

import pytest

from orchestrator.scheduler.resources import pod_requests


def container(cpu: str | None = None, memory: str | None = None, **more: Any) -> dict[str, Any]:
    asked = {name: value for name, value in (("cpu", cpu), ("memory", memory)) if value}
    return {"resources": {"requests": asked}, **more}


SIDECAR = {"restartPolicy": "Always"}


@pytest.mark.parametrize(
    ("spec", "cpu"),
    [
        pytest.param({"containers": [container("100m"), container("1.5")]}, 1600, id="containers-add-up"),
        pytest.param({"containers": [container("1")], "initContainers": [container("3")]}, 3000, id="init-peak"),
        pytest.param(
            {"containers": [container("2")], "initContainers": [container("1"), container("1")]}, 2000, id="one-by-one"
        ),
        pytest.param(
            {"containers": [container("1")], "initContainers": [container("500m", **SIDECAR)]}, 1500, id="sidecar-stays"
        ),
        pytest.param(
            {"containers": [container("1")], "initContainers": [container("500m", **SIDECAR), container("2")]},
            2500,
            id="init-beside-the-sidecar-before-it",
        ),
        pytest.param(
            {"containers": [container("1")], "initContainers": [container("2"), container("500m", **SIDECAR)]},
            2000,
            id="init-before-the-sidecar",
        ),
        pytest.param({"containers": [container("1")], "overhead": {"cpu": "250m"}}, 1250, id="overhead"),
        pytest.param(
            {"containers": [container("1")], "resources": {"requests": {"cpu": "3"}}}, 3000, id="pod-level-wins"
        ),
        pytest.param({"containers": [container("0.0001")]}, 1, id="rounded-up"),
    ],
)
def test_cpu(spec: dict[str, Any], cpu: int) -> None:
    assert pod_requests(spec)["cpu"] == cpu


def test_defaults_are_for_scoring_only() -> None:
    spec = {"containers": [container(), container("50m")]}
    assert pod_requests(spec) == {"cpu": 50}
    assert pod_requests(spec, with_defaults=True) == {"cpu": 150, "memory": 2 * 200 * 2**20}
