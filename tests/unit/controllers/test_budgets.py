"""What PodDisruptionBudgets allow and ResourceQuotas report."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.api.meta import Object, format_time
from orchestrator.controllers.disruption import Observed, next_status
from orchestrator.controllers.resourcequota import used
from tests.unit.controllers.objects import NOW, pod

OWNER = {"kind": "ReplicaSet", "metadata": {"name": "web", "uid": "rs"}}


def budget(status: dict[str, Any] | None = None, **spec: Any) -> Object:
    return {"metadata": {"name": "web", "generation": 1}, "spec": spec, "status": status or {}}


@pytest.mark.parametrize(
    ("wish", "ready", "not_ready", "want"),
    [
        pytest.param({"minAvailable": 2}, 3, 0, (1, 3, 2, 3), id="one-may-go"),
        pytest.param({"minAvailable": "50%"}, 3, 1, (1, 3, 2, 4), id="percent-of-what-is-wanted"),
        pytest.param({"maxUnavailable": 1}, 4, 0, (1, 4, 3, 4), id="max-unavailable"),
        pytest.param({"maxUnavailable": 1}, 2, 1, (0, 2, 3, 4), id="one-is-missing-already"),
        pytest.param({"minAvailable": 5}, 4, 0, (0, 4, 5, 4), id="more-than-there-are"),
    ],
)
def test_allowed(wish: dict[str, Any], ready: int, not_ready: int, want: tuple[int, ...]) -> None:
    owned = [pod(f"r{number}", owner=OWNER) for number in range(ready)]
    owned += [pod(f"n{number}", ready=False, owner=OWNER) for number in range(not_ready)]
    status = next_status(Observed(budget(**wish), tuple(owned), {"rs": 4}, NOW))
    fields = ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods")
    assert tuple(status[field] for field in fields) == want


def test_an_eviction_counts_until_it_shows() -> None:
    at = format_time(NOW - 5)
    seen = budget({"disruptedPods": {"a": at, "gone": at}}, minAvailable=1)
    status = next_status(Observed(seen, (pod("a"), pod("b")), {}, NOW))
    assert (status["disruptionsAllowed"], status["disruptedPods"]) == (0, {"a": at})
    later = next_status(Observed(seen, (pod("a"), pod("b")), {}, NOW + 300))
    assert (later["disruptionsAllowed"], "disruptedPods" in later) == (1, False)


def limited(name: str, cpu: str, **more: Any) -> Object:
    made = pod(name, **more)
    made["spec"]["containers"][0]["resources"] = {"requests": {"cpu": cpu}, "limits": {"cpu": "1", "memory": "1Gi"}}
    return made


def test_what_is_used() -> None:
    hard = ("pods", "cpu", "requests.cpu", "limits.memory", "count/pods", "services", "services.nodeports", "secrets")
    quota = {"spec": {"hard": dict.fromkeys(hard, "10")}}
    node_port = {"spec": {"type": "NodePort", "ports": [{"nodePort": 30000}]}}
    pods = [limited("a", "300m"), limited("b", "1", phase="Failed")]
    objects: dict[str, list[Object]] = {"pods": pods, "services": [node_port], "secrets": []}
    assert used(quota, objects, 0.0) == {
        "count/pods": "2",
        "cpu": "300m",
        "limits.memory": "1Gi",
        "pods": "1",
        "requests.cpu": "300m",
        "secrets": "0",
        "services": "1",
        "services.nodeports": "1",
    }


@pytest.mark.parametrize(
    ("scopes", "want"), [(["BestEffort"], False), (["NotBestEffort", "NotTerminating"], True), (["Terminating"], False)]
)
def test_scopes(scopes: list[str], want: bool) -> None:
    quota = {"spec": {"hard": {"pods": "9"}, "scopes": scopes}}
    assert used(quota, {"pods": [limited("a", "1")]}, 0.0) == {"pods": "1" if want else "0"}


def test_a_claim_is_in_the_scope_of_every_class_that_it_has_or_is_to_have() -> None:
    claim = {
        "spec": {"volumeAttributesClassName": "gold", "resources": {"requests": {"storage": "1Gi"}}},
        "status": {"currentVolumeAttributesClassName": "silver"},
    }
    for name, want in (("gold", "1"), ("silver", "1"), ("bronze", "0")):
        term = {"scopeName": "VolumeAttributesClass", "operator": "In", "values": [name]}
        quota = {"spec": {"hard": {"persistentvolumeclaims": "9"}, "scopeSelector": {"matchExpressions": [term]}}}
        assert used(quota, {"persistentvolumeclaims": [claim, {"spec": {}}]}, 0.0) == {"persistentvolumeclaims": want}


def test_what_nobody_can_count_has_no_number() -> None:
    quota = {"spec": {"hard": {"count/toys.example.com": "1", "pods": "1"}}}
    assert used(quota, {"pods": []}, 0.0) == {"pods": "0"}
    assert used(quota, {"pods": [], "toys.example.com": [{}]}, 0.0) == {"count/toys.example.com": "1", "pods": "0"}


def test_devices_of_claims_are_counted_by_class() -> None:
    def claim(count: int) -> Object:
        exactly = {"deviceClassName": "gold", "allocationMode": "ExactCount", "count": count}
        return {"spec": {"devices": {"requests": [{"name": "r", "exactly": exactly}]}}}

    names = ("count/resourceclaims.resource.k8s.io", "gold.deviceclass.resource.k8s.io/devices")
    quota = {"spec": {"hard": dict.fromkeys((*names, "tin.deviceclass.resource.k8s.io/devices"), "9")}}
    assert used(quota, {"resourceclaims.resource.k8s.io": [claim(1), claim(3)]}, 0.0) == {
        "count/resourceclaims.resource.k8s.io": "2",
        "gold.deviceclass.resource.k8s.io/devices": "4",
        "tin.deviceclass.resource.k8s.io/devices": "0",
    }
