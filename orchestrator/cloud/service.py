"""The service controller: every Service of type LoadBalancer gets one, with its addresses in the Service's status.

    wants one:      finalizer → ensure → status          no longer, or deleted:     delete → finalizer off

Before anything new is made, the cloud is told of all load balancers that there should be, with the addresses that their
Services say they have, so a restart changes none. A Service whose wish and status are as they were left is not
touched, and nothing is said about it.
Source: cloud-provider controllers/service; event reasons are upstream's.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from msgspec.structs import replace

from orchestrator.api import meta, status
from orchestrator.api.meta import Object
from orchestrator.api.resources import NODES, SERVICES
from orchestrator.client.loop import Loop
from orchestrator.cloud import service_plan
from orchestrator.cloud.context import Context
from orchestrator.cloud.provider import CloudError, LoadBalancer, LoadBalancers
from orchestrator.cloud.service_plan import FINALIZER, NotServable

log = logging.getLogger(__name__)

RETRY_S = 5.0


class ServiceController:
    """Load balancers of all Services."""

    def __init__(self, context: Context, load_balancers: LoadBalancers) -> None:
        self._client = context.client
        self._load_balancers = load_balancers
        self._recorder = context.recorder("service-controller")
        self._services = context.informers.informer(SERVICES)
        self._nodes = context.informers.informer(NODES)
        self.loop = Loop("service", self.reconcile)
        self._made: dict[str, LoadBalancer] = {}  # by the Service's key: as last ensured
        self._waiting: set[str] = set()  # keys of Services that could not be served
        self._services.add_handler(self._service_changed)
        self._nodes.add_handler(self._node_changed)

    async def run(self) -> None:
        while True:
            try:
                await self._restore()
                break
            except CloudError as error:
                log.warning("load balancers not restored", extra={"error": str(error)})
                await asyncio.sleep(RETRY_S)
        await self.loop.run()

    async def _restore(self) -> None:
        wishes = []
        for service in service_plan.oldest_first(self._services.cache.list()):
            if service_plan.wants(service):
                try:
                    wishes.append(service_plan.wish(service, self._nodes.cache.list()))
                except NotServable:
                    continue  # it is told so when it is its turn
        await self._load_balancers.restore(wishes)

    def _service_changed(self, old: Object | None, new: Object | None) -> None:
        service = new or old or {}
        key = meta.key(service)
        if key in self._made or service_plan.wants(service) or service_plan.needs_cleanup(service):
            self.loop.queue.add(key)

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        before, after = (service_plan.backends([node] if node else []) for node in (old, new))
        if before != after:
            for key in sorted(self._made):
                self.loop.queue.add(key)

    async def reconcile(self, key: str) -> None:
        service = self._services.cache.get(key)
        made = self._made.get(key)
        if made is not None and (service is None or service_plan.name(service) != made.name):
            await self._delete_orphan(key, made)
        if service is None:
            return
        if service_plan.wants(service):
            await self._ensure(key, service)
        elif service_plan.needs_cleanup(service) or key in self._made:
            await self._clean_up(key, service)

    async def _delete_orphan(self, key: str, made: LoadBalancer) -> None:
        """Its Service went without waiting for us: somebody has taken the finalizer off."""
        try:
            await self._load_balancers.delete(made.name)
        except CloudError as error:
            raise status.ServiceUnavailable(f"failed to delete load balancer: {error}") from error
        self._forget(key)

    async def _ensure(self, key: str, service: Object) -> None:
        try:
            wanted = service_plan.wish(service, self._nodes.cache.list())
            before = self._made.get(key)
            if before is not None and _same(wanted, before):
                await self._tell(service, before.held)
                return
            only_nodes = before is not None and _same(replace(wanted, backends=before.backends), before)
            if not only_nodes:
                self._recorder.event(service, "Normal", "EnsuringLoadBalancer", "Ensuring load balancer")
            service = await self._with_finalizer(service)
            if not wanted.backends:
                message = "There are no available nodes for LoadBalancer"
                self._recorder.event(service, "Warning", "UnAvailableLoadBalancer", message)
            addresses = await self._load_balancers.ensure(wanted)
        except (CloudError, NotServable) as error:
            self._fail(key, service, f"failed to ensure load balancer: {error}")
            return
        self._made[key] = replace(wanted, held=addresses)
        self._waiting.discard(key)
        if only_nodes:
            message = "Updated load balancer with new hosts"
            self._recorder.event(service, "Normal", "UpdatedLoadBalancer", message)
        else:
            log.info("load balancer ensured", extra={"service": key, "addresses": ", ".join(addresses)})
            self._recorder.event(service, "Normal", "EnsuredLoadBalancer", "Ensured load balancer")
        await self._tell(service, addresses)

    async def _clean_up(self, key: str, service: Object) -> None:
        self._recorder.event(service, "Normal", "DeletingLoadBalancer", "Deleting load balancer")
        try:
            await self._load_balancers.delete(service_plan.name(service))
        except CloudError as error:
            self._fail(key, service, f"failed to delete load balancer: {error}")
            return
        self._forget(key)
        log.info("load balancer deleted", extra={"service": key})
        self._recorder.event(service, "Normal", "DeletedLoadBalancer", "Deleted load balancer")
        if service_plan.held(service) and not meta.is_deleting(service):
            await self._tell(service, ())
        left = [one for one in meta.finalizers(service) if one != FINALIZER]
        if left != meta.finalizers(service):
            try:
                await self._set_finalizers(service, left)
            except status.NotFound:
                return

    def _forget(self, key: str) -> None:
        """What waits for an address may have it now."""
        self._made.pop(key, None)
        self._waiting.discard(key)
        for other in sorted(self._waiting):
            self.loop.queue.add(other)

    def _fail(self, key: str, service: Object, why: str) -> None:
        log.warning("load balancer not in order", extra={"service": key, "error": why})
        self._recorder.event(service, "Warning", "SyncLoadBalancerFailed", f"Error syncing load balancer: {why}")
        self._waiting.add(key)
        self.loop.queue.add_after(key, RETRY_S)

    async def _with_finalizer(self, service: Object) -> Object:
        if FINALIZER in meta.finalizers(service):
            return service
        return await self._set_finalizers(service, [*meta.finalizers(service), FINALIZER])

    async def _set_finalizers(self, service: Object, finalizers: list[str]) -> Object:
        """Conflict where the Service has changed since it was seen: then it is looked at again."""
        patch = {"metadata": {"finalizers": finalizers, "resourceVersion": meta.resource_version(service)}}
        return await self._client.patch(SERVICES, meta.name(service), meta.namespace(service), patch)

    async def _tell(self, service: Object, addresses: tuple[str, ...]) -> None:
        if _is_told(service, addresses):
            return
        wanted: dict[str, Any] = service_plan.status(addresses) or {"ingress": None}
        patch = {"status": {"loadBalancer": wanted}}
        try:
            place = (meta.name(service), meta.namespace(service))
            await self._client.patch(SERVICES, *place, patch, subresource="status")
        except status.NotFound:
            return


def _same(wanted: LoadBalancer, before: LoadBalancer) -> bool:
    """But for the addresses that it holds, which are an answer rather than a wish."""
    return replace(wanted, held=()) == replace(before, held=())


def _is_told(service: Object, addresses: tuple[str, ...]) -> bool:
    known = (service.get("status") or {}).get("loadBalancer") or {}
    return (known.get("ingress") or []) == (service_plan.status(addresses).get("ingress") or [])
