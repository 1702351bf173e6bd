"""RuntimeClass: a pod gets its class's overhead, node selector and tolerations.

Errors: Forbidden for a class that does not exist or contradicts the pod.
Source: Kubernetes docs, "Runtime Class", "Pod Overhead"; messages of kube-apiserver.
"""

from __future__ import annotations

from typing import Any

from orchestrator.api.meta import Object
from orchestrator.api.resources import RUNTIMECLASSES
from orchestrator.apiserver.admission.chain import refuse
from orchestrator.apiserver.lookup import Lookup
from orchestrator.apiserver.request import Attributes


class RuntimeClass:
    operations = ("CREATE",)
    resources = ("pods",)

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup

    async def mutate(self, attributes: Attributes) -> None:
        spec = (attributes.object or {}).get("spec") or {}
        name = spec.get("runtimeClassName")
        found = self._lookup.get(RUNTIMECLASSES, "", name) if name else None
        if name and found is None:
            raise refuse(attributes, f'pod rejected: RuntimeClass "{name}" not found')
        why = applied(spec, found)
        if why:
            raise refuse(attributes, f"pod rejected: {why}")


def applied(spec: dict[str, Any], runtime_class: Object | None) -> str:
    """Applies the class to the spec; says why it cannot."""
    overhead = ((runtime_class or {}).get("overhead") or {}).get("podFixed")
    if spec.get("overhead") and not overhead:
        return "Pod Overhead set without corresponding RuntimeClass defined Overhead"
    if spec.get("overhead") and spec["overhead"] != overhead:
        return "Pod's Overhead doesn't match RuntimeClass's defined Overhead"
    if overhead:
        spec["overhead"] = dict(overhead)
    scheduling = (runtime_class or {}).get("scheduling") or {}
    selector = dict(spec.get("nodeSelector") or {})
    for key, value in (scheduling.get("nodeSelector") or {}).items():
        if selector.setdefault(key, value) != value:
            return (
                f"conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; "
                f"pod.spec.nodeSelector[{key}] = {selector[key]}"
            )
    if selector:
        spec["nodeSelector"] = selector
    present = spec.get("tolerations") or []
    added = [dict(one) for one in scheduling.get("tolerations") or () if one not in present]
    if added:
        spec["tolerations"] = [*present, *added]
    return ""
