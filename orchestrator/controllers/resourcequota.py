"""ResourceQuota status: what of a namespace's quota is used, counted anew whenever something that counts changes.

It is a report for users: admission counts for itself. Pods that ended do not count but as records. Resources: requests
and limits of compute and extended resources, the objects with a bare name, services by type, storage of claims, and
`count/<plural>.<group>` of the kinds that are followed here.
Source: Concepts, "Resource Quotas"; API reference v1 ResourceQuota.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from orchestrator.api import meta, quantity, quota_scopes
from orchestrator.api.meta import Object
from orchestrator.api.quota_scopes import Scopes
from orchestrator.api.resources import (
    CONFIGMAPS,
    CRONJOBS,
    DEPLOYMENTS,
    JOBS,
    PERSISTENTVOLUMECLAIMS,
    PODS,
    REPLICASETS,
    REPLICATIONCONTROLLERS,
    RESOURCEQUOTAS,
    SECRETS,
    SERVICES,
    STATEFULSETS,
)
from orchestrator.client.cache import by_namespace
from orchestrator.client.loop import Loop
from orchestrator.controllers import pods
from orchestrator.controllers.context import Context
from orchestrator.controllers.fields import spec, status_of, with_status

FOLLOWED = (
    PODS, SERVICES, PERSISTENTVOLUMECLAIMS, REPLICATIONCONTROLLERS, CONFIGMAPS, SECRETS, RESOURCEQUOTAS, REPLICASETS,
    DEPLOYMENTS, STATEFULSETS, JOBS, CRONJOBS,
)  # fmt: skip
COMPUTE = ("cpu", "memory", "ephemeral-storage")
CLASS_SUFFIX = ".storageclass.storage.k8s.io/"
SETTLE_S = 0.2  # many objects come at once: they are counted once

Amounts = dict[str, Decimal]


def used(quota: Object, by_resource: Mapping[str, Iterable[Object]]) -> dict[str, str]:
    """Each resource of the quota with what is used of it; `by_resource` has the namespace's objects, `pods` →, …"""
    total: Amounts = {}
    for name, objects in by_resource.items():
        for obj in objects:
            if not quota_scopes.covers(spec(quota), scopes_of(name, obj)):
                continue
            for resource, amount in usage(name, obj).items():
                total[resource] = total.get(resource, Decimal(0)) + amount
    hard = spec(quota).get("hard") or {}
    return {resource: quantity.format_used(resource, total.get(resource, Decimal(0))) for resource in sorted(hard)}


def usage(resource: str, obj: Object) -> Amounts:
    """What one object uses."""
    one = Decimal(1)
    found: Amounts = {f"count/{resource}": one}
    if "." not in resource and not (resource == "pods" and pods.is_terminal(obj)):
        found[resource] = one
    if resource == "pods" and not pods.is_terminal(obj):
        for kind in ("requests", "limits"):
            for name, amount in pod_amounts(spec(obj), kind).items():
                found[f"{kind}.{name}"] = amount
                if kind == "requests" and (name in COMPUTE or name.startswith("hugepages-")):
                    found[name] = amount
    elif resource == "services":
        exposure = spec(obj).get("type")
        ports = sum(1 for port in spec(obj).get("ports") or () if port.get("nodePort"))
        found |= {"services.nodeports": Decimal(ports)} if exposure in ("NodePort", "LoadBalancer") else {}
        found |= {"services.loadbalancers": one} if exposure == "LoadBalancer" else {}
    elif resource == "persistentvolumeclaims":
        storage = ((spec(obj).get("resources") or {}).get("requests") or {}).get("storage", 0)
        found["requests.storage"] = quantity.parse(storage)
        if storage_class := spec(obj).get("storageClassName"):
            found[f"{storage_class}{CLASS_SUFFIX}requests.storage"] = quantity.parse(storage)
            found[f"{storage_class}{CLASS_SUFFIX}persistentvolumeclaims"] = one
    return found


def pod_amounts(pod_spec: Mapping[str, Any], kind: str) -> Amounts:
    """A pod's requests or limits: its containers' and sidecars' sum, or the largest init container if that is more."""
    total: Amounts = {}
    largest: Amounts = {}
    for container in pod_spec.get("containers") or ():
        _add(total, container, kind)
    for container in pod_spec.get("initContainers") or ():
        if container.get("restartPolicy") == "Always":
            _add(total, container, kind)
            continue
        for name, text in _listed(container, kind):
            largest[name] = max(largest.get(name, Decimal(0)), quantity.parse(text))
    found = {name: max(total.get(name, Decimal(0)), largest.get(name, Decimal(0))) for name in {**total, **largest}}
    for name, text in _listed(pod_spec, kind):  # limits of the whole pod stand in place of its containers'
        found[name] = quantity.parse(text)
    for name, text in (pod_spec.get("overhead") or {}).items():
        if kind == "requests" or name in found:
            found[name] = found.get(name, Decimal(0)) + quantity.parse(text)
    return found


def _listed(holder: Mapping[str, Any], kind: str) -> Iterable[tuple[str, str]]:
    resources = holder.get("resources") or {}
    found = dict(resources.get(kind) or {})
    if kind == "requests":  # a limit without a request is the request
        found = {**(resources.get("limits") or {}), **found}
    return found.items()


def _add(total: Amounts, container: Mapping[str, Any], kind: str) -> None:
    for name, text in _listed(container, kind):
        total[name] = total.get(name, Decimal(0)) + quantity.parse(text)


def scopes_of(resource: str, obj: Object) -> Scopes:
    """Of one object, by the name of its resource."""
    if resource == "persistentvolumeclaims":
        return quota_scopes.of_claim(obj)
    if resource != "pods":
        return quota_scopes.NONE
    described = spec(obj)
    found = (pod_amounts(described, kind).get(name) for kind in ("requests", "limits") for name in ("cpu", "memory"))
    return quota_scopes.of_pod(described, is_best_effort=not any(found))


class ResourceQuotaController:
    """Keeps the status of quotas."""

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self.loop = Loop("resourcequota", self.reconcile)
        self._informers = {
            resource.group_resource: context.informers.informer(resource, indexers={"namespace": by_namespace})
            for resource in FOLLOWED
        }
        self._quotas = self._informers[RESOURCEQUOTAS.group_resource]
        for informer in self._informers.values():
            informer.add_handler(self._changed)

    async def run(self) -> None:
        await self.loop.run()

    def _changed(self, old: Object | None, new: Object | None) -> None:
        obj = new or old or {}
        if obj.get("kind") == RESOURCEQUOTAS.kind and new is not None:
            self.loop.queue.add(meta.key(new))
        for quota in self._quotas.cache.by_index("namespace", meta.namespace(obj)):
            self.loop.queue.add_after(meta.key(quota), SETTLE_S)

    async def reconcile(self, key: str) -> None:
        quota = self._quotas.cache.get(key)
        if quota is None or meta.is_deleting(quota):
            return
        namespace = meta.namespace(quota)
        objects = {name: informer.cache.by_index("namespace", namespace) for name, informer in self._informers.items()}
        wanted = {"hard": spec(quota).get("hard") or {}, "used": used(quota, objects)}
        if wanted != status_of(quota):
            await self._client.update(RESOURCEQUOTAS, with_status(quota, wanted), subresource="status")
