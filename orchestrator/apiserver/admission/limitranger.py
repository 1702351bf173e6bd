"""LimitRanger: containers get a namespace's default requests and limits, and all must keep within its bounds.

A LimitRange has items for a Container, a Pod, or a PersistentVolumeClaim, each with min, max, defaults and the largest
ratio of limit to request. What a pod says itself is never changed.
Errors: Forbidden with every bound that is broken. Source: Kubernetes docs, "Limit Ranges"; words of kube-apiserver.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from orchestrator.api import quantity
from orchestrator.api.meta import Object
from orchestrator.api.podresources import Amounts, amounts, pod_amounts
from orchestrator.api.resources import LIMITRANGES
from orchestrator.apiserver.admission.chain import refuse
from orchestrator.apiserver.lookup import Lookup
from orchestrator.apiserver.request import Attributes

ANNOTATION = "kubernetes.io/limit-ranger"
CONTAINER, POD, CLAIM = "Container", "Pod", "PersistentVolumeClaim"
CONTAINER_LISTS = (("containers", "container"), ("initContainers", "init container"))

Item = Mapping[str, Any]
Quantities = dict[str, str]


class LimitRanger:
    operations = ("CREATE",)
    resources = ("pods", "persistentvolumeclaims")

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup

    async def mutate(self, attributes: Attributes) -> None:
        pod = attributes.object
        if pod is None or attributes.resource != "pods":
            return
        for limit_range in self._lookup.list(LIMITRANGES, attributes.namespace):
            requests, limits = defaults(items(limit_range))
            notes = list(fill(pod["spec"], requests, limits))
            if notes:
                annotations = pod["metadata"].setdefault("annotations", {})
                annotations[ANNOTATION] = "LimitRanger plugin set: " + "; ".join(notes)

    async def validate(self, attributes: Attributes) -> None:
        obj = attributes.object
        if obj is None:
            return
        found: list[str] = []
        for limit_range in self._lookup.list(LIMITRANGES, attributes.namespace):
            check = pod_faults if attributes.resource == "pods" else claim_faults
            found += check(obj, items(limit_range))
        found = list(dict.fromkeys(found))
        if found:
            raise refuse(attributes, found[0] if len(found) == 1 else f"[{', '.join(found)}]")


def items(limit_range: Object) -> list[Item]:
    return (limit_range.get("spec") or {}).get("limits") or []


def defaults(limits: Iterable[Item]) -> tuple[Quantities, Quantities]:
    """(requests, limits) for containers that say nothing: a bound serves as a default where none is given."""
    requests: Quantities = {}
    maxima: Quantities = {}
    for item in limits:
        if item.get("type") == CONTAINER:
            default = {**(item.get("max") or {}), **(item.get("default") or {})}
            maxima |= default
            requests |= {**(item.get("min") or {}), **default, **(item.get("defaultRequest") or {})}
    return requests, maxima


def fill(spec: dict[str, Any], requests: Quantities, limits: Quantities) -> Iterator[str]:
    """Fills in what containers lack; yields a note for each kind and container."""
    for field, word in CONTAINER_LISTS:
        for container in spec.get(field) or ():
            for kind, wanted in (("requests", requests), ("limits", limits)):
                resources = container.setdefault("resources", {})
                present = resources.get(kind) or {}
                lacking = {name: value for name, value in wanted.items() if name not in present}
                if lacking:
                    resources[kind] = {**present, **lacking}
                    yield f"{', '.join(sorted(lacking))} {kind[:-1]} for {word} {container['name']}"


def pod_faults(pod: Object, limits: Iterable[Item]) -> list[str]:
    spec = pod.get("spec") or {}
    found: list[str] = []
    for item in limits:
        if item.get("type") == CONTAINER:
            for field, _ in CONTAINER_LISTS:
                for container in spec.get(field) or ():
                    resources = container.get("resources") or {}
                    asked, most = amounts(resources.get("requests")), amounts(resources.get("limits"))
                    found += bounds(item, CONTAINER, asked, most)
        elif item.get("type") == POD:
            found += bounds(item, POD, pod_amounts(spec, "requests"), pod_amounts(spec, "limits"))
    return found


def bounds(item: Item, kind: str, requests: Amounts, limits: Amounts) -> list[str]:
    found = []
    for name, bound in sorted((item.get("min") or {}).items()):
        found += _too_small(f"minimum {name} usage per {kind} is {bound}", bound, requests.get(name), limits.get(name))
    for name, bound in sorted((item.get("max") or {}).items()):
        found += _too_large(f"maximum {name} usage per {kind} is {bound}", bound, requests.get(name), limits.get(name))
    for name, ratio in sorted((item.get("maxLimitRequestRatio") or {}).items()):
        found += _too_steep(f"{name} max limit to request ratio per {kind} is {ratio}", ratio, requests, limits, name)
    return found


def _too_small(rule: str, bound: str, request: Any, limit: Any) -> list[str]:
    if request is None:
        return [f"{rule}.  No request is specified"]
    if request < quantity.parse(bound):
        return [f"{rule}, but request is {_shown(request, bound)}"]
    if limit is not None and limit < quantity.parse(bound):
        return [f"{rule}, but limit is {_shown(limit, bound)}"]
    return []


def _too_large(rule: str, bound: str, request: Any, limit: Any) -> list[str]:
    if limit is None:
        return [f"{rule}.  No limit is specified"]
    if limit > quantity.parse(bound):
        return [f"{rule}, but limit is {_shown(limit, bound)}"]
    if request is not None and request > quantity.parse(bound):
        return [f"{rule}, but request is {_shown(request, bound)}"]
    return []


def _too_steep(rule: str, ratio: str, requests: Amounts, limits: Amounts, name: str) -> list[str]:
    request, limit = requests.get(name), limits.get(name)
    if not request:
        return [f"{rule}, but no request is specified or request is 0"]
    if not limit:
        return [f"{rule}, but no limit is specified or limit is 0"]
    observed = limit / request
    return [f"{rule}, but provided ratio is {observed:.6f}"] if observed > quantity.parse(ratio) else []


def claim_faults(claim: Object, limits: Iterable[Item]) -> list[str]:
    request = amounts(((claim.get("spec") or {}).get("resources") or {}).get("requests"))
    found = []
    for item in limits:
        if item.get("type") != CLAIM:
            continue
        for name, bound in sorted((item.get("min") or {}).items()):
            found += _too_small(f"minimum {name} usage per {CLAIM} is {bound}", bound, request.get(name), None)
        for name, bound in sorted((item.get("max") or {}).items()):
            rule, asked = f"maximum {name} usage per {CLAIM} is {bound}", request.get(name)
            if asked is None:
                found.append(f"{rule}.  No request is specified")
            elif asked > quantity.parse(bound):
                found.append(f"{rule}, but request is {_shown(asked, bound)}")
    return found


def _shown(value: Any, bound: str) -> str:
    """In the suffixes of the bound: an amount of memory beside one of memory."""
    return quantity.format_binary(value) if bound.endswith("i") else quantity.format_decimal(value)
