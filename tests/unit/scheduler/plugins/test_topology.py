"""Pods beside and apart from other Pods: PodTopologySpread and InterPodAffinity."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.api.meta import Object
from tests.unit.scheduler.world import HOSTNAME, ZONE, World, node, pod

WEB = {"app": "web"}


def zones(*names: str) -> list[Object]:
    """Two nodes in each zone: a1, a2, b1, …"""
    return [node(f"{zone}{index}", zone=zone) for zone in names for index in (1, 2)]


def spread(max_skew: int = 1, key: str = ZONE, **more: Any) -> dict[str, Any]:
    constraint = {
        "maxSkew": max_skew,
        "topologyKey": key,
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": WEB},
    }
    return {"topologySpreadConstraints": [constraint | more]}


def web(name: str, on: str, **more: Any) -> Object:
    return pod(name, on=on, labels=WEB, **more)


@pytest.mark.parametrize(
    ("running", "spec", "feasible"),
    [
        pytest.param([], spread(), ["a1", "a2", "b1", "b2"], id="first"),
        pytest.param([web("1", "a1")], spread(), ["b1", "b2"], id="the-other-zone"),
        pytest.param([web("1", "a1")], spread(2), ["a1", "a2", "b1", "b2"], id="within-the-skew"),
        pytest.param([web("1", "a1")], spread(key=HOSTNAME), ["a2", "b1", "b2"], id="by-host"),
        pytest.param([web("1", "a1"), web("2", "b2")], spread(), ["a1", "a2", "b1", "b2"], id="even-again"),
        pytest.param(
            [pod("1", on="a1", labels=WEB, namespace="other")], spread(), ["a1", "a2", "b1", "b2"], id="other-ns"
        ),
        pytest.param([web("1", "a1")], spread() | {"nodeSelector": {ZONE: "a"}}, ["a1", "a2"], id="zones-it-may-use"),
        pytest.param(
            [web("1", "a1")],
            spread(nodeAffinityPolicy="Ignore") | {"nodeSelector": {ZONE: "a"}},
            [],
            id="all-zones-by-policy",
        ),
        pytest.param([web("1", "a1"), web("2", "b1")], spread(minDomains=3), [], id="fewer-domains-than-wanted"),
    ],
)
def test_hard_spread(running: list[Object], spec: dict[str, Any], feasible: list[str]) -> None:
    world = World(*zones("a", "b"), *running)
    assert world.feasible(pod("p", labels=WEB, **spec)) == feasible


def test_a_node_without_the_key_is_refused() -> None:
    world = World(*zones("a"), node("bare"), web("1", "a1"), web("2", "a2"))
    assert world.place(pod("p", labels=WEB, **spread(nodeSelector=None), nodeSelector={HOSTNAME: "bare"})) == (
        "0/3 nodes are available: 1 node(s) didn't match pod topology spread constraints (missing required label), "
        "2 node(s) didn't match Pod's node affinity/selector."
    )


def test_terminating_pods_do_not_count() -> None:
    leaving = web("1", "a1")
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert len(World(*zones("a", "b"), leaving).feasible(pod("p", labels=WEB, **spread()))) == 4


def test_match_label_keys_compare_revisions() -> None:
    old = pod("1", on="a1", labels=WEB | {"pod-template-hash": "old"})
    wanted = pod("p", labels=WEB | {"pod-template-hash": "new"}, **spread(matchLabelKeys=["pod-template-hash"]))
    assert len(World(*zones("a", "b"), old).feasible(wanted)) == 4


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), st.integers(2, 4), st.integers(1, 24))
def test_the_skew_is_never_exceeded(max_skew: int, zone_count: int, count: int) -> None:
    world = World(*zones(*"abcd"[:zone_count]))
    placed = [world.assume(pod(f"p{index}", labels=WEB, **spread(max_skew)))[0] for index in range(count)]
    per_zone = [placed.count(zone) for zone in "abcd"[:zone_count]]
    assert max(per_zone) - min(per_zone) <= max_skew


def test_soft_spread_prefers_the_emptier_domain() -> None:
    world = World(*zones("a", "b"), web("1", "a1"), web("2", "a2"), web("3", "b1"))
    soft = spread(whenUnsatisfiable="ScheduleAnyway")
    assert world.scores(pod("p", labels=WEB, **soft), "PodTopologySpread") == {"a1": 33, "a2": 33, "b1": 100, "b2": 100}


def test_pods_of_one_service_spread_by_default() -> None:
    world = World(*zones("a", "b"))
    service = {"metadata": {"name": "web", "namespace": "default"}, "spec": {"selector": WEB}}
    world.listers.services.put("default/web", service)
    for index in range(4):
        world.assume(pod(f"p{index}", labels=WEB))
    assert all(len(pods) == 1 for row, pods in enumerate(world.snapshot.pods_on) if world.snapshot.alive[row])


def affinity(kind: str, *terms: dict[str, Any], preferred: int = 0) -> dict[str, Any]:
    if preferred:
        weighted = [{"weight": preferred, "podAffinityTerm": term} for term in terms]
        return {"affinity": {kind: {"preferredDuringSchedulingIgnoredDuringExecution": weighted}}}
    return {"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": list(terms)}}}


def near(labels: dict[str, str] = WEB, key: str = ZONE, **more: Any) -> dict[str, Any]:
    return {"topologyKey": key, "labelSelector": {"matchLabels": labels}, **more}


AWAY = affinity("podAntiAffinity", near())


@pytest.mark.parametrize(
    ("running", "labels", "spec", "feasible"),
    [
        pytest.param([web("1", "a1")], {}, affinity("podAffinity", near()), ["a1", "a2"], id="near"),
        pytest.param([web("1", "a1")], {}, affinity("podAffinity", near(key=HOSTNAME)), ["a1"], id="same-host"),
        pytest.param([], {}, affinity("podAffinity", near()), [], id="near-nobody"),
        pytest.param([], WEB, affinity("podAffinity", near()), ["a1", "a2", "b1", "b2"], id="first-of-its-kind"),
        pytest.param(
            [web("1", "a1"), pod("2", on="b1", labels={"app": "db"})],
            {},
            affinity("podAffinity", near(), near({"app": "db"})),
            [],
            id="all-terms-in-one-pod",
        ),
        pytest.param([web("1", "a1")], {}, AWAY, ["b1", "b2"], id="away"),
        pytest.param([web("1", "a1", **AWAY)], WEB, {}, ["b1", "b2"], id="kept-away-by-who-is-there"),
        pytest.param([web("1", "a1", **AWAY)], {"app": "db"}, {}, ["a1", "a2", "b1", "b2"], id="not-meant"),
        pytest.param(
            [pod("1", on="a1", labels=WEB, namespace="other")],
            {},
            AWAY,
            ["a1", "a2", "b1", "b2"],
            id="own-namespace-only",
        ),
        pytest.param(
            [pod("1", on="a1", labels=WEB, namespace="other")],
            {},
            affinity("podAntiAffinity", near(namespaces=["other"])),
            ["b1", "b2"],
            id="named-namespace",
        ),
        pytest.param(
            [pod("1", on="a1", labels=WEB, namespace="other")],
            {},
            affinity("podAntiAffinity", near(namespaceSelector={"matchLabels": {"team": "x"}})),
            ["b1", "b2"],
            id="selected-namespace",
        ),
    ],
)
def test_required_pod_affinity(
    running: list[Object], labels: dict[str, str], spec: dict[str, Any], feasible: list[str]
) -> None:
    world = World(*zones("a", "b"), *running)
    world.listers.namespaces.put("other", {"metadata": {"name": "other", "labels": {"team": "x"}}})
    assert world.feasible(pod("p", labels=labels, **spec)) == feasible


def test_messages_of_affinity() -> None:
    world = World(*zones("a", "b"), web("1", "a1"), pod("2", on="b1", labels={"app": "x"}, **AWAY))
    assert world.place(pod("p", labels=WEB, **AWAY)) == (
        "0/4 nodes are available: 2 node(s) didn't match pod anti-affinity rules, "
        "2 node(s) didn't satisfy existing pods anti-affinity rules."
    )
    assert world.place(pod("q", **affinity("podAffinity", near({"app": "none"})))) == (
        "0/4 nodes are available: 4 node(s) didn't match pod affinity rules."
    )


def test_preferred_affinity_pulls_and_pushes() -> None:
    world = World(*zones("a", "b"), web("1", "a1"))
    pulled = world.scores(pod("p", **affinity("podAffinity", near(), preferred=10)), "InterPodAffinity")
    pushed = world.scores(pod("p", **affinity("podAntiAffinity", near(), preferred=10)), "InterPodAffinity")
    assert pulled == {"a1": 100, "a2": 100, "b1": 0, "b2": 0}
    assert pushed == {"a1": 0, "a2": 0, "b1": 100, "b2": 100}


def test_affinity_of_pods_that_are_there_pulls_too() -> None:
    fond = pod("1", on="a1", **affinity("podAffinity", near(), preferred=10))
    assert World(*zones("a", "b"), fond).scores(pod("p", labels=WEB), "InterPodAffinity") == {
        "a1": 100,
        "a2": 100,
        "b1": 0,
        "b2": 0,
    }
