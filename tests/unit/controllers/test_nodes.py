from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from orchestrator.api.meta import Object, format_time
from orchestrator.controllers import node_health, podgc
from orchestrator.controllers.nodeipam import allocate
from orchestrator.controllers.tainteviction import evict_at
from tests.unit.controllers.objects import NOW, node, pod

EXECUTE = {"key": "k", "effect": "NoExecute", "timeAdded": format_time(NOW - 10)}


def taints(found: Object, *, may_evict: bool = True) -> list[tuple[str, str]]:
    return [(taint["key"], taint["effect"]) for taint in node_health.wanted_taints(found, NOW, may_evict=may_evict)]


NOT_READY, UNREACHABLE = "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"
OTHERS = [{"key": "gpu", "effect": "NoSchedule"}]


@pytest.mark.parametrize(
    ("seen", "may_evict", "want"),
    [
        pytest.param(node(), True, [], id="healthy"),
        pytest.param(node(ready="False"), True, [(NOT_READY, "NoSchedule"), (NOT_READY, "NoExecute")], id="not-ready"),
        pytest.param(node(ready="Unknown"), False, [(UNREACHABLE, "NoSchedule")], id="all-nodes-lost-evicts-nothing"),
        pytest.param(node(unschedulable=True), True, [("node.kubernetes.io/unschedulable", "NoSchedule")], id="cordon"),
        pytest.param(
            node(taints=[*OTHERS, {"key": NOT_READY, "effect": "NoExecute"}]),
            True,
            [("gpu", "NoSchedule")],
            id="ours-go-others-stay",
        ),
    ],
)
def test_taints_follow_conditions(seen: Object, may_evict: bool, want: list[tuple[str, str]]) -> None:
    assert taints(seen, may_evict=may_evict) == want


def test_a_silent_node_is_unknown_in_all_its_conditions() -> None:
    found = node_health.lost_conditions(node(), NOW)
    assert [(each["type"], each["status"], each["reason"]) for each in found] == [
        ("Ready", "Unknown", "NodeStatusUnknown"),
        ("MemoryPressure", "Unknown", "NodeStatusNeverUpdated"),
        ("DiskPressure", "Unknown", "NodeStatusNeverUpdated"),
        ("PIDPressure", "Unknown", "NodeStatusNeverUpdated"),
    ]
    lost = {**node(), "status": {"conditions": found}}
    assert node_health.lost_conditions(lost, NOW + 60) == found


@pytest.mark.parametrize(
    ("node_taints", "tolerations", "want"),
    [
        pytest.param([], [], None, id="no-taints"),
        pytest.param([EXECUTE], [], NOW, id="not-tolerated"),
        pytest.param([{**EXECUTE, "effect": "NoSchedule"}], [], None, id="only-scheduling"),
        pytest.param([EXECUTE], [{"operator": "Exists"}], None, id="tolerates-all-for-ever"),
        pytest.param(
            [EXECUTE], [{"key": "k", "operator": "Exists", "tolerationSeconds": 30}], NOW + 20, id="for-a-while"
        ),
        pytest.param(
            [EXECUTE],
            [
                {"operator": "Exists", "tolerationSeconds": 60},
                {"key": "k", "operator": "Exists", "tolerationSeconds": 5},
            ],
            NOW - 5,
            id="the-shortest-counts",
        ),
        pytest.param([{**EXECUTE, "value": "v"}], [{"key": "k", "value": "w"}], NOW, id="another-value"),
        pytest.param(
            [{**EXECUTE, "value": "v"}], [{"key": "k", "value": "v", "effect": "NoExecute"}], None, id="equal"
        ),
    ],
)
def test_evict_at(node_taints: list[dict[str, Any]], tolerations: list[dict[str, Any]], want: float | None) -> None:
    assert evict_at(node_taints, tolerations, NOW) == want


def test_ranges_are_the_lowest_free_of_each_family_until_used_up() -> None:
    clusters = [(ipaddress.ip_network("10.244.0.0/22"), 24), (ipaddress.ip_network("fd00:10:244::/56"), 64)]
    nodes: list[Object] = []
    for number in range(4):
        found = allocate(clusters, nodes)
        assert found is not None
        nodes.append(node(f"n{number}", podCIDRs=[str(each) for each in found]))
    assert [each["spec"]["podCIDRs"][0] for each in nodes] == [f"10.244.{number}.0/24" for number in range(4)]
    assert nodes[3]["spec"]["podCIDRs"][1] == "fd00:10:244:3::/64"
    assert allocate(clusters, nodes) is None
    del nodes[1]
    assert [str(each) for each in allocate(clusters, nodes) or []] == ["10.244.1.0/24", "fd00:10:244:1::/64"]


@pytest.mark.parametrize(
    ("seen", "want"),
    [
        pytest.param(pod(), "", id="fine"),
        pytest.param(pod(node="lost"), "orphaned", id="no-such-node"),
        pytest.param(pod(node="", deleting=True), "unscheduled", id="never-bound"),
        pytest.param(pod(node="out", deleting=True), "out-of-service", id="out-of-service"),
        pytest.param(pod(node="out"), "", id="out-of-service-but-not-deleted"),
    ],
)
def test_pod_garbage(seen: Object, want: str) -> None:
    out = node("out", ready="Unknown", taints=[{"key": podgc.OUT_OF_SERVICE, "effect": "NoExecute"}])
    assert podgc.verdict(seen, {"n1": node(), "out": out}, {"lost"}) == want
