"""Services get their cluster addresses and node ports here, before they are validated and stored.

Addresses and ports chosen by the client are taken or refused; the rest are given out. Both are taken in the store
before the Service is written, so that several servers agree (`service_addresses`, `node_ports`), and given back when
the write fails or the Service no longer needs them. The kubernetes Service's own address is the first of its range. A
dry run takes nothing: it is shown an address and ports that stand for others.
Errors: Invalid, InternalError where a range is full, with kube-apiserver's messages. Source: Kubernetes docs, "Service
ClusterIP allocation"; k8s.io/kubernetes registry/core/service/storage, alloc.go.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping

from msgspec import Struct, field

from orchestrator.api import meta
from orchestrator.api.kinds import faults
from orchestrator.api.kinds.service import normalize_addresses
from orchestrator.api.meta import Object
from orchestrator.api.status import Cause, InternalError, ServiceUnavailable, invalid
from orchestrator.apiserver.handlers import Strategy
from orchestrator.apiserver.request import Attributes
from orchestrator.apiserver.strategies.node_ports import NodePorts
from orchestrator.apiserver.strategies.service_addresses import ServiceAddresses
from orchestrator.apiserver.strategies.service_families import (
    NONE,
    Spec,
    carry_over,
    needs_cluster_ip,
    needs_health_check_port,
    needs_node_ports,
    settle_families,
)
from orchestrator.apiserver.strategies.service_repair import addresses_of
from orchestrator.apiserver.writing import is_done
from orchestrator.store.interface import StoreError

NODE_PORTS = (30000, 32767)
DRY_RUN_PORT = 32768  # a dry run is shown ports above it


class _Taking(Struct):
    """What one write has taken so far, beyond what the Service `held` before it."""

    namespace: str
    name: str
    dry_run: bool
    held_addresses: frozenset[str]
    held_ports: frozenset[int]
    addresses: list[str] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)


class ServiceAllocation:
    """The strategy of `services`."""

    def __init__(self, addresses: ServiceAddresses, ports: NodePorts) -> None:
        self._addresses, self._ports = addresses, ports
        self._under_way: dict[int, _Taking] = {}

    def strategies(self) -> Mapping[str, Strategy]:
        return {"services": self}

    async def before_write(self, attributes: Attributes) -> None:
        service, old = attributes.object, attributes.old_object
        if service is None or attributes.subresource or attributes.operation not in ("", "CREATE", "UPDATE"):
            return
        spec: Spec = service.setdefault("spec", {})
        if old is None:
            normalize_addresses(service)
        else:
            carry_over(old.get("spec") or {}, spec)
        taking = _Taking(
            namespace=attributes.namespace or meta.namespace(service),
            name=meta.name(service),
            dry_run=attributes.dry_run,
            held_addresses=frozenset(addresses_of(old) if old else ()),
            held_ports=frozenset(ports_of(old) if old else ()),
        )
        is_taken = False
        try:
            causes = await self._allocate(spec, taking)
            if causes:
                raise invalid("", "Service", taking.name, causes)
            is_taken = True
        except StoreError as error:
            raise ServiceUnavailable(f"storage is not available: {error}") from error
        finally:
            if not is_taken:
                await self._take_back(taking)
        self._under_way[id(attributes)] = taking

    async def after_write(self, attributes: Attributes, *, succeeded: bool) -> None:
        taking = self._under_way.pop(id(attributes), None)
        if not succeeded:
            if taking is not None:
                await self._take_back(taking)
            return
        old, new = attributes.old_object, attributes.object
        if attributes.dry_run or old is None:
            return
        kept = None if attributes.operation == "DELETE" or new is None or is_done(new) else new
        gone = set(addresses_of(old)) - set(addresses_of(kept) if kept else ())
        await self._give_back(gone, ports_of(old) - (ports_of(kept) if kept else set()))

    async def _take_back(self, taking: _Taking) -> None:
        if not taking.dry_run:
            await self._give_back(taking.addresses, taking.ports)

    async def _give_back(self, addresses: Iterable[str], ports: Iterable[int]) -> None:
        for text in sorted(addresses):
            await self._addresses.release(text)
        await self._ports.release(ports)

    async def _allocate(self, spec: Spec, taking: _Taking) -> list[Cause]:
        if needs_cluster_ip(spec):
            causes = settle_families(spec, self._addresses.families)
            if causes:
                return causes
            if spec.get("clusterIP") != NONE:
                causes = await self._give_addresses(spec, taking)
                if causes:
                    return causes
        causes = await self._node_ports(spec, taking)
        if not causes and needs_health_check_port(spec):
            wanted, path = spec.get("healthCheckNodePort", 0), "spec.healthCheckNodePort"
            spec["healthCheckNodePort"], causes = await self._port(wanted, path, taking)
        return causes

    async def _give_addresses(self, spec: Spec, taking: _Taking) -> list[Cause]:
        given = list(spec.get("clusterIPs") or [])
        addresses: list[str] = []
        for position, family in enumerate(spec["ipFamilies"]):
            if position < len(given):
                if why := await self._take(given[position], taking):
                    return [faults.invalid("spec.clusterIPs", given, f"failed to allocate IP {given[position]}: {why}")]
                addresses.append(given[position])
            else:
                addresses.append(await self._give(family, taking))
        spec["clusterIPs"], spec["clusterIP"] = addresses, addresses[0]
        return []

    async def _take(self, text: str, taking: _Taking) -> str:
        """Why the address cannot be had."""
        name = str(ipaddress.ip_address(text))
        if name in taking.held_addresses:
            return ""
        why = await self._addresses.take(text, taking.namespace, taking.name, dry_run=taking.dry_run)
        if not why and not taking.dry_run:
            taking.addresses.append(name)
        return why

    async def _give(self, family: str, taking: _Taking) -> str:
        text = await self._addresses.give(family, taking.namespace, taking.name, dry_run=taking.dry_run)
        if text is None:
            why = f"failed to allocate a serviceIP for Service {faults.shown(taking.name)}: range is full"
            raise InternalError(f"Internal error occurred: {why}")
        if not taking.dry_run:
            taking.addresses.append(text)
        return text

    async def _node_ports(self, spec: Spec, taking: _Taking) -> list[Cause]:
        """A number that a Service asks for twice, for two protocols, is one allocation."""
        seen: set[int] = set()
        for position, port in enumerate(spec.get("ports") or ()):
            wanted = port.get("nodePort", 0)
            if not wanted and not needs_node_ports(spec):
                continue
            if wanted in seen or spec.get("type") == "ExternalName":
                continue
            port["nodePort"], causes = await self._port(wanted, f"spec.ports[{position}].nodePort", taking)
            if causes:
                return causes
            seen.add(port["nodePort"])
        return []

    async def _port(self, wanted: int, path: str, taking: _Taking) -> tuple[int, list[Cause]]:
        if not wanted:
            return await self._any_port(taking), []
        if wanted in taking.held_ports:
            return wanted, []
        if wanted not in self._ports:
            ports = f"{self._ports.first}-{self._ports.last}"
            why = f"provided port is not in the valid range. The range of valid ports is {ports}"
            return wanted, [faults.invalid(path, wanted, why)]
        if taking.dry_run:
            is_free = not await self._ports.is_taken(wanted) and wanted not in taking.ports
        else:
            is_free = await self._ports.take(wanted)
        if not is_free:
            return wanted, [faults.invalid(path, wanted, "provided port is already allocated")]
        taking.ports.append(wanted)
        return wanted, []

    async def _any_port(self, taking: _Taking) -> int:
        port = max([DRY_RUN_PORT, *taking.ports]) + 1 if taking.dry_run else await self._ports.give()
        if port is None:
            raise InternalError("Internal error occurred: failed to allocate a nodePort: range is full")
        taking.ports.append(port)
        return port


def ports_in_use(services: Iterable[Object]) -> set[int]:
    return {port for service in services for port in ports_of(service)}


def ports_of(service: Object) -> set[int]:
    """The node ports that a Service has."""
    spec = service.get("spec") or {}
    ports = {port["nodePort"] for port in spec.get("ports") or () if port.get("nodePort")}
    return ports | ({spec["healthCheckNodePort"]} if spec.get("healthCheckNodePort") else set())
