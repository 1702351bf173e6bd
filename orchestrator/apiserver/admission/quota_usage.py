"""What an object uses of a quota: a few numbers by resource name, and the scopes that it falls into. Pure.

Names of quotas: `pods`, `requests.cpu` (also `cpu`), `limits.memory`, `services.nodeports`, `requests.storage`,
`<class>.storageclass.storage.k8s.io/requests.storage`, and `count/<plural>.<group>` for any kind.
Source: Kubernetes docs, "Resource Quotas".
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from msgspec import Struct

from orchestrator.api import quota_scopes
from orchestrator.api.meta import Object
from orchestrator.api.quota_scopes import Scopes
from orchestrator.apiserver.admission.podresources import Amounts, amounts, pod_amounts

# Kinds that may be counted by their bare name; every other only as count/….
BARE = frozenset(
    ("pods", "services", "configmaps", "secrets", "persistentvolumeclaims", "replicationcontrollers", "resourcequotas")
)
TERMINAL = ("Succeeded", "Failed")
COMPUTE = ("cpu", "memory", "ephemeral-storage")
CLASS_SUFFIX = ".storageclass.storage.k8s.io/"


class Usage(Struct, frozen=True):
    amounts: Amounts
    scopes: Scopes = quota_scopes.NONE
    is_pod: bool = False


def usage(group_resource: str, obj: Object) -> Usage:
    one = Decimal(1)
    found: Amounts = {f"count/{group_resource}": one}
    if group_resource == "pods":
        return _pod(obj, found)
    if group_resource in BARE:
        found[group_resource] = one
    if group_resource == "services":
        _service(obj, found)
    elif group_resource == "persistentvolumeclaims":
        _claim(obj, found)
        return Usage(found, quota_scopes.of_claim(obj))
    return Usage(found)


def _pod(pod: Object, found: Amounts) -> Usage:
    spec = pod.get("spec") or {}
    requests, limits = pod_amounts(spec, "requests"), pod_amounts(spec, "limits")
    if (pod.get("status") or {}).get("phase") not in TERMINAL:  # a finished pod takes up nothing but its record
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


def kinds_of(names: Iterable[str]) -> set[str]:
    """The group_resources whose objects use any of these quota names."""
    return {_kind_of(name) for name in names}


def _kind_of(name: str) -> str:
    if name.startswith("count/"):
        return name.removeprefix("count/")
    if name.startswith("services"):
        return "services"
    if name == "requests.storage" or CLASS_SUFFIX in name:
        return "persistentvolumeclaims"
    return name if name in BARE else "pods"


def unspecified(pod: Object, hard: Iterable[str]) -> list[str]:
    """A quota on cpu or memory can only be held if every container says how much: those that do not, by resource."""
    missing: dict[str, list[str]] = {}
    spec = pod.get("spec") or {}
    for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
        resources = container.get("resources") or {}
        for name in hard:
            kind, _, resource = name.rpartition(".") if name.startswith(("requests.", "limits.")) else ("", "", name)
            present = resources.get("limits" if kind == "limits" else "requests") or {}
            if resource in COMPUTE and resource not in present:
                missing.setdefault(name, []).append(container["name"])
    return [f"{name} for: {','.join(sorted(missing[name]))}" for name in sorted(missing)]
