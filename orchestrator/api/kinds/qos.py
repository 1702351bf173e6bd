"""Quality of service: Guaranteed, Burstable or BestEffort, from the resources of a pod's containers.

Guaranteed: every container (or the pod itself) has cpu and memory limits, and requests equal to them. BestEffort: none
has any cpu or memory request or limit. Source: Concepts, "Pod Quality of Service Classes".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.api import quantity
from orchestrator.api.kinds import podspec

COMPUTE = ("cpu", "memory")


def qos_class(spec: Mapping[str, Any]) -> str:
    whole = spec.get("resources") or {}
    if whole.get("requests") or whole.get("limits"):
        resources = [whole]
    else:
        resources = [c.get("resources") or {} for c in podspec.containers({**spec, "ephemeralContainers": None})]
    if not any(_positive(r, kind) for r in resources for kind in ("requests", "limits")):
        return "BestEffort"
    return "Guaranteed" if all(map(_is_guaranteed, resources)) else "Burstable"


def _positive(resources: Mapping[str, Any], kind: str) -> dict[str, Any]:
    amounts = resources.get(kind) or {}
    return {name: value for name in COMPUTE if (value := quantity.parse(amounts.get(name, 0))) > 0}


def _is_guaranteed(resources: Mapping[str, Any]) -> bool:
    limits, requests = _positive(resources, "limits"), _positive(resources, "requests")
    return len(limits) == len(COMPUTE) and all(requests.get(name, limits[name]) == limits[name] for name in COMPUTE)
