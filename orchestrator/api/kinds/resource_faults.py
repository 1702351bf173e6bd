"""Resource requirements: names, amounts, and requests that stay below limits."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from orchestrator.api import quantity
from orchestrator.api.kinds import faults, formats
from orchestrator.api.kinds.values import nonnegative_quantity
from orchestrator.api.status import Cause

Json = Mapping[str, Any]

STANDARD = {
    "cpu", "memory", "ephemeral-storage", "requests.cpu", "requests.memory", "requests.ephemeral-storage",
    "limits.cpu", "limits.memory", "limits.ephemeral-storage", "pods", "resourcequotas", "services",
    "replicationcontrollers", "secrets", "configmaps", "persistentvolumeclaims", "storage", "requests.storage",
    "services.nodeports", "services.loadbalancers",
}  # fmt: skip
FOR_CONTAINERS = {"cpu", "memory", "ephemeral-storage"}
INTEGERS = STANDARD - {
    "cpu", "memory", "ephemeral-storage", "requests.cpu", "requests.memory", "requests.ephemeral-storage",
    "limits.cpu", "limits.memory", "limits.ephemeral-storage", "storage", "requests.storage",
}  # fmt: skip
_HUGE = "hugepages-"


def is_extended(name: str) -> bool:
    is_native = "/" not in name or "kubernetes.io/" in name
    return not is_native and not name.startswith("requests.") and not formats.qualified_name(f"requests.{name}")


def resource_name(name: str, path: str) -> list[Cause]:
    """A resource in a node's or quota's list."""
    causes = faults.each(path, name, formats.qualified_name(name))
    if not causes and "/" not in name and name not in STANDARD and not name.startswith(_HUGE):
        causes.append(faults.invalid(path, name, "must be a standard resource type or fully qualified"))
    return causes


def container_resource_name(name: str, path: str) -> list[Cause]:
    causes = resource_name(name, path)
    if "/" not in name:
        if name not in FOR_CONTAINERS and not name.startswith(_HUGE):
            causes.append(faults.invalid(path, name, "must be a standard resource for containers"))
    elif "kubernetes.io/" not in name and not is_extended(name):
        causes.append(faults.invalid(path, name, "doesn't follow extended resource name standard"))
    return causes


def amount(name: str, value: Any, path: str) -> list[Cause]:
    causes = nonnegative_quantity(value, path)
    if (name in INTEGERS or is_extended(name)) and quantity.millis(value) % 1000:
        causes.append(faults.invalid(path, value, "must be an integer"))
    if name.startswith(_HUGE):
        causes += _huge_pages(name, value, path)
    return causes


def _huge_pages(name: str, value: Any, path: str) -> list[Cause]:
    try:
        size = quantity.parse(name.removeprefix(_HUGE))
    except quantity.QuantityError:
        return []
    whole = size > 0 and quantity.parse(value) % size == 0
    return [] if whole else [faults.invalid(path, value, f"{value} is not positive integer multiple of {name}")]


def requirements(resources: Json | None, path: str, claims: Collection[str] = ()) -> list[Cause]:
    resources = resources or {}
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    causes: list[Cause] = []
    for name, value in sorted(limits.items()):
        causes += container_resource_name(name, f"{path}.limits[{name}]")
        causes += amount(name, value, f"{path}.limits[{name}]")
    for name, value in sorted(requests.items()):
        causes += container_resource_name(name, f"{path}.requests[{name}]")
        causes += amount(name, value, f"{path}.requests[{name}]")
        causes += _within_limit(name, value, limits.get(name), path)
    names = {*limits, *requests}
    if any(name.startswith(_HUGE) for name in names) and not names & {"cpu", "memory"}:
        causes.append(faults.forbidden(path, "HugePages require cpu or memory"))
    for index, claim in enumerate(resources.get("claims") or ()):
        if not claim.get("name"):
            causes.append(faults.required(f"{path}.claims[{index}]"))
        elif claim["name"] not in claims:
            known = f": {', '.join(sorted(claims))}" if claims else " which is empty"
            detail = f"must be one of the names in pod.spec.resourceClaims{known}"
            causes.append(faults.not_found(f"{path}.claims[{index}]", claim["name"], detail))
    return causes


def _within_limit(name: str, request: Any, limit: Any, path: str) -> list[Cause]:
    can_overcommit = ("/" not in name or "kubernetes.io/" in name) and not name.startswith(_HUGE)
    if limit is None:
        detail = "Limit must be set for non overcommitable resources"
        return [] if can_overcommit else [faults.required(f"{path}.limits", detail)]
    where = f"{path}.requests"
    if not can_overcommit and quantity.parse(request) != quantity.parse(limit):
        return [faults.invalid(where, request, f"must be equal to {name} limit of {limit}")]
    if quantity.parse(request) > quantity.parse(limit):
        return [faults.invalid(where, request, f"must be less than or equal to {name} limit of {limit}")]
    return []
