"""What every component calls a volume of a CSI driver, and how it reads one.

The names are part of the API: a Node's status lists volumes by their unique name, and a VolumeAttachment is found by a
name made of what it attaches to what. `DISK_DRIVER` is the lab's own driver, whose volumes are the lab's disks; a
disk's handle is its serial number too, which virtio limits to 20 characters.
Source: API reference, NodeStatus (volumesAttached, volumesInUse), VolumeAttachment; CSI plugin of Kubernetes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from orchestrator.api import meta
from orchestrator.api.meta import Object

DISK_DRIVER = "disk.sampan.dev"
HANDLE_PATTERN = r"^vol-[0-9a-f]{16}$"
MANAGED_ATTACH = (
    "volumes.kubernetes.io/controller-managed-attach-detach"  # a kubelet leaves attaching to the controller
)
SINGLE_NODE_MODES = frozenset(("ReadWriteOnce", "ReadWriteOncePod"))


def handle(claim_uid: str) -> str:
    """The disk of a claim: the same however often it is asked for."""
    return f"vol-{claim_uid.replace('-', '')[:16].ljust(16, '0')}"


def claim_reference(claim: Object) -> dict[str, Any]:
    """What a PersistentVolume says of the claim that it is for, `spec.claimRef`."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "namespace": meta.namespace(claim),
        "name": meta.name(claim),
        "uid": meta.uid(claim),
        "resourceVersion": meta.resource_version(claim),
    }


def csi(volume: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The CSI source of a PersistentVolume."""
    found: Mapping[str, Any] | None = (volume.get("spec") or {}).get("csi")
    return found


def unique_name(driver: str, volume_handle: str) -> str:
    """How a Node's status names a volume."""
    return f"kubernetes.io/csi/{driver}^{volume_handle}"


def attachment_name(volume_handle: str, driver: str, node: str) -> str:
    return f"csi-{hashlib.sha256(f'{volume_handle}{driver}{node}'.encode()).hexdigest()}"


def is_exclusive(volume: Mapping[str, Any]) -> bool:
    """Whether only one node at a time may have it."""
    modes = (volume.get("spec") or {}).get("accessModes") or ()
    return bool(modes) and SINGLE_NODE_MODES.issuperset(modes)


def claim_names(pod: Mapping[str, Any]) -> dict[str, str]:
    """Volume name → name of the claim behind it, for all of a Pod's volumes that have one."""
    found = {}
    for volume in (pod.get("spec") or {}).get("volumes") or ():
        if source := volume.get("persistentVolumeClaim"):
            found[volume["name"]] = source["claimName"]
        elif volume.get("ephemeral"):
            found[volume["name"]] = f"{meta.name(pod)}-{volume['name']}"
    return found
