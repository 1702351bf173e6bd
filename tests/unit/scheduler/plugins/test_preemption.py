"""Who has to go, where, and who is spared."""

from __future__ import annotations

from random import Random
from typing import Any

from orchestrator.api.meta import Object
from orchestrator.scheduler.framework import Diagnosis
from orchestrator.scheduler.plugins.defaultpreemption import DefaultPreemption, Preemption
from tests.unit.scheduler.world import World, node, pod


def preempt(world: World, wanted: Object) -> Preemption | str:
    plugin = world.framework.plugin("DefaultPreemption")
    assert isinstance(plugin, DefaultPreemption)
    diagnosis = world.decide(wanted)
    assert isinstance(diagnosis, Diagnosis)
    before = dict(world.snapshot.pods)
    found = plugin.preempt(world.framework, world.cycle(wanted), diagnosis, (), Random(1))
    assert world.snapshot.pods == before
    return found


def running(name: str, cpu: str, on: str, priority: int = 0, **more: Any) -> Object:
    return pod(name, {"cpu": cpu}, on=on, priority=priority, **more)


def wanted(cpu: str = "2", priority: int = 100, **more: Any) -> Object:
    return pod("wanted", {"cpu": cpu}, priority=priority, **more)


def victims(found: Preemption | str) -> tuple[str, list[str]]:
    assert isinstance(found, Preemption), found
    return found.node_name, [victim.name for victim in found.victims]


def test_only_as_many_as_needed_and_the_least_important() -> None:
    world = World(node("a"), running("low", "1", "a", 1), running("mid", "2", "a", 5), running("high", "1", "a", 50))
    assert victims(preempt(world, wanted("1"))) == ("a", ["low"])
    assert victims(preempt(world, wanted("2"))) == ("a", ["mid"])
    assert victims(preempt(world, wanted("3"))) == ("a", ["mid", "low"])


def test_the_node_where_it_hurts_least() -> None:
    world = World(
        *(node(name, cpu="2") for name in "abc"),
        running("a1", "2", "a", 50),
        running("b1", "1", "b", 10),
        running("b2", "1", "b", 10),
        running("c1", "2", "c", 10),
    )
    assert victims(preempt(world, wanted())) == ("c", ["c1"])


def test_of_equals_the_one_that_started_last() -> None:
    world = World(
        node("a", cpu="2"),
        node("b", cpu="2"),
        running("old", "2", "a", status={"startTime": "2026-01-01T00:00:00Z"}),
        running("young", "2", "b", status={"startTime": "2026-01-02T00:00:00Z"}),
    )
    assert victims(preempt(world, wanted())) == ("b", ["young"])


def test_disruption_budgets_are_spared_where_possible() -> None:
    world = World(
        node("a", cpu="2"),
        node("b", cpu="2"),
        running("kept", "2", "a", 1, labels={"app": "db"}),
        running("free", "2", "b", 50),
    )
    budget = {
        "metadata": {"name": "db", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "db"}}},
        "status": {"disruptionsAllowed": 0},
    }
    world.listers.budgets.put("default/db", budget)
    assert victims(preempt(world, wanted())) == ("b", ["free"])


def test_nobody_less_important() -> None:
    world = World(
        node("a", cpu="2"),
        node("b", cpu="1"),
        node("c", cpu="2", taints=[{"key": "k", "effect": "NoSchedule"}]),
        running("equal", "2", "a", 100),
    )
    assert preempt(world, wanted()) == (
        "0/3 nodes are available: 1 No preemption victims found for incoming pod, "
        "2 Preemption is not helpful for scheduling."
    )


def test_preemption_policy_never() -> None:
    world = World(node("a", cpu="2"), running("low", "2", "a"))
    assert preempt(world, wanted(preemptionPolicy="Never")) == "not eligible due to preemptionPolicy=Never."


def test_victims_on_their_way_out_are_waited_for() -> None:
    leaving = running("low", "2", "a")
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    world = World(node("a", cpu="2"), leaving)
    found = preempt(world, wanted(status={"nominatedNodeName": "a"}))
    assert found == "not eligible due to a terminating pod on the nominated node."


def test_anti_affinity_and_ports_can_be_resolved_too() -> None:
    away = {
        "podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [
                {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "x"}}}
            ]
        }
    }
    world = World(node("a"), running("x", "1", "a", labels={"app": "x"}), running("y", "1", "a"))
    assert victims(preempt(world, wanted("1", affinity=away))) == ("a", ["x"])
    world = World(node("a"), running("x", "1", "a", ports=[{"hostPort": 80}]), running("y", "1", "a"))
    assert victims(preempt(world, wanted("1", ports=[{"hostPort": 80}]))) == ("a", ["x"])
