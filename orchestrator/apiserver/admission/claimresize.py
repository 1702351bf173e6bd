"""PersistentVolumeClaimResize: only a claim whose storage class allows it may grow.

Source: Kubernetes docs, Admission Control, PersistentVolumeClaimResize; message of kube-apiserver.
"""

from __future__ import annotations

from decimal import Decimal

from orchestrator.api import quantity
from orchestrator.api.meta import Object
from orchestrator.api.resources import STORAGECLASSES
from orchestrator.apiserver.admission.chain import refuse
from orchestrator.apiserver.lookup import Lookup
from orchestrator.apiserver.request import Attributes

WHY = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"


class PersistentVolumeClaimResize:
    operations = ("UPDATE",)
    resources = ("persistentvolumeclaims",)

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup

    async def validate(self, attributes: Attributes) -> None:
        new, old = attributes.object, attributes.old_object
        if new is None or old is None or size(new) <= size(old):
            return
        storage_class = self._lookup.get(STORAGECLASSES, "", (new.get("spec") or {}).get("storageClassName") or "")
        if storage_class is None or not storage_class.get("allowVolumeExpansion"):
            raise refuse(attributes, WHY)


def size(claim: Object) -> Decimal:
    requests = ((claim.get("spec") or {}).get("resources") or {}).get("requests") or {}
    return quantity.parse(requests.get("storage", 0))
