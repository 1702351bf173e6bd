from __future__ import annotations

from typing import Any

import pytest

from infra import status
from infra.readiness import is_ready, why_not_ready

NOW = 1_767_225_600.5  # 2026-01-01T00:00:00.5Z


def node(
    name: str, ready: str, message: str = "", heartbeat: str = "2026-01-01T00:00:00Z", taint: str = ""
) -> dict[str, Any]:
    condition = {"type": "Ready", "status": ready, "message": message, "lastHeartbeatTime": heartbeat}
    spec = {"taints": [{"key": taint, "effect": "NoSchedule"}]} if taint else {}
    return {"metadata": {"name": name}, "spec": spec, "status": {"conditions": [condition]}}


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        pytest.param([node("a", "True"), node("b", "True")], "", id="all-are-ready"),
        pytest.param([node("a", "True")], "b has not registered", id="one-is-missing"),
        pytest.param([node("a", "True"), node("b", "False", "no net")], "b is not Ready: no net", id="one-says-why"),
        pytest.param(
            [node("a", "True", heartbeat="2025-12-31T23:59:59Z"), node("b", "True")],
            "a was Ready, but its kubelet has not reported since it was started again",
            id="one-said-so-before-it-was-started-again",
        ),
        pytest.param(
            [node("a", "True", taint="node-role.kubernetes.io/control-plane"), node("b", "True")],
            "",
            id="a-role-taints",
        ),
        pytest.param(
            [node("a", "True", taint="node.cloudprovider.kubernetes.io/uninitialized"), node("b", "True")],
            "a is Ready, but waits for the cloud controller (taint node.cloudprovider.kubernetes.io/uninitialized)",
            id="one-waits-for-the-cloud",
        ),
        pytest.param(
            [{"metadata": {"name": "a"}}],
            "a is not Ready: no Ready condition yet; b has not registered",
            id="none-has-reported",
        ),
    ],
)  # fmt: skip
def test_what_is_missing_is_named(nodes: list[dict[str, Any]], said: str) -> None:
    assert why_not_ready(nodes, {"a": NOW, "b": NOW}) == said


def test_a_node_without_a_status_is_not_ready() -> None:
    assert not is_ready({"metadata": {"name": "a"}})


@pytest.mark.parametrize(
    ("seen", "state"),
    [({"pid": 7, "wanted": True}, "running"), ({"pid": 0, "wanted": True}, "restarting"),
     ({"pid": 0, "wanted": False}, "stopped")],
)  # fmt: skip
def test_state_of_what_is_supervised(seen: dict[str, Any], state: str) -> None:
    assert status.state(seen) == state


def test_a_control_plane_is_ready_before_there_is_a_cloud_controller() -> None:
    waiting = node("a", "True", taint="node.cloudprovider.kubernetes.io/uninitialized")
    assert why_not_ready([waiting], {"a": NOW}, has_cloud=False) == ""
