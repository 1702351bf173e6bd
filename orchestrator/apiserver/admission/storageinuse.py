"""StorageObjectInUseProtection: claims and volumes carry a finalizer, so none vanishes under a pod that uses it.

The protection controllers remove the finalizers once nothing uses the object.
Source: Kubernetes docs, "Storage Object in Use Protection".
"""

from __future__ import annotations

from orchestrator.api import meta
from orchestrator.apiserver.request import Attributes

FINALIZERS = {
    "persistentvolumeclaims": "kubernetes.io/pvc-protection",
    "persistentvolumes": "kubernetes.io/pv-protection",
}


class StorageObjectInUseProtection:
    operations = ("CREATE",)
    resources = tuple(FINALIZERS)

    async def mutate(self, attributes: Attributes) -> None:
        if attributes.object is None:
            return
        finalizer, present = FINALIZERS[attributes.resource], meta.finalizers(attributes.object)
        if finalizer not in present:
            attributes.object["metadata"]["finalizers"] = [*present, finalizer]
