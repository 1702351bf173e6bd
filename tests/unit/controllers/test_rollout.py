"""A Deployment's rollout as a table, and as a law: a small model carries out whatever is planned, until it settles."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.api import conditions, meta
from orchestrator.api.meta import Object, format_time
from orchestrator.controllers import rollout, rollout_status
from orchestrator.controllers.fields import replicas
from orchestrator.controllers.rollout import (
    CreateReplicaSet,
    DeleteReplicaSet,
    Observed,
    ScaleReplicaSet,
    SetRevision,
    UpdateReplicaSet,
    plan,
)
from orchestrator.controllers.template_hash import safe_encoded, template_hash
from tests.unit.controllers.objects import NOW


def template(image: str) -> dict[str, Any]:
    return {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}}


def deployment(image: str = "web:1", wanted: int = 4, **spec: Any) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop", "uid": "d", "generation": 1},
        "spec": {
            "replicas": wanted,
            "selector": {"matchLabels": {"app": "web"}},
            "template": template(image),
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}},
            **spec,
        },
    }


class Cluster:
    """Carries actions out; pods start at once, but become available one by one."""

    def __init__(self, wish: Object) -> None:
        self.wish = wish
        self.sets: dict[str, Object] = {}
        self.age = 0

    def act(self) -> bool:
        actions = plan(Observed(self.wish, tuple(self.sets.values()), self.running()))
        for action in actions:
            match action:
                case CreateReplicaSet(made):
                    self.age += 1
                    made["metadata"] |= {
                        "uid": made["metadata"]["name"],
                        "generation": 1,
                        "creationTimestamp": format_time(NOW + self.age),
                    }
                    made["status"] = {"replicas": 0, "availableReplicas": 0}
                    self.sets[meta.uid(made)] = made
                case ScaleReplicaSet(each, size, annotations):
                    each["spec"]["replicas"] = size
                    each["metadata"]["annotations"].update(annotations)
                case UpdateReplicaSet(each, annotations, min_ready_s):
                    each["metadata"]["annotations"].update(annotations)
                    each["spec"]["minReadySeconds"] = min_ready_s
                case DeleteReplicaSet(each):
                    del self.sets[meta.uid(each)]
                case SetRevision(number):
                    self.wish["metadata"].setdefault("annotations", {})[rollout.REVISION] = number
        return bool(actions)

    def running(self) -> dict[str, int]:
        return {uid: each["status"]["replicas"] for uid, each in self.sets.items()}

    def kubelet(self, broken: str = "") -> bool:
        """One step of the pods: sizes follow the specs; one more pod becomes available."""
        moved = False
        for each in self.sets.values():
            size, seen = replicas(each), each["status"]
            if seen["replicas"] != size:
                seen["replicas"], moved = size, True
            seen["availableReplicas"] = min(seen["availableReplicas"], size)
            each["status"]["observedGeneration"] = 1
        for each in self.sets.values():
            seen = each["status"]
            image = each["spec"]["template"]["spec"]["containers"][0]["image"]
            if seen["availableReplicas"] < seen["replicas"] and image != broken:
                seen["availableReplicas"] += 1
                return True
        return moved

    def settle(self, check: bool = True, broken: str = "") -> None:
        for _ in range(500):
            moved = self.act()
            surge, unavailable = rollout.bounds(self.wish)
            if check:
                total = sum(replicas(each) for each in self.sets.values())
                available = sum(each["status"]["availableReplicas"] for each in self.sets.values())
                assert total <= replicas(self.wish) + surge
                shrinkable = sum(
                    min(replicas(each), each["status"]["availableReplicas"]) for each in self.sets.values()
                )
                assert shrinkable >= min(available, replicas(self.wish) - unavailable)
            if not (self.kubelet(broken) or moved):
                return
        raise AssertionError("does not settle")

    def sizes(self) -> dict[str, int]:
        return {
            each["spec"]["template"]["spec"]["containers"][0]["image"]: replicas(each) for each in self.sets.values()
        }


bounds = st.one_of(st.integers(0, 5), st.integers(0, 100).map(lambda percent: f"{percent}%"))


@given(wanted=st.integers(0, 12), surge=bounds, unavailable=bounds)
@settings(max_examples=150, deadline=None)
def test_a_rolling_update_keeps_its_bounds_and_arrives(wanted: int, surge: Any, unavailable: Any) -> None:
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}
    cluster = Cluster(deployment(wanted=wanted, strategy=rolling))
    cluster.settle()
    assert cluster.sizes() == {"web:1": wanted}
    cluster.wish["spec"]["template"] = template("web:2")
    cluster.settle()
    assert cluster.sizes() == {"web:1": 0, "web:2": wanted}
    assert not cluster.act(), "a plan of a settled state is empty"


def test_a_broken_image_stops_the_rollout_with_most_pods_alive_and_undo_repairs_it() -> None:
    cluster = Cluster(deployment(wanted=4))
    cluster.settle()
    cluster.wish["spec"]["template"] = template("broken")
    cluster.settle(broken="broken")
    assert cluster.sizes() == {"web:1": 3, "broken": 2}
    cluster.wish["spec"]["template"] = template("web:1")
    cluster.settle()
    assert cluster.sizes() == {"web:1": 4, "broken": 0}
    old = next(each for each in cluster.sets.values() if replicas(each) == 4)
    assert meta.annotations(old)[rollout.REVISION] == "3"
    assert meta.annotations(old)[rollout.REVISION_HISTORY] == "1"
    assert meta.annotations(cluster.wish)[rollout.REVISION] == "3"


def test_scaling_in_the_middle_of_a_rollout_is_spread_in_proportion() -> None:
    cluster = Cluster(
        deployment(wanted=10, strategy={"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}})
    )
    cluster.settle()
    cluster.wish["spec"]["template"] = template("web:2")
    cluster.settle(broken="web:2")
    assert cluster.sizes() == {"web:1": 8, "web:2": 5}
    cluster.wish["spec"]["replicas"] = 15
    cluster.act()
    assert cluster.sizes() == {"web:1": 11, "web:2": 7}  # the documentation's own example


def test_recreate_waits_for_the_last_old_pod() -> None:
    cluster = Cluster(deployment(wanted=2, strategy={"type": "Recreate"}))
    cluster.settle()
    cluster.wish["spec"]["template"] = template("web:2")
    cluster.act()
    assert cluster.sizes() == {"web:1": 0}
    cluster.act()
    assert cluster.sizes() == {"web:1": 0}, "two old pods are still running"
    cluster.settle(check=False)
    assert cluster.sizes() == {"web:1": 0, "web:2": 2}


def test_a_paused_deployment_follows_its_size_but_not_its_template() -> None:
    cluster = Cluster(deployment(wanted=2))
    cluster.settle()
    cluster.wish["spec"] |= {"paused": True, "template": template("web:2"), "replicas": 5}
    cluster.settle(check=False)
    assert cluster.sizes() == {"web:1": 5}
    cluster.wish["spec"]["paused"] = False
    cluster.settle()
    assert cluster.sizes() == {"web:1": 0, "web:2": 5}


def test_old_revisions_beyond_the_limit_are_deleted_oldest_first() -> None:
    cluster = Cluster(deployment(wanted=1, revisionHistoryLimit=2))
    for number in range(1, 6):
        cluster.wish["spec"]["template"] = template(f"web:{number}")
        cluster.settle()
    assert cluster.sizes() == {"web:3": 0, "web:4": 0, "web:5": 1}


@pytest.mark.parametrize(
    ("seen", "want"),
    [
        pytest.param({}, ("True", "FoundNewReplicaSet"), id="first-look"),
        pytest.param({"replicas": 4, "availableReplicas": 1}, ("True", "ReplicaSetUpdated"), id="progress"),
        pytest.param({"replicas": 4, "availableReplicas": 4}, ("True", "NewReplicaSetAvailable"), id="complete"),
    ],
)
def test_progressing(seen: dict[str, int], want: tuple[str, str]) -> None:
    new = {"metadata": {"name": "web-1"}, "spec": {"replicas": 4}, "status": seen}
    status = rollout_status.next_status(deployment(), new, [], NOW)
    condition = conditions.find(status["conditions"], "Progressing")
    assert condition and (condition["status"], condition["reason"]) == want


def test_no_progress_until_the_deadline_is_told_and_does_not_end_the_rollout() -> None:
    wish = deployment(progressDeadlineSeconds=10)
    new = {"metadata": {"name": "web-1"}, "spec": {"replicas": 4}, "status": {"replicas": 4, "availableReplicas": 1}}
    wish["status"] = rollout_status.next_status(wish, new, [], NOW)
    assert rollout_status.stuck_in_s(wish, wish["status"], NOW) == 11
    late = rollout_status.next_status(wish, new, [], NOW + 11)
    condition = conditions.find(late["conditions"], "Progressing")
    assert condition and condition["reason"] == "ProgressDeadlineExceeded"
    assert condition["message"] == 'ReplicaSet "web-1" has timed out progressing.'
    available = conditions.find(late["conditions"], "Available")
    assert available and available["reason"] == "MinimumReplicasUnavailable"


def test_the_hash_spells_no_word() -> None:
    assert safe_encoded("0123456789") == "456789bcdf"
    assert template_hash(template("a")) != template_hash(template("b")) != template_hash(template("b"), 1)
