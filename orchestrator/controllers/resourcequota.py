"""ResourceQuota status: what of a namespace's quota is used, counted anew whenever something that counts changes.

It is a report for users: admission counts for itself, by the same rules (`orchestrator/api/quota_usage.py`). The kinds
that have names of their own in quotas, and the commonest, are always followed. Any other that some quota names as
`count/<plural>.<group>` is followed while it is named and served, by its metadata: a custom resource too, whichever of
quota and definition comes first. A resource that nobody counts yet has no number in the status; one that cannot be
counted any more keeps its last.
Source: Concepts, "Resource Quotas"; API reference v1 ResourceQuota; upstream pkg/controller/resourcequota.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from decimal import Decimal
from math import inf
from typing import Any

from orchestrator.api import meta, quantity, quota_scopes
from orchestrator.api.meta import Object
from orchestrator.api.podresources import Amounts, added
from orchestrator.api.quota_usage import charged_until, kind_of, kinds_of, usage
from orchestrator.api.resources import (
    CONFIGMAPS,
    CRONJOBS,
    CUSTOMRESOURCEDEFINITIONS,
    DEPLOYMENTS,
    JOBS,
    PERSISTENTVOLUMECLAIMS,
    PODS,
    REPLICASETS,
    REPLICATIONCONTROLLERS,
    RESOURCECLAIMS,
    RESOURCEQUOTAS,
    SECRETS,
    SERVICES,
    STATEFULSETS,
    Resource,
)
from orchestrator.client.cache import by_namespace
from orchestrator.client.discovery import Discovered, discover
from orchestrator.client.informer import Handler, Informer
from orchestrator.client.loop import Loop
from orchestrator.controllers.context import Context
from orchestrator.controllers.fields import spec, status_of, with_status

FOLLOWED = (
    PODS, SERVICES, PERSISTENTVOLUMECLAIMS, REPLICATIONCONTROLLERS, CONFIGMAPS, SECRETS, RESOURCEQUOTAS, REPLICASETS,
    DEPLOYMENTS, STATEFULSETS, JOBS, CRONJOBS, RESOURCECLAIMS,
)  # fmt: skip
ALWAYS = frozenset(resource.group_resource for resource in FOLLOWED)
REQUIRED = {"create", "list", "watch", "delete"}  # what is not made and deleted is not counted
INDEXERS = {"namespace": by_namespace}
NAMED, SERVED = "named", "served"  # why to look at what is followed: quotas name others, or the server may serve others
SETTLE_S = 0.2  # many objects come at once: they are counted once
DEFINED_S = 0.5  # a definition changes several times before it is served
SYNC_MAX_S = 5.0  # what does not answer must not keep others waiting
LOOK_AGAIN_S = 30.0  # for what no definition announces: another server's resources


def used(quota: Object, by_resource: Mapping[str, Iterable[Object]], now: float) -> dict[str, str]:
    """What is used of each of the quota's resources whose objects `by_resource` has: the namespace's, `pods` →, …"""
    names = sorted(name for name in hard_of(quota) if kind_of(name) in by_resource)
    total: Amounts = {}
    for kind in sorted(kinds_of(names)):
        for obj in by_resource[kind]:
            found = usage(kind, obj, now)
            if quota_scopes.covers(spec(quota), found.scopes):
                total = added(total, found.amounts)
    return {name: quantity.format_used(name, total.get(name, Decimal(0))) for name in names}


def hard_of(quota: Object) -> Mapping[str, Any]:
    return spec(quota).get("hard") or {}


class ResourceQuotaController:
    """Keeps the status of quotas."""

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._clock = context.clock
        self._informers = context.informers
        self.loop = Loop("resourcequota", self.reconcile)
        self._discoveries = Loop("resourcequota discovery", self._rediscover, workers=1)
        self._named: dict[str, tuple[Informer, Handler]] = {}  # group_resource →; beside those that are always followed
        self._always = {
            resource.group_resource: context.informers.informer(resource, indexers=INDEXERS) for resource in FOLLOWED
        }
        self._quotas = self._always[RESOURCEQUOTAS.group_resource]
        self._quotas.add_handler(self._quota_changed)
        for name, informer in self._always.items():
            informer.add_handler(self._handler(name))
        definitions = context.informers.shared(CUSTOMRESOURCEDEFINITIONS)
        definitions.add_handler(lambda old, new: self._discoveries.queue.add_after(SERVED, DEFINED_S))

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._discoveries.run())
            group.create_task(self.loop.run())

    # What is followed

    def _quota_changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None:
            self.loop.queue.add(meta.key(new))
        if kinds_of(hard_of(old or {})) - ALWAYS != kinds_of(hard_of(new or {})) - ALWAYS:
            self._discoveries.queue.add(NAMED)

    def _handler(self, group_resource: str) -> Handler:
        def changed(old: Object | None, new: Object | None) -> None:
            for quota in self._quotas.cache.by_index("namespace", meta.namespace(new or old or {})):
                if group_resource in kinds_of(hard_of(quota)):
                    self.loop.queue.add_after(meta.key(quota), SETTLE_S)

        return changed

    async def _rediscover(self, why: str) -> None:
        """Follows what quotas name besides, and nothing else."""
        wanted = {kind for quota in self._quotas.cache.list() for kind in kinds_of(hard_of(quota))} - ALWAYS
        for name in self._named.keys() - wanted:
            self._unfollow(name)
        if not wanted or (why == NAMED and wanted <= self._named.keys()):
            return
        discovered = await discover(self._client)
        served = {each.group_resource: each for each in discovered.resources if is_counted(each)}
        for name in self._named.keys() - served.keys():
            if not is_unknown(self._named[name][0].resource, discovered):
                self._unfollow(name)
        for name in sorted(wanted & (served.keys() - self._named.keys())):
            self._follow(served[name])
        if wanted - self._named.keys():
            self._discoveries.queue.add_after(SERVED, LOOK_AGAIN_S)
        await self._synced()
        for quota in self._quotas.cache.list():
            if wanted & kinds_of(hard_of(quota)):
                self.loop.queue.add(meta.key(quota))

    def _follow(self, resource: Resource) -> None:
        informer = self._informers.shared(resource, indexers=INDEXERS)
        handler = self._handler(resource.group_resource)
        self._named[resource.group_resource] = informer, handler
        informer.add_handler(handler)

    def _unfollow(self, group_resource: str) -> None:
        informer, handler = self._named.pop(group_resource)
        informer.remove_handler(handler)
        self._informers.release(informer)

    async def _synced(self) -> None:
        """Until all that is followed can be counted; what takes longer is looked at again."""
        try:
            async with asyncio.timeout(SYNC_MAX_S):
                for informer, _ in list(self._named.values()):
                    await informer.wait_synced()
        except TimeoutError:
            self._discoveries.queue.add_after(SERVED, SYNC_MAX_S)

    # What is counted

    async def reconcile(self, key: str) -> None:
        quota = self._quotas.cache.get(key)
        if quota is None or meta.is_deleting(quota):
            return
        hard, told = hard_of(quota), status_of(quota).get("used") or {}
        kept = {name: told[name] for name in hard if name in told}
        objects, now = self._objects(meta.namespace(quota)), self._clock.now()
        counted = used(quota, objects, now)
        wanted = {"hard": hard, "used": dict(sorted({**kept, **counted}.items()))}
        if wanted != status_of(quota):
            await self._client.update(RESOURCEQUOTAS, with_status(quota, wanted), subresource="status")
        ends = [charged_until(pod) for pod in objects.get(PODS.group_resource, ())]
        if later := [end for end in ends if now <= end < inf]:  # nothing happens then that would tell of it
            self.loop.queue.add_after(key, min(later) - now + SETTLE_S)

    def _objects(self, namespace: str) -> dict[str, list[Object]]:
        """By resource, of each whose state is known."""
        followed = {**self._always, **{name: informer for name, (informer, _) in self._named.items()}}
        return {
            name: informer.cache.by_index("namespace", namespace)
            for name, informer in followed.items()
            if informer.synced
        }


def is_counted(resource: Resource) -> bool:
    return resource.namespaced and set(resource.verbs) >= REQUIRED


def is_unknown(resource: Resource, discovered: Discovered) -> bool:
    """Whether discovery had no answer about a resource's group."""
    return any(failed.rpartition("/")[0] == resource.group for failed in discovered.failures)
