"""What a pod as a whole asks for: requests and limits of its containers, taken together.

Containers add up. An init container runs before them, alone but for the sidecars (restartPolicy Always) started before
it, so the most demanding moment counts. What is said for the whole pod (`spec.resources`) stands in place of that; then
the pod's overhead is added. Source: KEP-753, "Resources calculation"; KEP-2837, "Pod level resource specifications";
Kubernetes docs, "Init Containers", resource sharing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from orchestrator.api import quantity

Amounts = dict[str, Decimal]

OF_WHOLE_PODS = ("cpu", "memory")  # and huge pages


def amounts(quantities: Mapping[str, Any] | None) -> Amounts:
    return {name: quantity.parse(value) for name, value in (quantities or {}).items()}


def pod_amounts(spec: Mapping[str, Any], kind: str) -> Amounts:
    """`kind` is `requests` or `limits`."""
    running: Amounts = {}
    for container in spec.get("containers") or ():
        running = added(running, _of(container, kind))
    sidecars: Amounts = {}
    starting: Amounts = {}
    for container in spec.get("initContainers") or ():
        if container.get("restartPolicy") == "Always":
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
