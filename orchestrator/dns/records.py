"""The names of one Service: a pure function of the Service and its EndpointSlices.

With cluster IPs a Service has one name for all; headless, its name lists the ready endpoints, each of which has a name
of its own: its hostname, or its address with dashes. ExternalName is an alias. A name maps record types to records; a
name with none exists (NODATA), a name that is missing does not (NXDOMAIN). A headless Service without ready endpoints
has no names at all.
Source: Kubernetes DNS-Based Service Discovery 1.1.0, sections 2.3 to 2.5.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any

from msgspec import Struct, field

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.dns import message
from orchestrator.dns.message import Record

TTL_S = 5  # a change is seen at once by who asks again, and within this by who caches

Names = dict[str, dict[int, tuple[Record, ...]]]
_Port = tuple[str, str, int]  # name, protocol in lower case, number


class _Target(Struct, frozen=True):
    """What an SRV record points at, and the ports reachable there."""

    name: str
    ports: tuple[_Port, ...]


class _Builder(Struct):
    found: dict[str, dict[int, dict[bytes, Record]]] = field(default_factory=dict)

    def add(self, name: str, kind: int, data: bytes) -> None:
        self.found.setdefault(name, {}).setdefault(kind, {})[data] = Record(name, kind, TTL_S, data)

    def add_address(self, name: str, address: str) -> None:
        packed = ipaddress.ip_address(address).packed
        self.add(name, message.A if len(packed) == 4 else message.AAAA, packed)

    def names(self) -> Names:
        return {
            name: {kind: tuple(records.values()) for kind, records in kinds.items()}
            for name, kinds in self.found.items()
        }


def service_names(service: Object, slices: Iterable[Object], domain: str) -> Names:
    """Every name that this Service gives, reverse names included; `domain` is the cluster's."""
    name = f"{meta.name(service)}.{meta.namespace(service)}.svc.{domain}".lower()
    spec: dict[str, Any] = service.get("spec") or {}
    builder = _Builder()
    if spec.get("type") == "ExternalName":
        builder.add(name, message.CNAME, message.encode_name((spec.get("externalName") or "").lower()))
        return builder.names()
    cluster_ips = spec.get("clusterIPs") or [spec.get("clusterIP") or "None"]
    if cluster_ips[0] != "None":
        _with_cluster_ip(builder, name, cluster_ips, spec)
    else:
        _headless(builder, name, slices)
    return builder.names()


def _with_cluster_ip(builder: _Builder, name: str, addresses: list[str], spec: dict[str, Any]) -> None:
    for address in addresses:
        builder.add_address(name, address)
        builder.add(reverse_name(address), message.PTR, message.encode_name(name))
    ports = _ports(spec)
    _add_service_records(builder, name, [_Target(name, ports)])


def _ports(holder: dict[str, Any]) -> tuple[_Port, ...]:
    """Of a Service's spec or an EndpointSlice; a slice may leave a number out ("all ports")."""
    return tuple(
        (port.get("name") or "", (port.get("protocol") or "TCP").lower(), port["port"])
        for port in holder.get("ports") or ()
        if port.get("port")
    )


def _headless(builder: _Builder, name: str, slices: Iterable[Object]) -> None:
    ports_of: dict[str, dict[_Port, None]] = {}  # of one endpoint in slices of both families
    for endpoint_slice in slices:
        if endpoint_slice.get("addressType") == "FQDN":
            continue  # names, for others than DNS
        ports = _ports(endpoint_slice)
        for endpoint in endpoint_slice.get("endpoints") or ():
            if (endpoint.get("conditions") or {}).get("ready") is False:
                continue
            for address in endpoint.get("addresses") or ():
                own_name = f"{(endpoint.get('hostname') or _dashed(address)).lower()}.{name}"
                builder.add_address(name, address)
                builder.add_address(own_name, address)
                builder.add(reverse_name(address), message.PTR, message.encode_name(own_name))
                ports_of.setdefault(own_name, {}).update(dict.fromkeys(ports))
    targets = [_Target(target, tuple(ports)) for target, ports in ports_of.items()]
    _add_service_records(builder, name, targets)


def _add_service_records(builder: _Builder, name: str, targets: list[_Target]) -> None:
    """`_port._protocol.name`, the names above it, and all ports under the bare name."""
    for target in targets:
        for port, protocol, number in target.ports:
            data = message.service_data(0, max(1, 100 // len(targets)), number, target.name)
            builder.add(name, message.SRV, data)
            if port:
                builder.found.setdefault(f"_{protocol}.{name}", {})
                builder.add(f"_{port.lower()}._{protocol}.{name}", message.SRV, data)


def _dashed(address: str) -> str:
    return ipaddress.ip_address(address).exploded.replace(".", "-").replace(":", "-")


def reverse_name(address: str) -> str:
    return ipaddress.ip_address(address).reverse_pointer
