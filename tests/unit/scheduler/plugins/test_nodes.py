"""Plugins that look at nodes: names, cordons, taints, affinity, ports, images."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.scheduler.changes import Change, ChangeKind
from orchestrator.scheduler.configuration import Profile
from orchestrator.scheduler.node import parse_node
from tests.unit.scheduler.world import World, node, pod

DEDICATED = {"key": "dedicated", "value": "db", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("tolerations", "feasible"),
    [
        pytest.param([], ["plain", "soft"], id="none"),
        pytest.param([{"key": "dedicated", "value": "db"}], ["plain", "soft", "tainted"], id="equal"),
        pytest.param([{"key": "dedicated", "value": "web"}], ["plain", "soft"], id="another-value"),
        pytest.param([{"key": "dedicated", "operator": "Exists"}], ["plain", "soft", "tainted"], id="exists"),
        pytest.param(
            [{"key": "dedicated", "operator": "Exists", "effect": "NoExecute"}], ["plain", "soft"], id="another-effect"
        ),
        pytest.param([{"operator": "Exists"}], ["cordoned", "plain", "soft", "tainted"], id="everything"),
    ],
)
def test_taints_and_cordons(tolerations: list[dict[str, str]], feasible: list[str]) -> None:
    cordon = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
    world = World(
        node("plain"),
        node("tainted", taints=[DEDICATED]),
        node("soft", taints=[DEDICATED | {"effect": "PreferNoSchedule"}]),
        node("cordoned", taints=[cordon], unschedulable=True),
    )
    assert world.feasible(pod("p", tolerations=tolerations)) == feasible


def test_soft_taints_make_a_node_less_welcome() -> None:
    soft = DEDICATED | {"effect": "PreferNoSchedule"}
    world = World(node("a"), node("b", taints=[soft]), node("c", taints=[soft, soft | {"key": "other"}]))
    assert world.scores(pod("p"), "TaintToleration") == {"a": 100, "b": 50, "c": 0}
    assert world.place(pod("p")) == "a"


def term(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"key": key, "operator": operator, **({"values": list(values)} if values else {})}


def required(*terms: dict[str, Any]) -> dict[str, Any]:
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}}


@pytest.mark.parametrize(
    ("spec", "feasible"),
    [
        pytest.param({"nodeSelector": {"disk": "ssd"}}, ["b"], id="selector"),
        pytest.param(
            {"affinity": required({"matchExpressions": [term("disk", "In", "ssd", "hdd")]})}, ["a", "b"], id="in"
        ),
        pytest.param(
            {"affinity": required({"matchExpressions": [term("disk", "NotIn", "ssd")]})}, ["a", "c"], id="not-in"
        ),
        pytest.param({"affinity": required({"matchExpressions": [term("disk", "DoesNotExist")]})}, ["c"], id="absent"),
        pytest.param({"affinity": required({"matchExpressions": [term("cores", "Gt", "8")]})}, ["b"], id="greater"),
        pytest.param({"affinity": required({"matchExpressions": [term("cores", "Lt", "9")]})}, ["a"], id="less"),
        pytest.param(
            {
                "affinity": required(
                    {"matchExpressions": [term("disk", "In", "hdd")]}, {"matchExpressions": [term("cores", "Gt", "9")]}
                )
            },
            ["a", "b"],
            id="terms-are-alternatives",
        ),
        pytest.param(
            {"nodeSelector": {"disk": "hdd"}, "affinity": required({"matchExpressions": [term("cores", "Gt", "9")]})},
            [],
            id="selector-and-affinity-both",
        ),
        pytest.param({"affinity": required({"matchFields": [term("metadata.name", "In", "c")]})}, ["c"], id="by-name"),
        pytest.param({"affinity": required({})}, [], id="empty-term-matches-nothing"),
    ],
)
def test_node_affinity(spec: dict[str, Any], feasible: list[str]) -> None:
    world = World(
        node("a", labels={"disk": "hdd", "cores": "8"}), node("b", labels={"disk": "ssd", "cores": "16"}), node("c")
    )
    assert world.feasible(pod("p", **spec)) == feasible


def test_preferred_affinity_adds_weights() -> None:
    preferred = [
        {"weight": 30, "preference": {"matchExpressions": [term("disk", "In", "ssd")]}},
        {"weight": 10, "preference": {"matchExpressions": [term("zone", "Exists")]}},
    ]
    affinity = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}
    world = World(node("a", labels={"disk": "ssd", "zone": "x"}), node("b", labels={"zone": "x"}), node("c"))
    assert world.scores(pod("p", affinity=affinity), "NodeAffinity") == {"a": 100, "b": 25, "c": 0}


def test_an_affinity_of_the_profile_counts_for_every_pod() -> None:
    added = {"addedAffinity": required({"matchExpressions": [term("pool", "In", "x")]})["nodeAffinity"]}
    world = World(node("a"), node("b", labels={"pool": "x"}), profile=Profile(args={"NodeAffinity": added}))
    assert world.feasible(pod("p")) == ["b"]
    assert world.place(pod("p", nodeSelector={"pool": "y"})) == (
        "0/2 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, "
        "1 node(s) didn't match scheduler-enforced node affinity."
    )


@pytest.mark.parametrize(
    ("port", "feasible"),
    [
        pytest.param({"hostPort": 80}, ["b"], id="taken"),
        pytest.param({"hostPort": 80, "protocol": "UDP"}, ["a", "b"], id="another-protocol"),
        pytest.param({"hostPort": 81}, ["a", "b"], id="another-port"),
        pytest.param({"hostPort": 443, "hostIP": "10.0.0.2"}, ["a", "b"], id="another-address"),
        pytest.param({"hostPort": 443, "hostIP": "10.0.0.1"}, ["b"], id="same-address"),
        pytest.param({"hostPort": 443}, ["b"], id="every-address"),
        pytest.param({"containerPort": 80}, ["a", "b"], id="no-host-port"),
    ],
)
def test_host_ports(port: dict[str, Any], feasible: list[str]) -> None:
    taken = [{"hostPort": 80}, {"hostPort": 443, "hostIP": "10.0.0.1"}]
    world = World(node("a"), node("b"), pod("there", on="a", ports=taken))
    assert world.feasible(pod("p", ports=[port])) == feasible


def test_images_attract_by_size_and_spread() -> None:
    mib = 2**20
    world = World(
        node("a", images={"big:latest": 1000 * mib}),
        node("b", images={"common:1": 500 * mib}),
        node("c", images={"common:1": 500 * mib}),
        node("d"),
    )
    assert world.scores(pod("p", image="big"), "ImageLocality") == {"a": 23, "b": 0, "c": 0, "d": 0}
    assert world.scores(pod("p", image="common:1"), "ImageLocality") == {"a": 0, "b": 23, "c": 23, "d": 0}
    assert world.scores(pod("p", image="none"), "ImageLocality") is None


def test_hints_look_at_the_node_that_changed() -> None:
    world = World()
    picky = world.parse(pod("p", {"cpu": "2"}, nodeSelector={"disk": "ssd"}))
    small, fitting = (
        parse_node(node("s", cpu="1", labels={"disk": "ssd"})),
        parse_node(node("f", labels={"disk": "ssd"})),
    )

    def helps(plugin: str, change: Change) -> bool:
        return world.framework.helps(change, picky, frozenset((plugin,)))

    assert not helps("NodeResourcesFit", Change(ChangeKind.NODE_ADDED, node=small))
    assert helps("NodeResourcesFit", Change(ChangeKind.NODE_ADDED, node=fitting))
    assert helps("NodeResourcesFit", Change(ChangeKind.NODE_UPDATED, node=fitting, old_node=small))
    assert not helps("NodeResourcesFit", Change(ChangeKind.NODE_UPDATED, node=fitting, old_node=fitting))
    assert helps("NodeAffinity", Change(ChangeKind.NODE_ADDED, node=small))
    assert not helps("NodeAffinity", Change(ChangeKind.NODE_ADDED, node=parse_node(node("n"))))
    assert not helps("TaintToleration", Change(ChangeKind.NODE_ADDED, node=parse_node(node("t", taints=[DEDICATED]))))
    assert helps("NodeResourcesFit", Change(ChangeKind.POD_DELETED, pod=world.parse(pod("gone"))))
