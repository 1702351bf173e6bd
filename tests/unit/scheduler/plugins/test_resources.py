"""What fits, and how nodes are scored by what is used."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.scheduler.configuration import Profile
from tests.unit.scheduler.world import World, node, pod

ASKED = {"cpu": "1", "memory": "1Gi"}


def fitted(strategy: dict[str, Any]) -> Profile:
    return Profile(args={"NodeResourcesFit": {"scoringStrategy": strategy}})


@pytest.mark.parametrize(
    ("strategy", "scores"),
    [
        # a: 1 of 4 cores and 1 of 8 GiB would be used; b: 3 of 4 and 5 of 8
        pytest.param({}, {"a": (75 + 87) // 2, "b": (25 + 37) // 2}, id="least-allocated"),
        pytest.param({"type": "MostAllocated"}, {"a": (25 + 12) // 2, "b": (75 + 62) // 2}, id="most-allocated"),
        pytest.param(
            {"type": "LeastAllocated", "resources": [{"name": "cpu", "weight": 3}, {"name": "memory", "weight": 1}]},
            {"a": (3 * 75 + 87) // 4, "b": (3 * 25 + 37) // 4},
            id="weights",
        ),
        pytest.param(
            {
                "type": "RequestedToCapacityRatio",
                "requestedToCapacityRatio": {
                    "shape": [{"utilization": 0, "score": 0}, {"utilization": 100, "score": 10}]
                },
                "resources": [{"name": "cpu", "weight": 1}],
            },
            {"a": 25, "b": 75},
            id="shape",
        ),
    ],
)
def test_scoring(strategy: dict[str, Any], scores: dict[str, float]) -> None:
    world = World(node("a"), node("b"), pod("there", {"cpu": "2", "memory": "4Gi"}, on="b"), profile=fitted(strategy))
    assert world.scores(pod("p", ASKED), "NodeResourcesFit") == scores


def test_a_resource_that_only_some_nodes_have_counts_there() -> None:
    gpus = {"resources": [{"name": "cpu", "weight": 1}, {"name": "example.com/gpu", "weight": 1}]}
    world = World(node("a", more={"example.com/gpu": "4"}), node("b"), profile=fitted(gpus))
    wanted = pod("p", {"cpu": "1", "example.com/gpu": "1"})
    assert world.feasible(wanted) == ["a"]
    assert (world.scores(wanted, "NodeResourcesFit") or {})["a"] == 75
    assert world.scores(pod("p", {"cpu": "1"}), "NodeResourcesFit") == {"a": 75, "b": 75}


def test_balance() -> None:
    world = World(node("a"), node("b"), pod("there", {"memory": "4Gi"}, on="b"))
    # a: 1/4 and 1/8, b: 1/4 and 5/8
    assert world.scores(pod("p", ASKED), "NodeResourcesBalancedAllocation") == {"a": 93, "b": 81}
    assert world.scores(pod("p"), "NodeResourcesBalancedAllocation") is None


def test_containers_that_ask_nothing_still_spread() -> None:
    world = World(node("a"), node("b"))
    placed = [world.assume(pod(f"p{index}")) for index in range(6)]
    assert sorted(placed) == ["a"] * 3 + ["b"] * 3


def test_a_request_beyond_the_node_is_hopeless() -> None:
    world = World(node("a"), node("b"), pod("there", {"cpu": "3"}, on="a"))
    diagnosis = world.framework.explain(world.cycle(pod("p", {"cpu": "2"})))
    assert diagnosis.resolvable(world.snapshot)[world.snapshot.row_of["a"]]
    diagnosis = world.framework.explain(world.cycle(pod("p", {"cpu": "5"})))
    assert not diagnosis.resolvable(world.snapshot).any()


def test_ignored_resources() -> None:
    args = {"NodeResourcesFit": {"ignoredResourceGroups": ["example.com"]}}
    world = World(node("a"), profile=Profile(args=args))
    assert world.place(pod("p", {"example.com/thing": "1"})) == "a"
