"""Decisions and messages, in kube-scheduler's words."""

from __future__ import annotations

import pytest

from orchestrator.api.meta import Object
from orchestrator.scheduler.configuration import ConfigurationError, load, parse
from orchestrator.scheduler.framework import Chosen
from tests.unit.scheduler.world import World, node, pod


def named(*names: str) -> Object:
    """An affinity to nodes by name; of several names all at once."""
    fields = [{"key": "metadata.name", "operator": "In", "values": [name]} for name in names]
    required = {"nodeSelectorTerms": [{"matchFields": fields}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}


@pytest.mark.parametrize(
    ("nodes", "wanted", "message"),
    [
        pytest.param([], pod("p"), "no nodes available to schedule pods", id="no-nodes"),
        pytest.param(
            [node("a", cpu="1"), node("b", cpu="1", memory="1Gi"), node("c", unschedulable=True)],
            pod("p", {"cpu": "2", "memory": "2Gi"}),
            "0/3 nodes are available: 1 Insufficient memory, 1 node(s) were unschedulable, 2 Insufficient cpu.",
            id="every-short-resource-counts",
        ),
        pytest.param(
            [node("a", taints=[{"key": "k", "value": "v", "effect": "NoSchedule"}]), node("b", labels={"disk": "hdd"})],
            pod("p", nodeSelector={"disk": "ssd"}),
            "0/2 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, "
            "1 node(s) had untolerated taint(s).",
            id="the-first-refusal-counts",
        ),
        pytest.param([node("a", pods="0")], pod("p"), "0/1 nodes are available: 1 Too many pods.", id="too-many-pods"),
        pytest.param(
            [node("a", cpu="1"), node("b", taints=[{"key": "k", "effect": "NoSchedule"}]), node("c")],
            pod("p", {"cpu": "2"}, affinity=named("a")),
            "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) didn't satisfy plugin(s) [NodeAffinity].",
            id="of-nodes-it-does-not-name-no-more-is-said",
        ),
        pytest.param(
            [node("a")],
            pod("p", affinity=named("a", "b")),
            "0/1 nodes are available: pod affinity terms conflict.",
            id="names-that-exclude-each-other",
        ),
        pytest.param(
            [node("a")],
            pod("p", {"example.com/gpu": "1"}),
            "0/1 nodes are available: 1 Insufficient example.com/gpu.",
            id="extended-resource",
        ),
        pytest.param(
            [node("a")],
            pod("p", volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]),
            '0/1 nodes are available: persistentvolumeclaim "data" not found.',
            id="refused-as-such",
        ),
    ],
)
def test_messages(nodes: list[Object], wanted: Object, message: str) -> None:
    assert World(*nodes).place(wanted) == message


def test_equals_are_drawn_by_the_seed() -> None:
    def order(seed: int) -> list[str]:
        world = World(*(node(f"n{index}") for index in range(8)), seed=seed)
        return [world.place(pod("p")) for _ in range(20)]

    assert order(1) == order(1)
    assert order(1) != order(2)
    assert len(set(order(1))) > 3


def test_nominated_pods_keep_their_place() -> None:
    world = World(node("a", cpu="1"))
    coming = world.parse(pod("coming", {"cpu": "800m"}, priority=10)).nominated_to("a")
    assert isinstance(world.decide(pod("p", {"cpu": "500m"})), Chosen)
    refused = world.decide(pod("p", {"cpu": "500m"}), (coming,))
    assert str(refused) == "0/1 nodes are available: 1 Insufficient cpu."
    assert "default/coming" not in world.snapshot.pods


def test_the_nominated_node_is_taken_where_it_fits() -> None:
    world = World(node("a", cpu="1"), node("b", cpu="64"))
    assert world.place(pod("p", {"cpu": "900m"}, status={"nominatedNodeName": "a"})) == "a"


HEADER = {"apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration"}


def test_profiles_choose_plugins_and_weights() -> None:
    config = parse(
        HEADER
        | {
            "podMaxBackoffSeconds": 3,
            "profiles": [
                {"schedulerName": "default-scheduler"},
                {
                    "schedulerName": "packer",
                    "plugins": {
                        "multiPoint": {"disabled": [{"name": "ImageLocality"}]},
                        "score": {
                            "disabled": [{"name": "PodTopologySpread"}],
                            "enabled": [{"name": "NodeResourcesFit", "weight": 5}],
                        },
                        "filter": {"disabled": [{"name": "TaintToleration"}]},
                    },
                    "pluginConfig": [
                        {"name": "NodeResourcesFit", "args": {"scoringStrategy": {"type": "MostAllocated"}}}
                    ],
                },
            ],
        }
    )
    assert config.backoff_max_s == 3
    packer = config.profiles[1]
    assert "ImageLocality" not in dict(packer.weights)
    assert dict(packer.weights)["NodeResourcesFit"] == 5
    assert packer.without == {("score", "PodTopologySpread"), ("filter", "TaintToleration")}
    tainted = node("a", taints=[{"key": "k", "effect": "NoSchedule"}])
    world = World(tainted, node("b"), pod("there", {"cpu": "3"}, on="b"), profile=packer)
    assert world.place(pod("p", {"cpu": "500m"})) == "b"  # packs
    assert world.feasible(pod("p")) == ["a", "b"]  # and does not look at taints


@pytest.mark.parametrize(
    ("config", "field"),
    [
        pytest.param({}, "apiVersion", id="no-version"),
        pytest.param(
            HEADER | {"profiles": [{"plugins": {"filter": {"enabled": [{"name": "Nope"}]}}}]},
            "profiles[0].plugins.filter.enabled",
            id="unknown-plugin",
        ),
        pytest.param(HEADER | {"profiles": [{"plugins": {"filtre": {}}}]}, "filtre", id="unknown-point"),
        pytest.param(HEADER | {"profiles": [{}, {}]}, "unique", id="two-profiles-of-one-name"),
    ],
)
def test_errors_name_the_field(config: Object, field: str) -> None:
    with pytest.raises(ConfigurationError, match=field.replace("[", r"\[")):
        parse(config)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigurationError, match="/nowhere"):
        load("/nowhere")
