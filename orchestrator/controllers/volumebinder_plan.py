"""Binding of PersistentVolumeClaims to PersistentVolumes. Pure.

    claim   Pending → Bound (→ Lost, when its volume is gone)
    volume  Available → Bound → Released (→ Available again is an administrator's doing)

A binding is two writes: the volume's claimRef, then the claim's volumeName; either half may be found alone and is then
completed. Of the volumes that fit (class, mode, access modes, capacity, selector, and node where one was selected) the
smallest is taken. A claim of a class with WaitForFirstConsumer waits until the scheduler has chosen a node. A claim
whose class has a provisioner other than `kubernetes.io/no-provisioner` is marked for it, and provisioned elsewhere.
Source: Concepts, Persistent Volumes, "Lifecycle of a volume and claim"; API reference v1 PersistentVolume.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from orchestrator.api import meta, quantity, selectors
from orchestrator.api.meta import Object
from orchestrator.api.volumes import claim_reference
from orchestrator.controllers.fields import spec, status_of
from orchestrator.controllers.node_selection import term_fits

BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
BOUND_BY_CONTROLLER = "pv.kubernetes.io/bound-by-controller"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
PROVISIONER = "volume.kubernetes.io/storage-provisioner"
BETA_PROVISIONER = "volume.beta.kubernetes.io/storage-provisioner"
NO_PROVISIONER = "kubernetes.io/no-provisioner"
WAIT = "WaitForFirstConsumer"


class Bind(Struct, frozen=True):
    """Both halves, as far as they are missing."""

    volume: Object


class Lose(Struct, frozen=True):
    """The claim's volume is gone, or is another claim's."""

    message: str


class Provision(Struct, frozen=True):
    """For the provisioner of the claim's class."""

    provisioner: str


class Wait(Struct, frozen=True):
    reason: str
    message: str


Decision = Bind | Lose | Provision | Wait | None


def class_of(obj: Object) -> str:
    return spec(obj).get("storageClassName") or ""


def decide(
    claim: Object, volumes: Iterable[Object], storage_class: Object | None, node: Object | None, now_used: bool
) -> Decision:
    """`node` is the one that the scheduler selected; `now_used` says that a pod waits for the claim."""
    volumes = list(volumes)
    wanted = spec(claim).get("volumeName")
    if wanted:
        return _with_name(claim, next((each for each in volumes if meta.name(each) == wanted), None))
    for volume in volumes:  # a half that was written before, or that an administrator wrote
        if is_claimed_by(volume, claim):
            return Bind(volume)
    is_late = (storage_class or {}).get("volumeBindingMode") == WAIT
    if is_late and SELECTED_NODE not in meta.annotations(claim):
        if now_used:
            return Wait("WaitForPodScheduled", "waiting for pod to be scheduled")
        return Wait("WaitForFirstConsumer", "waiting for first consumer to be created before binding")
    if (found := smallest_fitting(claim, volumes, node)) is not None:
        return Bind(found)
    provisioner = (storage_class or {}).get("provisioner") or NO_PROVISIONER
    if class_of(claim) and storage_class is None:
        return Wait("ProvisioningFailed", f'storageclass.storage.k8s.io "{class_of(claim)}" not found')
    if provisioner != NO_PROVISIONER:
        return Provision(provisioner)
    return Wait("FailedBinding", "no persistent volumes available for this claim and no storage class is set")


def _with_name(claim: Object, volume: Object | None) -> Decision:
    is_bound = BIND_COMPLETED in meta.annotations(claim)
    if volume is None:
        if is_bound:
            return Lose("Bound claim has lost its PersistentVolume. Data on the volume is lost!")
        return Wait("FailedBinding", f'volume "{spec(claim)["volumeName"]}" not found')
    reference = spec(volume).get("claimRef")
    if not reference or is_claimed_by(volume, claim):
        return Bind(volume)
    if is_bound:
        return Lose("Two claims are bound to the same volume, this one is bound incorrectly")
    return Wait("FailedBinding", f'volume "{meta.name(volume)}" already bound to a different claim.')


