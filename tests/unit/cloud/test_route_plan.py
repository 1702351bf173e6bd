"""Routes to the nodes' pods, and the condition that says whether they are there."""

from __future__ import annotations

import pytest

from orchestrator.api.meta import Object
from orchestrator.cloud import route_plan
from orchestrator.cloud.provider import Route
from tests.unit.cloud.objects import node

V4, V6 = Route("10.244.11.0/24", "172.29.0.11"), Route("fd00:10:244:11::/64", "fd00:172:29::11")
ELSEWHERE = Route("10.244.11.0/24", "172.29.0.99")
STALE = Route("10.244.77.0/24", "172.29.0.77")


@pytest.mark.parametrize(
    ("present", "nodes", "delete", "create"),
    [
        pytest.param([], [node()], (), (V4, V6), id="both-families"),
        pytest.param([V4, V6], [node()], (), (), id="all-there"),
        pytest.param([V4, V6, STALE], [node()], (STALE,), (), id="of-a-node-that-went"),
        pytest.param([ELSEWHERE, V6], [node()], (), (V4,), id="leads-elsewhere-and-is-replaced"),
        pytest.param([], [node(pod_cidrs=[])], (), (), id="no-pod-networks-yet"),
        pytest.param([], [node(addresses=[("InternalIP", "172.29.0.11")])], (), (V4,), id="no-address-of-a-family"),
        pytest.param([V4, V6], [], (V4, V6), (), id="no-nodes"),
    ],
)
def test_changes(
    present: list[Route], nodes: list[Object], delete: tuple[Route, ...], create: tuple[Route, ...]
) -> None:
    assert route_plan.changes(present, nodes) == route_plan.Changes(delete, create)


@pytest.mark.parametrize(
    ("seen", "made", "want"),
    [
        pytest.param(node(), [V4, V6], ("False", "RouteCreated"), id="reached"),
        pytest.param(node(), [V4], ("True", "NoRouteCreated"), id="one-family-is-not-enough"),
        pytest.param(node(pod_cidrs=[]), [], None, id="nothing-is-known"),
    ],
)
def test_condition(seen: Object, made: list[Route], want: tuple[str, str] | None) -> None:
    found = route_plan.condition(seen, made)
    assert (None if found is None else (found["status"], found["reason"])) == want
    if found is not None:
        assert not route_plan.says(seen, found)
        said = {**seen, "status": {**seen["status"], "conditions": [found]}}
        assert route_plan.says(said, found)
