"""Whether a pod may run on this node at all: what it needs is there, its ports are free, its selectors fit. Pure.

The scheduler has looked at the same before; this guards against what it did not know (static pods, races, pods bound by
hand). A pod that is not admitted fails with the reason, and is never tried again.
Source: kubelet's lifecycle predicate admission handler; Kubernetes docs, "Node affinity".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from orchestrator.api import meta, quantity
from orchestrator.api.meta import Object
from orchestrator.kubelet import podspec

OS_LABEL, OURS = "kubernetes.io/os", "linux"
UNITS = {"cpu": 1000}  # amounts in messages: millis of CPU, else the resource's own unit


class Refusal(NamedTuple):
    reason: str
    message: str


def admit(pod: Object, node: Object, others: Iterable[Object]) -> Refusal | None:
    """`others` are the pods that this node has admitted and that have not ended."""
    labels, spec = meta.labels(node), podspec.spec(pod)
    if meta.labels(pod).get(OS_LABEL, OURS) != OURS:
        message = "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label"
        return Refusal("PodOSSelectorNodeLabelDoesNotMatch", message)
    if (spec.get("os") or {}).get("name", OURS) != OURS:
        return Refusal("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS")
    selector: Mapping[str, str] = spec.get("nodeSelector") or {}
    if any(labels.get(key) != value for key, value in selector.items()) or not _fits_affinity(spec, node):
        return Refusal("NodeAffinity", "Pod was rejected: Predicate NodeAffinity failed")
    others = list(others)
    taken = {port[:3] for other in others for port in podspec.host_ports(other)}
    for address, protocol, number, _ in podspec.host_ports(pod):
        if any(_collides((address, protocol, number), known) for known in taken):
            return Refusal("NodePorts", "Pod was rejected: Predicate NodePorts failed")
    shortage = fits_resources(pod, node, others)
    return shortage and Refusal(shortage.reason, f"Pod was rejected: {shortage.message}")


def _collides(wanted: tuple[str, str, int], known: tuple[str, str, int]) -> bool:
    every = ("", "0.0.0.0", "::")
    return wanted[1:] == known[1:] and (wanted[0] == known[0] or wanted[0] in every or known[0] in every)


def fits_resources(pod: Object, node: Object, others: list[Object]) -> Refusal | None:
    """What of the node's resources is too scarce: asked of a pod that comes, and of one that is resized."""
    allocatable: Mapping[str, Any] = (node.get("status") or {}).get("allocatable") or {}
    used: dict[str, Decimal] = {}
    for other in others:
        for resource, amount in podspec.pod_requests(other).items():
            used[resource] = used.get(resource, Decimal(0)) + amount
    pods_max = quantity.ceil(allocatable.get("pods", "0"))
    if len(others) + 1 > pods_max:
        return _out_of("pods", Decimal(1), Decimal(len(others)), Decimal(pods_max))
    for resource, amount in sorted(podspec.pod_requests(pod).items()):
        capacity = quantity.parse(allocatable.get(resource, "0"))
        if amount and used.get(resource, Decimal(0)) + amount > capacity:
            return _out_of(resource, amount, used.get(resource, Decimal(0)), capacity)
    return None


def _out_of(resource: str, requested: Decimal, used: Decimal, capacity: Decimal) -> Refusal:
    unit = UNITS.get(resource, 1)
    amounts = f"requested: {int(requested * unit)}, used: {int(used * unit)}, capacity: {int(capacity * unit)}"
    return Refusal(
        f"OutOf{resource}",
        f"Node didn't have enough resource: {resource}, {amounts}",
    )


def _fits_affinity(spec: Mapping[str, Any], node: Object) -> bool:
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if not required:
        return True
    return any(_matches_term(term, node) for term in required.get("nodeSelectorTerms") or ())


def _matches_term(term: Mapping[str, Any], node: Object) -> bool:
    fields = {"metadata.name": meta.name(node)}
    expressions, by_field = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not by_field:
        return False
    return all(_matches(rule, meta.labels(node)) for rule in expressions) and all(
        _matches(rule, fields) for rule in by_field
    )


def _matches(rule: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value, values = labels.get(rule["key"]), rule.get("values") or []
    match rule["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" as operator:
            if value is None or not value.lstrip("-").isdigit():
                return False
            return int(value) > int(values[0]) if operator == "Gt" else int(value) < int(values[0])
    return False