def is_claimed_by(volume: Object, claim: Object) -> bool:
    """A claimRef without a uid is an administrator's promise to whoever has that name."""
    reference = spec(volume).get("claimRef") or {}
    same_name = (reference.get("namespace"), reference.get("name")) == (meta.namespace(claim), meta.name(claim))
    return same_name and reference.get("uid") in (None, "", meta.uid(claim))


def smallest_fitting(claim: Object, volumes: Iterable[Object], node: Object | None) -> Object | None:
    fitting = [volume for volume in volumes if not spec(volume).get("claimRef") and fits(claim, volume, node)]
    return min(fitting, key=lambda volume: (capacity(volume), meta.name(volume)), default=None)


def capacity(volume: Object) -> Any:
    return quantity.parse((spec(volume).get("capacity") or {}).get("storage", 0))


def fits(claim: Object, volume: Object, node: Object | None) -> bool:
    wish, offer = spec(claim), spec(volume)
    asked = ((wish.get("resources") or {}).get("requests") or {}).get("storage", 0)
    selector = wish.get("selector")
    return (
        not meta.is_deleting(volume)
        and (status_of(volume).get("phase") or "Available") in ("Available", "Pending")
        and class_of(claim) == class_of(volume)
        and (wish.get("volumeAttributesClassName") or "") == (offer.get("volumeAttributesClassName") or "")
        and (wish.get("volumeMode") or "Filesystem") == (offer.get("volumeMode") or "Filesystem")
        and set(wish.get("accessModes") or ()) <= set(offer.get("accessModes") or ())
        and capacity(volume) >= quantity.parse(asked)
        and (selector is None or selectors.from_json(selector).matches(meta.labels(volume)))
        and (node is None or is_reachable(volume, node))
    )


def is_reachable(volume: Object, node: Object) -> bool:
    required = (spec(volume).get("nodeAffinity") or {}).get("required")
    return required is None or any(term_fits(term, node) for term in required.get("nodeSelectorTerms") or ())


def claimed(volume: Object, claim: Object) -> Object:
    """The volume's half; how the reference came about is noted, for what the controller bound it may release."""
    reference = claim_reference(claim)
    described = dict(meta.metadata(volume))
    if not spec(volume).get("claimRef"):
        described["annotations"] = {**meta.annotations(volume), BOUND_BY_CONTROLLER: "yes"}
    return {**volume, "metadata": described, "spec": {**spec(volume), "claimRef": reference}}


def bound(claim: Object, volume: Object) -> Object:
    """The claim's half."""
    annotations = {**meta.annotations(claim), BIND_COMPLETED: "yes"}
    if not spec(claim).get("volumeName"):
        annotations[BOUND_BY_CONTROLLER] = "yes"
    described = {**meta.metadata(claim), "annotations": annotations}
    return {**claim, "metadata": described, "spec": {**spec(claim), "volumeName": meta.name(volume)}}


def bound_status(claim: Object, volume: Object) -> dict[str, Any]:
    """The capacity is that of the volume when it was bound: afterwards it grows when the file system has. So is the
    class of its attributes, which afterwards is for who changes them to tell."""
    present = status_of(claim)
    status = {name: value for name, value in present.items() if name != "phase"}
    is_new = present.get("phase") != "Bound" or not present.get("capacity")
    attributes = spec(volume).get("volumeAttributesClassName")
    if present.get("phase") != "Bound" and attributes:
        status["currentVolumeAttributesClassName"] = attributes
    return status | {
        "phase": "Bound",
        "accessModes": spec(volume).get("accessModes") or [],
        "capacity": spec(volume).get("capacity") or {} if is_new else present["capacity"],
    }


def volume_phase(volume: Object, claim: Object | None) -> str:
    """`claim` is the one of the reference's name, if there is one."""
    reference = spec(volume).get("claimRef")
    if not reference:
        return "Available"
    if claim is not None and is_claimed_by(volume, claim):
        return "Bound" if spec(claim).get("volumeName") == meta.name(volume) else "Available"
    return "Released" if reference.get("uid") else "Available"
