"""EndpointSlice mirroring: Endpoints that somebody wrote for a Service without a selector become EndpointSlices.

Consumers then need to read slices only. Endpoints with the label `endpointslice.kubernetes.io/skip-mirror`, those of
leader election, and those of Services with a selector are not mirrored. At most `ADDRESSES_MAX` addresses of a subset
are; one slice for each subset and address family.
Source: Concepts, Service, "EndpointSlice mirroring"; KEP-752.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct, field

from orchestrator.api import meta, status
from orchestrator.api.meta import Object
from orchestrator.api.resources import ENDPOINTS, ENDPOINTSLICES, SERVICES
from orchestrator.client.loop import Loop
from orchestrator.controllers.context import Context
from orchestrator.controllers.endpointslice_plan import MANAGED_BY, SERVICE_NAME
from orchestrator.controllers.expectations import RECHECK_S, Expectations
from orchestrator.controllers.fields import spec

MANAGER = "endpointslicemirroring-controller.k8s.io"
SKIP = "endpointslice.kubernetes.io/skip-mirror"
LEADER = "control-plane.alpha.kubernetes.io/leader"
MANAGED_ENDPOINTS = "endpoints.kubernetes.io/managed-by"
ADDRESSES_MAX = 1000
NOT_MIRRORED = {SERVICE_NAME, MANAGED_BY, SKIP}


class Plan(Struct):
    create: list[Object] = field(default_factory=list)
    update: list[Object] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)


def is_mirrored(endpoints: Object | None, service: Object | None) -> bool:
    if endpoints is None or service is None or meta.is_deleting(endpoints):
        return False
    is_skipped = meta.labels(endpoints).get(SKIP) == "true" or LEADER in meta.annotations(endpoints)
    return not is_skipped and not spec(service).get("selector")


def wanted_slices(endpoints: Object) -> list[Object]:
    found = []
    for subset in endpoints.get("subsets") or ():
        by_family: dict[str, list[dict[str, Any]]] = {}
        for ready, part in ((True, "addresses"), (False, "notReadyAddresses")):
            for address in (subset.get(part) or ())[:ADDRESSES_MAX]:
                family = f"IPv{ipaddress.ip_address(address['ip']).version}"
                by_family.setdefault(family, []).append(_endpoint(address, ready))
        for family, listed in sorted(by_family.items()):
            found.append(_slice(endpoints, family, listed, subset.get("ports") or ()))
    return found


def _endpoint(address: dict[str, Any], ready: bool) -> dict[str, Any]:
    endpoint: dict[str, Any] = {"addresses": [address["ip"]], "conditions": {"ready": ready}}
    for name in ("hostname", "nodeName", "targetRef"):
        if address.get(name):
            endpoint[name] = address[name]
    return endpoint


def _slice(endpoints: Object, family: str, listed: list[dict[str, Any]], ports: Iterable[dict[str, Any]]) -> Object:
    labels = {name: value for name, value in meta.labels(endpoints).items() if name not in NOT_MIRRORED}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "generateName": f"{meta.name(endpoints)}-",
            "namespace": meta.namespace(endpoints),
            "labels": {**labels, SERVICE_NAME: meta.name(endpoints), MANAGED_BY: MANAGER},
            "ownerReferences": [meta.owner_reference(endpoints)],
        },
        "addressType": family,
        "endpoints": listed,
        "ports": [{"name": "", "protocol": "TCP", **port} for port in ports],
    }


def plan(wanted: Sequence[Object], existing: Sequence[Object]) -> Plan:
    """Equal slices stay, others are filled anew as far as the address type allows."""
    planned, rest = Plan(), list(existing)
    missing = []
    for each in wanted:
        same = next((old for old in rest if _shown(old) == _shown(each)), None)
        if same is None:
            missing.append(each)
        else:
            rest.remove(same)
    for each in missing:
        old = next((old for old in rest if old["addressType"] == each["addressType"]), None)
        if old is None:
            planned.create.append(each)
        else:
            rest.remove(old)
            described = {**meta.metadata(old), "labels": meta.labels(each)}
            planned.update.append({**each, "metadata": described})
    planned.delete = rest
    return planned


def _shown(each: Object) -> tuple[object, ...]:
    return each["addressType"], each.get("endpoints") or [], each.get("ports") or [], meta.labels(each)


def by_mirrored(each: Object) -> Iterable[str]:
    if meta.labels(each).get(MANAGED_BY) != MANAGER:
        return ()
    return (meta.join_key(meta.namespace(each), meta.labels(each).get(SERVICE_NAME, "")),)


class EndpointSliceMirroringController:
    """Keeps the mirror slices."""

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self.loop = Loop("endpointslicemirroring", self.reconcile)
        informers = context.informers
        self._endpoints = informers.informer(ENDPOINTS)
        self._services = informers.informer(SERVICES)
        self._slices = informers.informer(ENDPOINTSLICES, indexers={"mirrored": by_mirrored})
        self._expectations = Expectations(self._slices)
        self._endpoints.add_handler(self._endpoints_changed)
        self._services.add_handler(self._service_changed)
        self._slices.add_handler(self._slice_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _endpoints_changed(self, old: Object | None, new: Object | None) -> None:
        endpoints = new or old or {}
        if MANAGED_ENDPOINTS not in meta.labels(endpoints):
            self.loop.queue.add(meta.key(endpoints))

    def _service_changed(self, old: Object | None, new: Object | None) -> None:
        if (spec(old or {}).get("selector") or None) != (spec(new or {}).get("selector") or None) or None in (old, new):
            self.loop.queue.add(meta.key(new or old or {}))

    def _slice_changed(self, old: Object | None, new: Object | None) -> None:
        for each in (old, new):
            for key in by_mirrored(each) if each else ():
                self.loop.queue.add(key)

    async def reconcile(self, key: str) -> None:
        if not self._expectations.are_met(key):
            self.loop.queue.add_after(key, RECHECK_S)
            return
        endpoints = self._endpoints.cache.get(key)
        existing = self._slices.cache.by_index("mirrored", key)
        is_ours = is_mirrored(endpoints, self._services.cache.get(key))
        planned = plan(wanted_slices(endpoints) if is_ours and endpoints else [], existing)
        for each in planned.create:
            self._expectations.written(key, await self._client.create(ENDPOINTSLICES, each))
        for each in planned.update:
            self._expectations.written(key, await self._client.update(ENDPOINTSLICES, each))
        for each in planned.delete:
            try:
                await self._client.delete(ENDPOINTSLICES, meta.name(each), meta.namespace(each), uid=meta.uid(each))
            except status.NotFound:
                continue
