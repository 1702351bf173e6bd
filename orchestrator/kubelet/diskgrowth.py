"""Expansion of a claim, the node's half. Pure.

The controller has made the disk larger and raised the volume's capacity; the claim's capacity follows when the file
system has, with which the expansion is over. Source: KEP-284 and KEP-1790; API reference, PersistentVolumeClaimStatus.
"""

from __future__ import annotations

from typing import Any

from orchestrator.api import meta, quantity
from orchestrator.api.meta import Object

PENDING = ("Resizing", "FileSystemResizePending", "ControllerResizeError", "NodeResizeError")


def capacity(obj: Object, field: str) -> Any:
    return ((obj.get(field) or {}).get("capacity") or {}).get("storage") or "0"


def size_bytes(volume: Object) -> int:
    return quantity.ceil(capacity(volume, "spec"))


def is_due(claim: Object, volume: Object) -> bool:
    """The volume has more than the claim has been told."""
    is_bound = (claim.get("status") or {}).get("phase") == "Bound"
    return is_bound and quantity.parse(capacity(claim, "status")) < quantity.parse(capacity(volume, "spec"))


def finished(claim: Object, volume: Object) -> Object:
    """A merge patch of the claim's status; it fails where the claim has changed."""
    status = claim.get("status") or {}
    left = [condition for condition in status.get("conditions") or () if condition["type"] not in PENDING]
    return {
        "metadata": {"resourceVersion": meta.resource_version(claim)},
        "status": {
            "capacity": {"storage": capacity(volume, "spec")},
            "conditions": left or None,
            "allocatedResourceStatuses": None,
        },
    }
