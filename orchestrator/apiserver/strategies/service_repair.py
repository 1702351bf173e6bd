"""What is taken agrees with what Services have: IPAddress objects and node ports, looked at from time to time.

A Service whose address has no IPAddress, or one that names another, gets it; an IPAddress of the allocator's that no
Service has goes, once it is old enough not to be of a write under way. Every server does this, so each may find that
another was quicker. `plan` is pure.
Source: k8s.io/kubernetes registry/core/service/ipallocator/controller, repairip.go; portallocator/controller.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Iterable

from msgspec import Struct

from orchestrator.api import meta
from orchestrator.api.clock import Clock
from orchestrator.api.meta import Object
from orchestrator.api.resources import IPADDRESSES, SERVICES
from orchestrator.api.status import AlreadyExists, ApiError, NotFound
from orchestrator.apiserver.lookup import Lookup
from orchestrator.apiserver.strategies.node_ports import NodePorts
from orchestrator.apiserver.strategies.service_addresses import (
    FAMILY_LABEL,
    MANAGED_BY_LABEL,
    MANAGER,
    Writer,
    address_of,
)
from orchestrator.apiserver.strategies.service_families import NONE, needs_cluster_ip
from orchestrator.store.interface import StoreError

log = logging.getLogger(__name__)

REPAIR_EVERY_S = 60.0
ORPHAN_S = 60.0  # an address without its Service: the time that a write may take
FRESH_S = 5.0  # an address younger than its Service: a write of the same name that is being taken back


class CreateAddress(Struct, frozen=True):
    obj: Object
    why: str


class DeleteAddress(Struct, frozen=True):
    name: str
    why: str


Action = CreateAddress | DeleteAddress


def plan(services: Iterable[Object], addresses: Iterable[Object], now: float) -> list[Action]:
    """`now` in seconds since the epoch. A replacement is a deletion and a creation."""
    by_key = {meta.key(one): one for one in services}
    by_name = {meta.name(one): one for one in addresses}
    actions: list[Action] = []
    for _, service in sorted(by_key.items()):
        for text in addresses_of(service):
            actions += _of_service(service, text, by_name.get(text), by_key)
    settled = {action.name for action in actions if isinstance(action, DeleteAddress)}
    for name, address in sorted(by_name.items()):
        if name in settled:
            continue
        if meta.labels(address).get(MANAGED_BY_LABEL) == MANAGER and (why := _unwanted(address, by_key, now)):
            actions.append(DeleteAddress(name, why))
    return actions


def addresses_of(service: Object) -> list[str]:
    """The cluster addresses of a Service, canonical."""
    spec = service.get("spec") or {}
    if not needs_cluster_ip(spec):
        return []
    texts = spec.get("clusterIPs") or [spec.get("clusterIP") or NONE]
    return [str(ipaddress.ip_address(text)) for text in texts if text and text != NONE]


def _of_service(service: Object, text: str, address: Object | None, services: dict[str, Object]) -> list[Action]:
    wanted = address_of(text, meta.namespace(service), meta.name(service))
    if address is None:
        return [CreateAddress(wanted, "not allocated")]
    parent = address["spec"].get("parentRef") or {}
    key = meta.join_key(parent.get("namespace") or "", parent.get("name") or "")
    is_service = not parent.get("group") and parent.get("resource") == "services"
    if is_service and key != meta.key(service) and key in services:
        log.error("address of several services", extra={"address": text, "services": [key, meta.key(service)]})
        return []
    labels = meta.labels(address)
    right = {name: wanted["metadata"]["labels"][name] for name in (FAMILY_LABEL, MANAGED_BY_LABEL)}
    if is_service and key == meta.key(service) and right.items() <= labels.items():
        return []
    return [DeleteAddress(text, "wrong reference"), CreateAddress(wanted, "wrong reference")]


def _unwanted(address: Object, services: dict[str, Object], now: float) -> str:
    """Why an address of the allocator's should go, "" where it should not (yet)."""
    parent = address["spec"].get("parentRef") or {}
    if parent.get("group") or parent.get("resource") != "services":
        return "not a service's"
    created = meta.parse_time(address["metadata"]["creationTimestamp"])
    service = services.get(meta.join_key(parent.get("namespace") or "", parent.get("name") or ""))
    if service is None:
        return "leaked" if now - created > ORPHAN_S else ""
    if meta.name(address) in addresses_of(service):
        return ""
    if (service.get("spec") or {}).get("type") == "ExternalName" and now - created < ORPHAN_S:
        return ""
    is_fresh = created > meta.parse_time(service["metadata"]["creationTimestamp"]) and now - created < FRESH_S
    return "" if is_fresh else "wrong reference"


class ServiceRepair(Struct, frozen=True):
    client: Writer
    lookup: Lookup
    ports: NodePorts
    clock: Clock

    async def once(self) -> None:
        """Errors: ApiError, StoreError."""
        actions = plan(self.lookup.list(SERVICES), self.lookup.list(IPADDRESSES), self.clock.now())
        for action in actions:
            try:
                if isinstance(action, CreateAddress):
                    log.warning("address allocated", extra={"address": meta.name(action.obj), "why": action.why})
                    await self.client.create(IPADDRESSES, action.obj)
                else:
                    log.warning("address released", extra={"address": action.name, "why": action.why})
                    await self.client.delete(IPADDRESSES, action.name)
            except (AlreadyExists, NotFound):
                continue  # another server was quicker
        await self.ports.repair()

    async def run(self) -> None:
        while True:
            await asyncio.sleep(REPAIR_EVERY_S)
            try:
                await self.once()
            except (ApiError, StoreError, ConnectionError) as error:
                log.warning("service allocations not repaired", extra={"cause": str(error)})
