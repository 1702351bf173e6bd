"""What an object uses of a quota: a few numbers by resource name, and the scopes that it falls into. Pure.

Admission and the controller that reports a quota's status count by the same rules. Names of quotas: `pods`,
`requests.cpu` (also `cpu`), `limits.memory`, `services.nodeports`, `requests.storage`,
`<class>.storageclass.storage.k8s.io/requests.storage`, `<class>.deviceclass.resource.k8s.io/devices`, and
`count/<plural>.<group>` for any kind, also one that a CustomResourceDefinition or another server brings.
Deviation: devices that a pod asks for as an extended resource are counted as the pod's request alone
(`requests.<domain>/<name>`). Upstream counts device claims towards that name too, and towards
`requests.deviceclass.resource.kubernetes.io/<class>`, less what their pods count for already (DRAExtendedResource).
Source: Kubernetes docs, "Resource Quotas"; upstream pkg/quota/v1/evaluator/core.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from math import inf
from typing import Any

from msgspec import Struct

from orchestrator.api import meta, quota_scopes
from orchestrator.api.meta import Object
from orchestrator.api.podresources import Amounts, amounts, in_force, pod_amounts
from orchestrator.api.quota_scopes import Scopes
from orchestrator.api.resources import RESOURCECLAIMS

# Kinds that may be counted by their bare name; every other only as count/….
BARE = frozenset(
    ("pods", "services", "configmaps", "secrets", "persistentvolumeclaims", "replicationcontrollers", "resourcequotas")
)
TERMINAL = ("Succeeded", "Failed")
COMPUTE = ("cpu", "memory", "ephemeral-storage")
CLASS_SUFFIX = ".storageclass.storage.k8s.io/"
DEVICES_SUFFIX = ".deviceclass.resource.k8s.io/devices"
ALLOCATED_MAX = 32  # devices of one claim, whatever it asks for
COUNT = "count/"


class Usage(Struct, frozen=True):
    amounts: Amounts
    scopes: Scopes = quota_scopes.NONE
    is_pod: bool = False


def usage(group_resource: str, obj: Object, now: float) -> Usage:
    """`now` in seconds since the epoch: a pod that should be gone by then takes up nothing but its record."""
    one = Decimal(1)
    found: Amounts = {f"{COUNT}{group_resource}": one}
    if group_resource == "pods":
        return _pod(obj, found, now)
    if group_resource in BARE:
        found[group_resource] = one
    if group_resource == "services":
        _service(obj, found)
    elif group_resource == "persistentvolumeclaims":
        _claim(obj, found)
        return Usage(found, quota_scopes.of_claim(obj))
    elif group_resource == RESOURCECLAIMS.group_resource:
        _devices(obj, found)
    return Usage(found)


def charged_until(pod: Object) -> float:
    """Until when a pod that nobody ends any more (its node is lost, say) keeps others out: its grace period after the
    time of its deletion, in seconds since the epoch; infinite while it is not deleted, minus that where it is over."""
    if (pod.get("status") or {}).get("phase") in TERMINAL:
        return -inf
    metadata = meta.metadata(pod)
    deleted, grace_s = metadata.get("deletionTimestamp"), metadata.get("deletionGracePeriodSeconds")
    return inf if deleted is None or grace_s is None else meta.parse_time(deleted) + grace_s


def _pod(pod: Object, found: Amounts, now: float) -> Usage:
    spec = pod.get("spec") or {}
    charged = in_force(pod)
    requests, limits = pod_amounts(charged, "requests"), pod_amounts(charged, "limits")
    if now <= charged_until(pod):
        found["pods"] = Decimal(1)
        found |= {f"requests.{name}": value for name, value in requests.items()}
        found |= {name: value for name, value in requests.items() if name in COMPUTE or name.startswith("hugepages-")}
        found |= {f"limits.{name}": value for name, value in limits.items()}
    is_best_effort = not any(found.get(name) for found in (requests, limits) for name in ("cpu", "memory"))
    return Usage(found, quota_scopes.of_pod(spec, is_best_effort=is_best_effort), True)


def _service(service: Object, found: Amounts) -> None:
    spec = service.get("spec") or {}
    ports = Decimal(len(spec.get("ports") or ()))
    if spec.get("type") == "NodePort":
        found["services.nodeports"] = ports
    elif spec.get("type") == "LoadBalancer":
        found["services.loadbalancers"] = Decimal(1)
        if spec.get("allocateLoadBalancerNodePorts") is False:
            ports = Decimal(sum(1 for port in spec.get("ports") or () if port.get("nodePort")))
        found["services.nodeports"] = ports


def _claim(claim: Object, found: Amounts) -> None:
    spec = claim.get("spec") or {}
    storage = amounts((spec.get("resources") or {}).get("requests")).get("storage", Decimal(0))
    found["requests.storage"] = storage
    if name := spec.get("storageClassName"):
        found[f"{name}{CLASS_SUFFIX}requests.storage"] = storage
        found[f"{name}{CLASS_SUFFIX}persistentvolumeclaims"] = Decimal(1)


def _devices(claim: Object, found: Amounts) -> None:
    """Requests add up by class. One with alternatives may get any of them, so of each class it counts the most that one
    of them asks for."""
    for request in ((claim.get("spec") or {}).get("devices") or {}).get("requests") or ():
        most: Amounts = {}
        for one in request.get("firstAvailable") or filter(None, [request.get("exactly")]):
            name = f"{one.get('deviceClassName')}{DEVICES_SUFFIX}"
            most[name] = max(most.get(name, Decimal(0)), _device_count(one))
        for name, count in most.items():
            found[name] = found.get(name, Decimal(0)) + count


def _device_count(request: Mapping[str, Any]) -> Decimal:
    match request.get("allocationMode"):
        case "ExactCount":
            return Decimal(request.get("count") or 0)
        case "All":  # nobody knows yet how many these will be
            return Decimal(ALLOCATED_MAX)
    return Decimal(0)


def kinds_of(names: Iterable[str]) -> set[str]:
    """The group_resources whose objects use any of these quota names."""
    return {kind_of(name) for name in names}


def kind_of(name: str) -> str:
    if name.startswith(COUNT):
        return name.removeprefix(COUNT)
    if name.startswith("services"):
        return "services"
    if name == "requests.storage" or CLASS_SUFFIX in name:
        return "persistentvolumeclaims"
    if name.endswith(DEVICES_SUFFIX):
        return RESOURCECLAIMS.group_resource
    return name if name in BARE else "pods"


def unspecified(pod: Object, hard: Iterable[str]) -> list[str]:
    """A quota on cpu or memory can only be held if every container says how much, or the whole pod does: those that do
    not, by resource."""
    missing: dict[str, list[str]] = {}
    spec = pod.get("spec") or {}
    if any((spec.get("resources") or {}).get(kind) for kind in ("requests", "limits")):
        return []
    for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
        resources = container.get("resources") or {}
        for name in hard:
            kind, _, resource = name.rpartition(".") if name.startswith(("requests.", "limits.")) else ("", "", name)
            present = resources.get("limits" if kind == "limits" else "requests") or {}
            if resource in COMPUTE and resource not in present:
                missing.setdefault(name, []).append(container["name"])
    return [f"{name} for: {','.join(sorted(missing[name]))}" for name in sorted(missing)]
