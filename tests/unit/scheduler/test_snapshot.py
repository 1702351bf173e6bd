"""The law of the snapshot: what was kept up to date by every change equals what is made anew."""

from __future__ import annotations

from random import Random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.api.selectors import from_labels
from orchestrator.scheduler.configuration import Profile, make_framework
from orchestrator.scheduler.framework import Cycle, Framework
from orchestrator.scheduler.listers import Listers
from orchestrator.scheduler.node import parse_node
from orchestrator.scheduler.pod import Demands, parse_pod
from orchestrator.scheduler.podcounts import Group
from orchestrator.scheduler.snapshot import Snapshot
from tests.unit.scheduler.world import HOSTNAME, ZONE, World, node, pod

GROUP = Group(frozenset(("default",)), (from_labels({"app": "web"}),))
names = st.sampled_from([f"n{index}" for index in range(25)])
changes = st.lists(
    st.one_of(
        st.tuples(st.just("node"), names, st.sampled_from(["a", "b", ""]), st.sampled_from(["2", "4"])),
        st.tuples(st.just("no-node"), names),
        st.tuples(
            st.just("pod"), st.integers(0, 40), names, st.sampled_from(["web", "db"]), st.sampled_from(["100m", "1"])
        ),
        st.tuples(st.just("no-pod"), st.integers(0, 40)),
    ),
    max_size=60,
)


def state(snapshot: Snapshot) -> dict[str, object]:
    """What can be told of each node, whatever its row."""
    counts = snapshot.pod_count(GROUP)
    zones = snapshot.label(ZONE)
    told = {}
    for name, row in snapshot.row_of.items():
        requested = {key: float(snapshot.requested[index, row]) for key, index in snapshot.resource_index.items()}
        free = {key: float(snapshot.free[index, row]) for key, index in snapshot.resource_index.items()}
        zone = zones.values[zones.codes[row]]
        told[name] = (
            {key: value for key, value in requested.items() if value},
            {key: value for key, value in free.items() if value},
            zone,
            float(counts[row]),
            sorted(snapshot.pods_on[row]),
            snapshot.scored[:, row].tolist(),
            len(snapshot.port_rows.get(("TCP", 80), {}).get(row, [])),
        )
    return told


WANTED = (pod("small", {"cpu": "100m"}), pod("large", {"cpu": "1500m", "memory": "1Gi"}, labels={"app": "web"}))


def decided(snapshot: Snapshot, demands: Demands, framework: Framework) -> dict[str, list[tuple[bool, list[float]]]]:
    """For each node whether two Pods fit, and how every plugin scores it."""
    told: dict[str, list[tuple[bool, list[float]]]] = {name: [] for name in snapshot.row_of}
    for obj in WANTED:
        cycle = Cycle(parse_pod(obj, demands), snapshot, Listers())
        feasible = framework.feasible(cycle)
        scores = [plugin.score(cycle, feasible) for plugin in framework.plugins] if feasible.any() else []
        for name, row in snapshot.row_of.items():
            told[name].append((bool(feasible[row]), [float(one[row]) for one in scores if one is not None]))
    return told


@settings(max_examples=150, deadline=None)
@given(changes)
def test_incremental_equals_made_anew(steps: list[tuple[object, ...]]) -> None:
    nodes: dict[str, object] = {}
    pods: dict[str, object] = {}
    kept, demands, framework = Snapshot(), Demands(), make_framework(Profile(), Random(1))
    kept.pod_count(GROUP)
    for step in steps:
        match step:
            case ("node", str(name), str(zone), str(cpu)):
                nodes[name] = parse_node(node(name, cpu, zone=zone))
                kept.put_node(nodes[name])  # type: ignore[arg-type]
            case ("no-node", str(name)):
                nodes.pop(name, None)
                kept.remove_node(name)
            case ("pod", int(index), str(name), str(app), str(cpu)):
                obj = pod(f"p{index}", {"cpu": cpu}, on=name, labels={"app": app}, ports=[{"hostPort": 80}])
                pods[f"p{index}"] = parse_pod(obj, demands)
                kept.put_pod(pods[f"p{index}"])  # type: ignore[arg-type]
            case ("no-pod", int(index)):
                pods.pop(f"p{index}", None)
                kept.remove_pod(f"default/p{index}")
        decided(kept, demands, framework)  # so that answers are kept from step to step
    anew = Snapshot()
    for one in nodes.values():
        anew.put_node(one)  # type: ignore[arg-type]
    for one in pods.values():
        anew.put_pod(one)  # type: ignore[arg-type]
    assert state(kept) == state(anew)
    assert decided(kept, demands, framework) == decided(anew, demands, make_framework(Profile(), Random(1)))
    assert int(np.count_nonzero(kept.alive)) == len(nodes) == kept.node_count
    assert set(kept.pods) == set(anew.pods)


def test_pods_of_an_unknown_node_count_when_it_comes() -> None:
    world = World(pod("p", {"cpu": "3"}, on="late"))
    world.add(node("late", cpu="4"))
    assert "Insufficient cpu" in world.place(pod("q", {"cpu": "2"}))


def test_rows_grow_and_are_used_again() -> None:
    world = World(*(node(f"n{index}") for index in range(100)))
    capacity = world.snapshot.capacity
    for index in range(50):
        world.snapshot.remove_node(f"n{index}")
    for index in range(50):
        world.add(node(f"m{index}"))
    assert world.snapshot.capacity == capacity
    assert (
        world.snapshot.label(HOSTNAME).values[world.snapshot.label(HOSTNAME).codes[world.snapshot.row_of["m7"]]] == "m7"
    )


def test_pods_of_one_template_share_their_demand() -> None:
    world = World()
    one, other = world.parse(pod("a", {"cpu": "1"})), world.parse(pod("b", {"cpu": "1"}))
    assert one.demand is other.demand
    assert world.parse(pod("c", {"cpu": "2"})).demand is not one.demand
