from __future__ import annotations

import pytest

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.controllers.replicaset import BURST_MAX, Observed, Plan, next_status, plan
from tests.unit.controllers.objects import NOW, pod


def names(planned: Plan) -> list[str]:
    return [meta.name(each) for each in planned.delete]


@pytest.mark.parametrize(
    ("wanted", "active", "create", "delete"),
    [
        pytest.param(2, [pod("a")], 1, [], id="one-is-missing"),
        pytest.param(1, [pod("a")], 0, [], id="enough"),
        pytest.param(2000, [], BURST_MAX, [], id="not-all-at-once"),
        pytest.param(1, [pod("a"), pod("b", node="")], 0, ["b"], id="unassigned-goes-first"),
        pytest.param(1, [pod("a"), pod("b", phase="Pending")], 0, ["b"], id="pending-goes-before-running"),
        pytest.param(1, [pod("a"), pod("b", ready=False)], 0, ["b"], id="not-ready-goes-before-ready"),
        pytest.param(1, [pod("a", ready_for_s=9), pod("b", ready_for_s=900)], 0, ["a"], id="lately-ready-goes-first"),
        pytest.param(1, [pod("a", age_s=5), pod("b", age_s=5000)], 0, ["a"], id="young-goes-first"),
        pytest.param(0, [pod("b"), pod("a")], 0, ["a", "b"], id="all-the-same-by-uid"),
    ],
)
def test_plan(wanted: int, active: list[Object], create: int, delete: list[str]) -> None:
    planned = plan(Observed(wanted, tuple(active), {}, NOW))
    assert (planned.create, names(planned)) == (create, delete)


def test_a_cheap_pod_goes_before_one_on_a_crowded_node_and_that_before_others() -> None:
    cheap, crowded, alone = pod("c"), pod("b", node="n2"), pod("a")
    cheap["metadata"]["annotations"] = {"controller.kubernetes.io/pod-deletion-cost": "-5"}
    planned = plan(Observed(0, (alone, crowded, cheap), {"n1": 1, "n2": 4}, NOW))
    assert names(planned) == ["c", "b", "a"]


def owner(**spec: object) -> Object:
    return {
        "kind": "ReplicaSet",
        "metadata": {"name": "web", "generation": 3},
        "spec": {"template": {"metadata": {"labels": {"app": "web"}}}, **spec},
    }


def test_the_status_counts_what_was_seen() -> None:
    active = [pod("a", ready_for_s=5), pod("b", ready_for_s=50), pod("c", ready=False, labels={"x": "y"})]
    assert next_status(owner(minReadySeconds=10), active, 0, "", "", NOW) == {
        "replicas": 3,
        "fullyLabeledReplicas": 2,
        "readyReplicas": 2,
        "availableReplicas": 1,
        "observedGeneration": 3,
    }


def test_a_failure_is_a_condition_until_it_is_over() -> None:
    failing = next_status(owner(), [], 0, "quota exceeded", "FailedCreate", NOW)
    (condition,) = failing["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == ("ReplicaFailure", "True", "FailedCreate")
    later = next_status({**owner(), "status": failing}, [], 0, "quota exceeded", "FailedCreate", NOW + 60)
    assert later == failing
    assert "conditions" not in next_status({**owner(), "status": failing}, [], 0, "", "", NOW)
