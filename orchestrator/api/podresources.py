"""What a pod as a whole asks for: requests and limits of its containers, taken together.

Containers add up. An init container runs before them, alone but for the sidecars (restartPolicy Always) started before
it, so the most demanding moment counts. What is said for the whole pod (`spec.resources`) stands in place of that; then
the pod's overhead is added. While a pod is resized in place, it is charged for the most that any of its wish, its
node's promise and its containers' present setting says (`in_force`).
Source: KEP-753, "Resources calculation"; KEP-1287, "Scheduler and API Server Interaction"; KEP-2837, "Pod level
resource specifications"; Kubernetes docs, "Init Containers", resource sharing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from orchestrator.api import conditions, quantity
from orchestrator.api.meta import Object

Amounts = dict[str, Decimal]

OF_WHOLE_PODS = ("cpu", "memory")  # and huge pages


def amounts(quantities: Mapping[str, Any] | None) -> Amounts:
    return {name: quantity.parse(value) for name, value in (quantities or {}).items()}


def is_sidecar(container: Mapping[str, Any]) -> bool:
    """Of an init container: whether it goes on beside the others (KEP-753)."""
    return container.get("restartPolicy") == "Always"


def in_force(pod: Object) -> Mapping[str, Any]:
    """The pod's spec with the resources that count now: where a resize is under way, the largest of what is asked, of
    what the node has promised (`allocatedResources`) and of what is set (`resources` of the status); where the node
    can never grant it (PodResizePending, Infeasible), what is asked is left out. Else the spec as it is."""
    spec: dict[str, Any] = pod.get("spec") or {}
    status = pod.get("status") or {}
    told = {
        one["name"]: one
        for kind in ("containerStatuses", "initContainerStatuses")
        for one in status.get(kind) or ()
        if one.get("resources") is not None
    }
    if not told and status.get("resources") is None:
        return spec
    pending = conditions.find(status.get("conditions"), "PodResizePending") or {}
    counts_wish = pending.get("reason") != "Infeasible"
    found = {
        "containers": [_in_force(one, told.get(one["name"], {}), counts_wish) for one in spec.get("containers") or ()],
        "initContainers": [
            _in_force(one, told.get(one["name"], {}), counts_wish) if is_sidecar(one) else one
            for one in spec.get("initContainers") or ()
        ],
    }
    whole = _in_force(spec, status, counts_wish) if spec.get("resources") else spec
    return {**whole, **{name: containers for name, containers in found.items() if containers}}


def _in_force(holder: Mapping[str, Any], told: Mapping[str, Any], counts_wish: bool) -> Mapping[str, Any]:
    """A container, or a pod's spec, and its status."""
    actual, promised = told.get("resources"), told.get("allocatedResources") or {}
    asked = holder.get("resources") or {}
    if actual is None or (actual == asked and promised == (asked.get("requests") or {})):
        return holder
    wish = asked if counts_wish else {}
    counted = {
        "requests": _largest(wish.get("requests"), actual.get("requests"), promised),
        "limits": _largest(wish.get("limits"), actual.get("limits")),
    }
    return {**holder, "resources": {**asked, **counted}}


def _largest(*several: Mapping[str, Any] | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for quantities in several:
        for name, text in (quantities or {}).items():
            if name not in found or quantity.parse(text) > quantity.parse(found[name]):
                found[name] = text
    return found


def pod_amounts(spec: Mapping[str, Any], kind: str) -> Amounts:
    """`kind` is `requests` or `limits`."""
    running: Amounts = {}
    for container in spec.get("containers") or ():
        running = added(running, _of(container, kind))
    sidecars: Amounts = {}
    starting: Amounts = {}
    for container in spec.get("initContainers") or ():
        if is_sidecar(container):
            sidecars = added(sidecars, _of(container, kind))
            starting = _merged(starting, sidecars, max)
        else:
            starting = _merged(starting, added(sidecars, _of(container, kind)), max)
    total = _merged(added(running, sidecars), starting, max)
    for name, amount in _of(spec, kind).items():
        if name in OF_WHOLE_PODS or name.startswith("hugepages-"):
            total[name] = amount
    overhead = amounts(spec.get("overhead"))
    return added(total, overhead if kind == "requests" else {key: overhead[key] for key in overhead if key in total})


def added(left: Amounts, right: Amounts) -> Amounts:
    return _merged(left, right, lambda one, other: one + other)


def _merged(left: Amounts, right: Amounts, combine: Callable[[Decimal, Decimal], Decimal]) -> Amounts:
    zero = Decimal(0)
    return {name: combine(left.get(name, zero), right.get(name, zero)) for name in {**left, **right}}


def _of(holder: Mapping[str, Any], kind: str) -> Amounts:
    """Of a container, or of a pod's spec."""
    return amounts((holder.get("resources") or {}).get(kind))
