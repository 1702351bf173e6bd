"""EndpointSlices of Services with a selector, and their old form, Endpoints.

A change of a pod touches the Services that select it; only what a slice shows of a pod counts as a change. Both objects
are computed whole from the cache each time and written where they differ. Endpoints holds at most `ADDRESSES_MAX`
addresses and knows no terminating state: pods being deleted are left out. Slices that others made are not touched.
Source: Concepts, Service, EndpointSlices; API reference v1 Endpoints.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from typing import Any

from orchestrator.api import meta, status
from orchestrator.api.meta import Object
from orchestrator.api.resources import ENDPOINTS, ENDPOINTSLICES, NODES, PODS, SERVICES
from orchestrator.client.cache import by_namespace
from orchestrator.client.loop import Loop
from orchestrator.controllers import endpointslice_plan, pods, service_index
from orchestrator.controllers.context import Context
from orchestrator.controllers.endpoints_of import (
    HEADLESS,
    ZONE_LABEL,
    Backend,
    Port,
    backends,
    families,
    is_headless,
    sort_ports,
    target_reference,
)
from orchestrator.controllers.expectations import RECHECK_S, Expectations
from orchestrator.controllers.fields import spec, status_of
from orchestrator.controllers.pod_control import is_terminating_namespace

ADDRESSES_MAX = 1000
OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"
ENDPOINTS_MANAGED_BY = "endpoints.kubernetes.io/managed-by"


def by_service(obj: Object) -> Iterable[str]:
    name = meta.labels(obj).get(endpointslice_plan.SERVICE_NAME)
    is_ours = meta.labels(obj).get(endpointslice_plan.MANAGED_BY) == endpointslice_plan.MANAGER
    return (meta.join_key(meta.namespace(obj), name),) if name and is_ours else ()


def shown(pod: Object) -> tuple[Any, ...]:
    """What of a pod its endpoint depends on."""
    seen, described = status_of(pod), spec(pod)
    return (
        seen.get("podIPs") or seen.get("podIP"),
        pods.is_ready(pod),
        pods.is_terminal(pod),
        meta.is_deleting(pod),
        meta.labels(pod),
        described.get("nodeName"),
        described.get("hostname"),
        described.get("subdomain"),
    )


class EndpointSliceController:
    """Keeps slices and Endpoints of Services."""

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._recorder = context.recorder("endpoint-slice-controller")
        self.loop = Loop("endpointslice", self.reconcile)
        informers = context.informers
        self._services = informers.informer(SERVICES, indexers={service_index.INDEX: service_index.by_first_pair})
        self._slices = informers.informer(ENDPOINTSLICES, indexers={"service": by_service})
        self._endpoints = informers.informer(ENDPOINTS)
        self._pods = informers.informer(PODS, indexers={"namespace": by_namespace})
        self._nodes = informers.informer(NODES)
        self._slice_expectations = Expectations(self._slices)
        self._endpoints_expectations = Expectations(self._endpoints)
        self._services.add_handler(lambda old, new: self.loop.queue.add(meta.key(new or old or {})))
        self._slices.add_handler(self._slice_changed)
        self._endpoints.add_handler(self._endpoints_changed)
        self._pods.add_handler(self._pod_changed)
        self._nodes.add_handler(self._node_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _slice_changed(self, old: Object | None, new: Object | None) -> None:
        for each in (old, new):
            for key in by_service(each) if each else ():
                self.loop.queue.add(key)

    def _endpoints_changed(self, old: Object | None, new: Object | None) -> None:
        key = meta.key(new or old or {})
        if key in self._services.cache:
            self.loop.queue.add(key)

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        if old is not None and new is not None and shown(old) == shown(new):
            return
        for pod in (old, new):
            if pod is not None:
                for service in service_index.selecting(self._services.cache, pod):
                    self.loop.queue.add(meta.key(service))

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        """Zones are of nodes; they change about never."""
        before, after = (meta.labels(node or {}).get(ZONE_LABEL) for node in (old, new))
        if before != after:
            for service in self._services.cache.list():
                self.loop.queue.add(meta.key(service))

    async def reconcile(self, key: str) -> None:
        service = self._services.cache.get(key)
        if service is None:
            await self._remove(key)
            return
        if (
            not spec(service).get("selector")
            or spec(service).get("type") == "ExternalName"
            or meta.is_deleting(service)
        ):
            return  # without a selector, endpoints are for others to write
        if not (self._slice_expectations.are_met(key) and self._endpoints_expectations.are_met(key)):
            self.loop.queue.add_after(key, RECHECK_S)
            return
        in_namespace = self._pods.cache.by_index("namespace", meta.namespace(service))
        selected = [pod for pod in in_namespace if service_index.selects(service, pod)]
        by_family = {family: backends(service, selected, family) for family in families(service)}
        try:
            await self._write_slices(key, service, by_family)
            await self._write_endpoints(key, service, by_family[families(service)[0]])
        except status.Forbidden as error:
            if not is_terminating_namespace(error):
                raise

    async def _write_slices(self, key: str, service: Object, by_family: dict[str, list[Backend]]) -> None:
        zones = {meta.name(node): meta.labels(node).get(ZONE_LABEL, "") for node in self._nodes.cache.list()}
        existing = self._slices.cache.by_index("service", key)
        planned = endpointslice_plan.plan(service, by_family, zones, existing)
        writes: list[Awaitable[None]] = [
            *(self._write_slice(key, each, is_new=True) for each in planned.create),
            *(self._write_slice(key, each, is_new=False) for each in planned.update),
            *(self._delete_slice(key, each) for each in planned.delete),
        ]
        for result in await asyncio.gather(*writes, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result

    async def _write_slice(self, key: str, each: Object, *, is_new: bool) -> None:
        write = self._client.create if is_new else self._client.update
        self._slice_expectations.written(key, await write(ENDPOINTSLICES, each))

    async def _delete_slice(self, key: str, each: Object) -> None:
        self._slice_expectations.deleting(key, [each])
        try:
            await self._client.delete(ENDPOINTSLICES, meta.name(each), meta.namespace(each), uid=meta.uid(each))
        except (status.ApiError, ConnectionError) as error:
            self._slice_expectations.not_deleted(key, each)
            if not isinstance(error, status.NotFound):
                raise

    async def _write_endpoints(self, key: str, service: Object, found: list[Backend]) -> None:
        wanted = endpoints_object(service, found)
        existing = self._endpoints.cache.get(key)
        if existing is None:
            self._endpoints_expectations.written(key, await self._client.create(ENDPOINTS, wanted))
            return
        same_labels = meta.labels(existing) == meta.labels(wanted)
        same_capacity = meta.annotations(existing).get(OVER_CAPACITY) == meta.annotations(wanted).get(OVER_CAPACITY)
        if same_labels and same_capacity and (existing.get("subsets") or []) == wanted["subsets"]:
            return
        annotations = {name: value for name, value in meta.annotations(existing).items() if name != OVER_CAPACITY}
        described = {**meta.metadata(existing), "labels": meta.labels(wanted)}
        described["annotations"] = annotations | meta.annotations(wanted)
        changed = {**existing, "metadata": described, "subsets": wanted["subsets"]}
        self._endpoints_expectations.written(key, await self._client.update(ENDPOINTS, changed))

    async def _remove(self, key: str) -> None:
        """The slices and Endpoints of a Service that is gone go with it."""
        for each in self._slices.cache.by_index("service", key):
            await self._delete_slice(key, each)
        self._slice_expectations.forget(key)
        existing = self._endpoints.cache.get(key)
        if existing is not None and ENDPOINTS_MANAGED_BY in meta.labels(existing):
            try:
                await self._client.delete(
                    ENDPOINTS, meta.name(existing), meta.namespace(existing), uid=meta.uid(existing)
                )
            except (status.NotFound, status.Conflict):
                return


def endpoints_object(service: Object, found: list[Backend]) -> Object:
    """Endpoints as one subset for each set of ports, addresses in order."""
    alive = [each for each in found if not each.is_terminating or spec(service).get("publishNotReadyAddresses")]
    kept = sorted(alive, key=lambda each: not each.is_ready)[:ADDRESSES_MAX]
    subsets: dict[tuple[Port, ...], dict[str, list[dict[str, Any]]]] = {}
    for each in kept:
        address: dict[str, Any] = {"ip": each.address}
        if each.hostname:
            address["hostname"] = each.hostname
        if pods.node_name(each.pod):
            address["nodeName"] = pods.node_name(each.pod)
        address["targetRef"] = target_reference(each.pod)
        subset = subsets.setdefault(tuple(sort_ports(each.ports)), {})
        subset.setdefault("addresses" if each.is_ready else "notReadyAddresses", []).append(address)
    labels = {name: value for name, value in meta.labels(service).items() if name != HEADLESS}
    labels[ENDPOINTS_MANAGED_BY] = "endpoint-controller"
    if is_headless(service):
        labels[HEADLESS] = ""
    described: dict[str, Any] = {"name": meta.name(service), "namespace": meta.namespace(service), "labels": labels}
    if len(alive) > ADDRESSES_MAX:
        described["annotations"] = {OVER_CAPACITY: "truncated"}
    return {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": described,
        "subsets": [
            _subset(ports, addresses) for ports, addresses in sorted(subsets.items(), key=lambda item: str(item[0]))
        ],
    }


def _subset(ports: tuple[Port, ...], addresses: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    subset: dict[str, Any] = {}
    for kind in ("addresses", "notReadyAddresses"):
        if addresses.get(kind):
            subset[kind] = sorted(addresses[kind], key=lambda address: str(address["ip"]))
    if ports:
        subset["ports"] = [
            ({"name": port.name} if port.name else {})
            | {"port": port.port, "protocol": port.protocol}
            | ({"appProtocol": port.app_protocol} if port.app_protocol else {})
            for port in ports
        ]
    return subset
