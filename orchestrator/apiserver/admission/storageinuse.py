"""StorageObjectInUseProtection: a new volume, claim or class of attributes cannot go away while it is used.

The finalizer is there from the first moment; the controllers take it off an object that is being deleted once nobody
uses it. Source: Kubernetes docs, Admission Control, StorageObjectInUseProtection.
"""

from __future__ import annotations

from orchestrator.api.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, VOLUMEATTRIBUTESCLASSES
from orchestrator.apiserver.request import Attributes

FINALIZERS = {
    PERSISTENTVOLUMES.group_resource: "kubernetes.io/pv-protection",
    PERSISTENTVOLUMECLAIMS.group_resource: "kubernetes.io/pvc-protection",
    VOLUMEATTRIBUTESCLASSES.group_resource: "kubernetes.io/vac-protection",
}


class StorageObjectInUseProtection:
    operations = ("CREATE",)
    resources = tuple(FINALIZERS)

    async def mutate(self, attributes: Attributes) -> None:
        if attributes.object is None or attributes.subresource:
            return
        metadata, finalizer = attributes.object["metadata"], FINALIZERS[attributes.group_resource]
        if finalizer not in (present := metadata.get("finalizers") or []):
            metadata["finalizers"] = [*present, finalizer]
