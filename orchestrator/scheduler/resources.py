"""What a Pod asks of a node: the sum of its containers, and its init containers' peak.

CPU is counted in thousandths, everything else in whole units, rounded up. Containers run together, so their requests
add up; ordinary init containers run one after another, so the largest counts, on top of the sidecars (restartable
init containers) that started before it and stay. Requests for the whole Pod win over the containers' sum; the
overhead of a RuntimeClass comes on top. For scoring only, a container that asks nothing counts as 100m and 200 MiB, so
that such Pods do not all land on one node. Source: component-helpers resource.PodRequests; KEP-753; KEP-2837.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from orchestrator.api import quantity
from orchestrator.api.podresources import is_sidecar

CPU, MEMORY, EPHEMERAL_STORAGE, PODS = "cpu", "memory", "ephemeral-storage", "pods"
DEFAULT_CPU_MILLIS = 100
DEFAULT_MEMORY_BYTES = 200 * 2**20

Amounts = dict[str, int]


def amount(resource: str, text: str | int | float) -> int:
    return quantity.millis(text) if resource == CPU else quantity.ceil(text)


def amounts(quantities: Mapping[str, Any] | None) -> Amounts:
    return {resource: amount(resource, text) for resource, text in (quantities or {}).items()}


def pod_requests(spec: Mapping[str, Any], *, with_defaults: bool = False) -> Amounts:
    """The requests that the Pod's node must have free; `with_defaults` for scoring."""
    total = _sum(_container(container, with_defaults) for container in spec.get("containers") or ())
    sidecars: Amounts = {}
    peak: Amounts = {}
    for container in spec.get("initContainers") or ():
        own = _container(container, with_defaults)
        if is_sidecar(container):
            total = _sum((total, own))
            sidecars = _sum((sidecars, own))
            peak = _largest(peak, sidecars)
        else:
            peak = _largest(peak, _sum((sidecars, own)))
    total = _largest(total, peak) | amounts((spec.get("resources") or {}).get("requests"))
    return _sum((total, amounts(spec.get("overhead"))))


def _container(container: Mapping[str, Any], with_defaults: bool) -> Amounts:
    asked = amounts((container.get("resources") or {}).get("requests"))
    return {CPU: DEFAULT_CPU_MILLIS, MEMORY: DEFAULT_MEMORY_BYTES} | asked if with_defaults else asked


def _sum(parts: Iterable[Amounts]) -> Amounts:
    total: Amounts = {}
    for part in parts:
        for resource, value in part.items():
            total[resource] = total.get(resource, 0) + value
    return total


def _largest(one: Amounts, other: Amounts) -> Amounts:
    return {resource: max(one.get(resource, 0), other.get(resource, 0)) for resource in {**one, **other}}
