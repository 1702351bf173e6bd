"""Services get their cluster addresses and node ports here, before they are validated and stored.

Addresses chosen by the client are taken or refused; the rest are given out. What a write reserved is given back when
the write fails, is a dry run, or no longer needs it. The kubernetes Service's own address is the first of its range and
never given to another.
Deviation: reservations live in this server's memory, so of several servers over one store two could give out the same
address at the same moment; upstream stores an IPAddress object for each.
Errors: Invalid, with kube-apiserver's messages. Source: Kubernetes docs, "Service ClusterIP allocation".
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from orchestrator.api import meta
from orchestrator.api.kinds import faults
from orchestrator.api.meta import Object
from orchestrator.api.resources import SERVICES
from orchestrator.api.status import Cause, InternalError, invalid
from orchestrator.apiserver.handlers import Strategy
from orchestrator.apiserver.lookup import Lookup
from orchestrator.apiserver.request import Attributes
from orchestrator.apiserver.strategies.pool import Full, Pool, Taken
from orchestrator.apiserver.strategies.service_families import (
    NONE,
    Spec,
    carry_over,
    needs_cluster_ip,
    needs_health_check_port,
    needs_node_ports,
    settle_families,
)

NODE_PORTS = (30000, 32767)
STATIC_PORTS_MAX = 128
STATIC_ADDRESSES_MAX = 256

Reservation = tuple[Pool, int, str]


@dataclass(frozen=True, slots=True)
class AddressRange:
    """The Service addresses of one family; the network's own address (and IPv4 broadcast) are not given out."""

    family: str
    network: ipaddress.IPv4Network | ipaddress.IPv6Network
    pool: Pool

    @classmethod
    def of(cls, cidr: str, random: Random) -> AddressRange:
        network = ipaddress.ip_network(cidr)
        last_reserved = 1 if network.version == 4 else 0
        first = int(network.network_address) + 1
        last = int(network.broadcast_address) - last_reserved
        static_count = min(max(16, (last - first + 1) // 16), STATIC_ADDRESSES_MAX)
        return cls(f"IPv{network.version}", network, Pool(first, last, static_count, random))

    def shown(self, value: int) -> str:
        return str(ipaddress.ip_address(value) if self.family == "IPv4" else ipaddress.IPv6Address(value))


class ServiceAllocation:
    """The strategy of `services`. The first range's family is the cluster's default."""

    def __init__(
        self, lookup: Lookup, cidrs: Sequence[str], random: Random, node_ports: tuple[int, int] = NODE_PORTS
    ) -> None:
        self._ranges = {found.family: found for found in (AddressRange.of(cidr, random) for cidr in cidrs)}
        first, last = node_ports
        static_count = min(max(16, (last - first + 1) // 32), STATIC_PORTS_MAX)
        self._ports = Pool(first, last, static_count, random)
        self._under_way: dict[int, list[Reservation]] = {}
        lookup.subscribe(SERVICES, self._changed)

    def strategies(self) -> Mapping[str, Strategy]:
        return {"services": self}

    async def before_write(self, attributes: Attributes) -> None:
        service = attributes.object
        if service is None or attributes.subresource or attributes.operation not in ("", "CREATE", "UPDATE"):
            return
        spec: Spec = service.setdefault("spec", {})
        if attributes.old_object is not None:
            carry_over(attributes.old_object.get("spec") or {}, spec)
        reserved: list[Reservation] = []
        causes = self._allocate(spec, _owner(attributes, service), reserved)
        if causes:
            _settle(reserved, written=False)
            raise invalid("", "Service", meta.name(service), causes)
        if reserved:
            self._under_way[id(attributes)] = reserved

    async def after_write(self, attributes: Attributes, *, succeeded: bool) -> None:
        reserved = self._under_way.pop(id(attributes), [])
        _settle(reserved, written=succeeded and not attributes.dry_run)

    def _allocate(self, spec: Spec, owner: str, reserved: list[Reservation]) -> list[Cause]:
        if needs_cluster_ip(spec):
            causes = settle_families(spec, list(self._ranges))
            if causes:
                return causes
            if spec.get("clusterIP") != NONE:
                causes = self._addresses(spec, owner, reserved)
                if causes:
                    return causes
        causes = self._node_ports(spec, owner, reserved)
        if not causes and needs_health_check_port(spec):
            wanted = spec.get("healthCheckNodePort", 0)
            spec["healthCheckNodePort"], causes = self._port(wanted, "spec.healthCheckNodePort", owner, reserved)
        return causes

    def _addresses(self, spec: Spec, owner: str, reserved: list[Reservation]) -> list[Cause]:
        given = list(spec.get("clusterIPs") or [])
        addresses = []
        for position, family in enumerate(spec["ipFamilies"]):
            addresses_of = self._ranges[family]
            if position < len(given):
                cause = _take(addresses_of, given[position], owner, reserved)
                if cause is not None:
                    return [cause]
                addresses.append(given[position])
            else:
                addresses.append(_give(addresses_of, owner, reserved))
        spec["clusterIPs"], spec["clusterIP"] = addresses, addresses[0]
        return []

    def _node_ports(self, spec: Spec, owner: str, reserved: list[Reservation]) -> list[Cause]:
        """A number that a Service asks for twice, for two protocols, is one allocation."""
        seen: set[int] = set()
        for position, port in enumerate(spec.get("ports") or ()):
            wanted = port.get("nodePort", 0)
            if not wanted and not needs_node_ports(spec):
                continue
            if wanted in seen or spec.get("type") == "ExternalName":
                continue
            path = f"spec.ports[{position}].nodePort"
            port["nodePort"], causes = self._port(wanted, path, owner, reserved)
            if causes:
                return causes
            seen.add(port["nodePort"])
        return []

    def _port(self, wanted: int, path: str, owner: str, reserved: list[Reservation]) -> tuple[int, list[Cause]]:
        pool = self._ports
        if not wanted:
            wanted = _any(pool, owner, reserved, "failed to allocate a nodePort: range is full")
            return wanted, []
        if wanted not in pool:
            why = f"provided port is not in the valid range. The range of valid ports is {pool.first}-{pool.last}"
            return wanted, [faults.invalid(path, wanted, why)]
        try:
            pool.reserve(wanted, owner)
        except Taken:
            return wanted, [faults.invalid(path, wanted, "provided port is already allocated")]
        reserved.append((pool, wanted, owner))
        return wanted, []

    def _changed(self, old: Object | None, new: Object | None) -> None:
        owner = meta.key(new or old or {})
        before, after = (obj.get("spec") or {} if obj else {} for obj in (old, new))
        for found in self._ranges.values():
            found.pool.observe(owner, _values(before, found), _values(after, found))
        self._ports.observe(owner, _ports(before), _ports(after))


def _owner(attributes: Attributes, service: Object) -> str:
    return meta.join_key(attributes.namespace or meta.namespace(service), meta.name(service))


def _take(found: AddressRange, text: str, owner: str, reserved: list[Reservation]) -> Cause | None:
    value = int(ipaddress.ip_address(text))
    try:
        if value not in found.pool:
            raise ValueError("the provided network does not match the current range")
        found.pool.reserve(value, owner)
    except (Taken, ValueError) as error:
        why = "provided IP is already allocated" if isinstance(error, Taken) else str(error)
        return faults.invalid("spec.clusterIPs", [text], f"failed to allocate IP {text}: {why}")
    reserved.append((found.pool, value, owner))
    return None


def _give(found: AddressRange, owner: str, reserved: list[Reservation]) -> str:
    return found.shown(_any(found.pool, owner, reserved, "failed to allocate a serviceIP: range is full"))


def _any(pool: Pool, owner: str, reserved: list[Reservation], full: str) -> int:
    try:
        value = pool.reserve_any(owner)
    except Full as error:
        _settle(reserved, written=False)
        raise InternalError(f"Internal error occurred: {full}") from error
    reserved.append((pool, value, owner))
    return value


def _settle(reserved: list[Reservation], *, written: bool) -> None:
    for pool, value, owner in reserved:
        pool.settle(value, owner, written=written)


def _values(spec: Spec, found: AddressRange) -> set[int]:
    if not needs_cluster_ip(spec):
        return set()
    values = set()
    for text in spec.get("clusterIPs") or [spec.get("clusterIP") or NONE]:
        if text != NONE:
            address = ipaddress.ip_address(text)
            if f"IPv{address.version}" == found.family:
                values.add(int(address))
    return values


def _ports(spec: Spec) -> set[int]:
    ports = {port["nodePort"] for port in spec.get("ports") or () if port.get("nodePort")}
    return ports | ({spec["healthCheckNodePort"]} if spec.get("healthCheckNodePort") else set())
