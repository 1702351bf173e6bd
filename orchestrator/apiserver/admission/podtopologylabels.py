"""PodTopologyLabels: a pod learns the zone and region of its node, so the downward API can tell its containers.

The labels are added to the binding, which hands them on to the pod, or to a pod that is created on a node.
Source: KEP-4742.
"""

from __future__ import annotations

from typing import Any

from orchestrator.api import meta
from orchestrator.api.resources import NODES
from orchestrator.apiserver.lookup import Lookup
from orchestrator.apiserver.request import Attributes

LABELS = ("topology.kubernetes.io/zone", "topology.kubernetes.io/region")


class PodTopologyLabels:
    operations = ("CREATE",)
    resources = ("pods", "pods/binding", "bindings")

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup

    async def mutate(self, attributes: Attributes) -> None:
        obj: dict[str, Any] = attributes.object or {}
        is_pod = attributes.resource == "pods" and not attributes.subresource
        name = (obj.get("spec") or {}).get("nodeName") if is_pod else (obj.get("target") or {}).get("name")
        node = self._lookup.get(NODES, "", name) if name else None
        if node is None:
            return
        found = {key: value for key, value in meta.labels(node).items() if key in LABELS}
        if found:
            metadata = obj.setdefault("metadata", {})
            metadata["labels"] = {**(metadata.get("labels") or {}), **found}
