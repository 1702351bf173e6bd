"""Claims, volumes and disks: what is to be done for each, and the objects that say so. Pure.

    claim of our class, unbound  --> a disk and its PersistentVolume, bound to the claim from the start
    volume released, policy Delete --> no disk, no volume
    claim larger than its volume --> a larger disk, then volume, and (by the kubelet) file system and claim

Source: Concepts, Persistent Volumes; KEP-284 and KEP-1790 (expansion); KEP-2644 (reclaim policy and finalizers). The
finalizers, annotations and event texts are those of Kubernetes' own sidecars for CSI drivers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from orchestrator.api import conditions, meta, quantity, volumes
from orchestrator.api.meta import Object
from orchestrator.api.volumes import DISK_DRIVER
from orchestrator.cloud.provider import Volume

PROVISIONER = "volume.kubernetes.io/storage-provisioner"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
VOLUME_FINALIZER = "external-provisioner.volume.kubernetes.io/finalizer"
ATTACHER_FINALIZER = f"external-attacher/{DISK_DRIVER.replace('.', '-')}"
FS_TYPE = "csi.storage.k8s.io/fstype"
FS_TYPES = ("ext3", "ext4", "xfs")
WAIT = "WaitForFirstConsumer"
SIZE_UNIT_BYTES = 2**20
SIZE_LEAST_BYTES = 16 * 2**20  # below that ext4 has no room for its journal

PENDING = {
    "type": "FileSystemResizePending",
    "status": "True",
    "message": "Waiting for user to (re-)start a pod to finish file system resize of volume on node.",
}


class NotProvisionable(Exception):
    """What a claim or its class asks for and no disk is."""


def spec(obj: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = obj.get("spec") or {}
    return found


def status_of(obj: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = obj.get("status") or {}
    return found


# Provisioning.


def wants_disk(claim: Object, storage_class: Object | None) -> bool:
    """Whether it is our turn: the claim is marked for us, and its node is chosen where the class waits for one."""
    if storage_class is None or storage_class.get("provisioner") != DISK_DRIVER or meta.is_deleting(claim):
        return False
    annotations = meta.annotations(claim)
    is_late = storage_class.get("volumeBindingMode") == WAIT
    return (
        annotations.get(PROVISIONER) == DISK_DRIVER
        and not spec(claim).get("volumeName")
        and (not is_late or SELECTED_NODE in annotations)
    )


def check(claim: Object, storage_class: Object) -> None:
    """Errors: NotProvisionable."""
    many = sorted(set(spec(claim).get("accessModes") or ()) - volumes.SINGLE_NODE_MODES)
    if many:
        raise NotProvisionable(
            f"access mode {', '.join(many)} is not supported: a disk is attached to one node at a time "
            "(ReadWriteOnce, ReadWriteOncePod)"
        )
    if source := spec(claim).get("dataSourceRef") or spec(claim).get("dataSource"):
        raise NotProvisionable(f"a disk cannot be made from {source.get('kind')} {source.get('name')}: it begins blank")
    parameters = storage_class.get("parameters") or {}
    if unknown := sorted(set(parameters) - {FS_TYPE}):
        raise NotProvisionable(f"parameter {unknown[0]!r} of the class is not known; {FS_TYPE} is")
    if parameters.get(FS_TYPE, FS_TYPES[0]) not in FS_TYPES:
        raise NotProvisionable(f"{FS_TYPE} {parameters[FS_TYPE]!r} is none of {', '.join(FS_TYPES)}")


def requested_bytes(claim: Object) -> int:
    return quantity.ceil(((spec(claim).get("resources") or {}).get("requests") or {}).get("storage") or "0")


def size_bytes(claim: Object) -> int:
    """Of the disk: what is asked for, in whole units."""
    return max(SIZE_LEAST_BYTES, -(-requested_bytes(claim) // SIZE_UNIT_BYTES) * SIZE_UNIT_BYTES)


def volume_name(claim: Object) -> str:
    return f"pvc-{meta.uid(claim)}"


def persistent_volume(claim: Object, storage_class: Object, disk: Volume) -> Object:
    wanted = spec(claim)
    is_block = wanted.get("volumeMode") == "Block"
    source: dict[str, Any] = {"driver": DISK_DRIVER, "volumeHandle": disk.name}
    if not is_block:
        source["fsType"] = (storage_class.get("parameters") or {}).get(FS_TYPE) or "ext4"
    described: dict[str, Any] = {
        "accessModes": list(wanted.get("accessModes") or ()),
        "capacity": {"storage": quantity.format_binary(disk.size_bytes)},
        "claimRef": volumes.claim_reference(claim),
        "csi": source,
        "persistentVolumeReclaimPolicy": storage_class.get("reclaimPolicy") or "Delete",
        "storageClassName": meta.name(storage_class),
        "volumeMode": "Block" if is_block else "Filesystem",
    }
    if storage_class.get("mountOptions") and not is_block:
        described["mountOptions"] = list(storage_class["mountOptions"])
    if names := disk.reach or disk.beyond:
        operator = "In" if disk.reach else "NotIn"
        expression = {"key": "kubernetes.io/hostname", "operator": operator, "values": sorted(names)}
        described["nodeAffinity"] = {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}
    return {
        "metadata": {
            "name": volume_name(claim),
            "annotations": {PROVISIONED_BY: DISK_DRIVER},
            "finalizers": [VOLUME_FINALIZER] if described["persistentVolumeReclaimPolicy"] == "Delete" else [],
        },
        "spec": described,
    }


# Deletion.


def handle_of(volume: Object) -> str:
    """The disk of a volume; "" of one that is not ours."""
    source = volumes.csi(volume) or {}
    return str(source["volumeHandle"]) if source.get("driver") == DISK_DRIVER else ""


def is_to_be_deleted(volume: Object) -> bool:
    """A disk that we made, and nobody claims any more, of a volume whose policy is Delete."""
    is_free = status_of(volume).get("phase") == "Released" or (
        meta.is_deleting(volume) and status_of(volume).get("phase") in (None, "Available", "Pending", "Failed")
    )
    return (
        is_free
        and bool(handle_of(volume))
        and spec(volume).get("persistentVolumeReclaimPolicy") == "Delete"
        and meta.annotations(volume).get(PROVISIONED_BY) == DISK_DRIVER
    )


def is_let_go(volume: Object) -> bool:
    """A volume that is deleted by hand and whose disk is to stay: our finalizer has nothing to wait for."""
    return (
        meta.is_deleting(volume)
        and VOLUME_FINALIZER in meta.finalizers(volume)
        and spec(volume).get("persistentVolumeReclaimPolicy") != "Delete"
    )


# Attachments.


def is_ours(attachment: Object) -> bool:
    return spec(attachment).get("attacher") == DISK_DRIVER


def volume_of(attachment: Object) -> str:
    return str((spec(attachment).get("source") or {}).get("persistentVolumeName") or "")


def by_volume(attachment: Object) -> Iterable[str]:
    return (volume_of(attachment),) if volume_of(attachment) else ()


# Expansion.


def capacity_bytes(obj: Object, field: str) -> int:
    return quantity.ceil(((obj.get(field) or {}).get("capacity") or {}).get("storage") or "0")


def is_to_grow(claim: Object, volume: Object) -> bool:
    return status_of(claim).get("phase") == "Bound" and capacity_bytes(volume, "spec") < requested_bytes(claim)


def resizing(claim: Object, now: str) -> Object:
    """The claim's status while the disk is being made larger."""
    kept = [each for each in status_of(claim).get("conditions") or () if each["type"] != PENDING["type"]]
    return _status_patch(
        claim,
        conditions.updated(kept, {"type": "Resizing", "status": "True"}, now),
        "ControllerResizeInProgress",
        allocated=quantity.format_binary(requested_bytes(claim)),
    )


def disk_grown(claim: Object, volume: Object, now: str) -> Object | None:
    """The claim's status once its volume is larger; None where it says so already. A device needs nothing more."""
    if spec(volume).get("volumeMode") == "Block":
        left = [each for each in status_of(claim).get("conditions") or () if each["type"] != "Resizing"]
        patch = _status_patch(claim, left, None)
        patch["status"]["capacity"] = {"storage": spec(volume)["capacity"]["storage"]}
        return patch
    kept = [each for each in status_of(claim).get("conditions") or () if each["type"] != "Resizing"]
    if conditions.find(kept, str(PENDING["type"])) is not None:
        return None
    return _status_patch(claim, conditions.updated(kept, PENDING, now), "NodeResizePending")


def _status_patch(claim: Object, wanted: list[Object], step: str | None, *, allocated: str = "") -> Object:
    made: Object = {"conditions": wanted or None, "allocatedResourceStatuses": {"storage": step}}
    if allocated:
        made["allocatedResources"] = {"storage": allocated}
    return {"metadata": {"resourceVersion": meta.resource_version(claim)}, "status": made}
