"""TaintNodesByCondition: a new node takes no pods before it has reported that it is ready.

The node lifecycle controller removes the taint. Source: Kubernetes docs, Admission Control, TaintNodesByCondition.
"""

from __future__ import annotations

from orchestrator.apiserver.request import Attributes

NOT_READY = "node.kubernetes.io/not-ready"


class TaintNodesByCondition:
    operations = ("CREATE",)
    resources = ("nodes",)

    async def mutate(self, attributes: Attributes) -> None:
        if attributes.object is None:
            return
        spec = attributes.object.setdefault("spec", {})
        taints = spec.get("taints") or []
        if not any(taint.get("key") == NOT_READY and taint.get("effect") == "NoSchedule" for taint in taints):
            spec["taints"] = [*taints, {"key": NOT_READY, "effect": "NoSchedule"}]
