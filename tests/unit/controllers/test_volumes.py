from __future__ import annotations

from typing import Any

import pytest

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.controllers.ephemeralvolume import claims_of
from orchestrator.controllers.expand import has_grown
from orchestrator.controllers.volumebinder import by_claim
from orchestrator.controllers.volumebinder_plan import (
    BIND_COMPLETED,
    SELECTED_NODE,
    Bind,
    Decision,
    Lose,
    Provision,
    Wait,
    bound,
    bound_status,
    claimed,
    decide,
    fits,
    volume_phase,
)
from tests.unit.controllers.objects import node, pod


def claim(size: str = "1Gi", *, annotations: dict[str, str] | None = None, **spec: Any) -> Object:
    return {
        "metadata": {"name": "data", "namespace": "shop", "uid": "c", "annotations": annotations or {}},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}, **spec},
    }


def volume(name: str, size: str = "1Gi", **spec: Any) -> Object:
    return {
        "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce", "ReadWriteMany"], "capacity": {"storage": size}, **spec},
    }


def taken(by: str, uid: str = "") -> dict[str, str]:
    return {"namespace": "shop", "name": by, "uid": uid}


def on(name: str) -> dict[str, Any]:
    expression = {"key": "metadata.name", "operator": "In", "values": [name]}
    return {"nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchFields": [expression]}]}}}


def chosen(decision: Decision) -> str:
    return meta.name(decision.volume) if isinstance(decision, Bind) else type(decision).__name__


LATE = {"volumeBindingMode": "WaitForFirstConsumer", "provisioner": "kubernetes.io/no-provisioner"}
FAR = {"provisioner": "example.com/disk", "volumeBindingMode": "Immediate"}


@pytest.mark.parametrize(
    ("wish", "volumes", "storage_class", "want"),
    [
        pytest.param(claim(), [volume("big", "5Gi"), volume("fit", "2Gi")], None, "fit", id="the-smallest-that-fits"),
        pytest.param(claim("3Gi"), [volume("small")], None, "Wait", id="too-small"),
        pytest.param(claim(), [volume("x", storageClassName="fast")], None, "Wait", id="another-class"),
        pytest.param(claim(), [volume("x", volumeMode="Block")], None, "Wait", id="another-mode"),
        pytest.param(claim(accessModes=["ReadOnlyMany"]), [volume("x")], None, "Wait", id="an-access-it-has-not"),
        pytest.param(claim(), [volume("x", claimRef=taken("other"))], None, "Wait", id="taken"),
        pytest.param(claim("9Gi"), [volume("x", claimRef=taken("data"))], None, "x", id="promised-by-name"),
        pytest.param(claim(volumeName="x"), [volume("x"), volume("y")], None, "x", id="asked-for-by-name"),
        pytest.param(
            claim(volumeName="x"), [volume("x", claimRef=taken("o", "u"))], None, "Wait", id="asked-but-taken"
        ),
        pytest.param(claim(volumeName="x", annotations={BIND_COMPLETED: "yes"}), [], None, "Lose", id="lost"),
        pytest.param(claim(storageClassName="late"), [volume("x", storageClassName="late")], LATE, "Wait", id="later"),
        pytest.param(claim(storageClassName="far"), [], FAR, "Provision", id="for-a-provisioner"),
        pytest.param(claim(storageClassName="none"), [], None, "Wait", id="no-such-class"),
    ],
)
def test_decide(wish: Object, volumes: list[Object], storage_class: Object | None, want: str) -> None:
    assert chosen(decide(wish, volumes, storage_class, None, False)) == want
    assert {Lose, Provision, Wait} >= {type(decide(wish, volumes, storage_class, None, False))} - {Bind}


def test_a_late_claim_takes_a_volume_of_the_node_that_was_selected() -> None:
    wish = claim(storageClassName="late", annotations={SELECTED_NODE: "n2"})
    volumes = [volume(f"on-{name}", storageClassName="late", **on(name)) for name in ("n1", "n2")]
    assert chosen(decide(wish, volumes, LATE, node("n2"), True)) == "on-n2"


def test_both_halves_and_the_phase_of_the_volume() -> None:
    wish, free = claim(), volume("x")
    assert volume_phase(free, None) == "Available"
    half = claimed(free, wish)
    assert volume_phase(half, wish) == "Available"
    assert chosen(decide(wish, [half], None, None, False)) == "x"
    whole = bound(wish, half)
    assert volume_phase(half, whole) == "Bound"
    assert volume_phase(half, None) == "Released"


def test_the_claims_of_a_pod() -> None:
    volumes = [{"name": "a", "persistentVolumeClaim": {"claimName": "data"}}, {"name": "b", "ephemeral": {}}]
    volumes[1]["ephemeral"] = {"volumeClaimTemplate": {}}
    using = {"metadata": {"name": "p", "namespace": "shop"}, "spec": {"volumes": volumes}}
    assert list(by_claim(using)) == ["shop/data", "shop/p-b"]


def test_the_class_of_a_volumes_attributes_is_asked_for_and_told_when_it_is_bound() -> None:
    wish, offer = claim(volumeAttributesClassName="gold"), volume("x", "1Gi")
    assert not fits(wish, offer, None)
    offer["spec"]["volumeAttributesClassName"] = "gold"
    assert fits(wish, offer, None)
    wish["status"] = bound_status(wish, offer)
    assert wish["status"]["currentVolumeAttributesClassName"] == "gold"
    offer["spec"]["volumeAttributesClassName"] = "silver"
    assert bound_status(wish, offer)["currentVolumeAttributesClassName"] == "gold"


def test_a_bound_claim_keeps_its_capacity_until_its_file_system_has_grown() -> None:
    wish = claim(annotations={BIND_COMPLETED: "yes"}, volumeName="x")
    wish["status"] = bound_status(wish, volume("x", "1Gi"))
    assert wish["status"]["capacity"] == {"storage": "1Gi"}
    assert bound_status(wish, volume("x", "5Gi"))["capacity"] == {"storage": "1Gi"}


def test_the_claim_of_an_ephemeral_volume_is_the_pods() -> None:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"accessModes": ["ReadWriteOnce"]}}
    owner = pod("web", volumes=[{"name": "scratch", "ephemeral": {"volumeClaimTemplate": template}}, {"name": "other"}])
    (made,) = claims_of(owner)
    assert (meta.key(made), meta.labels(made), made["spec"]) == ("shop/web-scratch", {"a": "b"}, template["spec"])
    assert meta.is_controlled_by(made, owner)


@pytest.mark.parametrize(
    ("before", "after", "phase", "grown"),
    [("1Gi", "2Gi", "Bound", True), ("1Gi", "1024Mi", "Bound", False), ("1Gi", "2Gi", "Pending", False)],
)
def test_has_grown(before: str, after: str, phase: str, grown: bool) -> None:
    assert has_grown(claim(before), claim(after) | {"status": {"phase": phase}}) is grown
    assert not has_grown(None, claim(after))
