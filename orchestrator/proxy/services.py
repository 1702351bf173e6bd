"""What a Service and its EndpointSlices say to a proxy, parsed once into frozen values.

A *service port* is one port of a Service in one family: the unit that gets addresses on its front and endpoints behind.
Headless Services, ExternalNames and Services of another proxy have no service ports.
Source: core/v1 ServiceSpec; discovery.k8s.io/v1 EndpointSlice; KEP-752, KEP-1669 (terminating endpoints), KEP-2433.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

from orchestrator.api import meta
from orchestrator.api.meta import Object

Family = Literal["4", "6"]
PROXY_NAME_LABEL = "service.kubernetes.io/service-proxy-name"
HEADLESS_LABEL = "service.kubernetes.io/headless"
SERVICE_NAME_LABEL = "kubernetes.io/service-name"
AFFINITY_TIMEOUT_DEFAULT_S = 10800


class Endpoint(Struct, frozen=True, order=True):
    """One address and port behind a service port."""

    address: str
    port: int
    node: str = ""
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    zones: frozenset[str] = frozenset()  # hints: the zones that should use it; empty: all


class ServicePort(Struct, frozen=True):
    """One port of a Service in one family. `affinity_s` is 0 without session affinity."""

    service: str  # namespace/name
    port_name: str
    family: Family
    protocol: str  # tcp, udp, sctp
    port: int
    node_port: int
    cluster_ips: tuple[str, ...]
    external_ips: tuple[str, ...]
    load_balancer_ips: tuple[str, ...]
    source_ranges: tuple[str, ...]
    affinity_s: int
    internal_local: bool
    external_local: bool
    health_check_node_port: int
    traffic_distribution: str = ""


def family_of(address: str) -> Family:
    return "6" if ":" in address else "4"


def parse_service(service: Object) -> tuple[ServicePort, ...]:
    """The service ports of a Service, for each of its families; none where no proxy is wanted."""
    spec = service.get("spec") or {}
    if spec.get("type") == "ExternalName" or spec.get("clusterIP") in ("None", "", None):
        return ()
    if PROXY_NAME_LABEL in meta.labels(service):
        return ()
    cluster_ips = spec.get("clusterIPs") or [spec["clusterIP"]]
    ingress = [
        entry["ip"]
        for entry in ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
        if entry.get("ip") and entry.get("ipMode", "VIP") == "VIP"
    ]
    families: list[Family] = [family_of(address) for address in cluster_ips]
    return tuple(
        _service_port(service, port, family, cluster_ips, ingress)
        for family in dict.fromkeys(families)
        for port in spec.get("ports") or ()
    )


def _service_port(
    service: Object, port: Object, family: Family, cluster_ips: Iterable[str], ingress: Iterable[str]
) -> ServicePort:
    spec = service["spec"]
    kind = spec.get("type", "ClusterIP")
    affinity = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
    return ServicePort(
        service=meta.key(service),
        port_name=port.get("name") or "",
        family=family,
        protocol=port.get("protocol", "TCP").lower(),
        port=port["port"],
        node_port=port.get("nodePort") or 0 if kind in ("NodePort", "LoadBalancer") else 0,
        cluster_ips=_of_family(family, cluster_ips),
        external_ips=_of_family(family, spec.get("externalIPs") or ()),
        load_balancer_ips=_of_family(family, ingress) if kind == "LoadBalancer" else (),
        source_ranges=_merged(_of_family(family, spec.get("loadBalancerSourceRanges") or ())),
        affinity_s=(affinity.get("timeoutSeconds") or AFFINITY_TIMEOUT_DEFAULT_S)
        if spec.get("sessionAffinity") == "ClientIP"
        else 0,
        internal_local=spec.get("internalTrafficPolicy") == "Local",
        external_local=spec.get("externalTrafficPolicy") == "Local",
        health_check_node_port=spec.get("healthCheckNodePort") or 0,
        traffic_distribution=spec.get("trafficDistribution") or "",
    )


def _of_family(family: Family, addresses: Iterable[str]) -> tuple[str, ...]:
    """The addresses or networks of one family, in the form that the kernel shows them, each once."""
    mine = [text.strip() for text in addresses if family_of(text) == family]
    networks = [str(ipaddress.ip_network(text, strict=False)) if "/" in text else text for text in mine]
    return tuple(dict.fromkeys(networks))


def _merged(networks: Iterable[str]) -> tuple[str, ...]:
    """Networks of one family without overlap, which an interval set does not take."""
    found = [ipaddress.ip_network(text) for text in networks]
    return tuple(str(network) for network in ipaddress.collapse_addresses(found))  # type: ignore[type-var]


class Slice(Struct, frozen=True):
    """One EndpointSlice: endpoints by (port name, protocol)."""

    service: str
    family: Family
    ports: dict[tuple[str, str], tuple[Endpoint, ...]]


def parse_slice(endpoint_slice: Object) -> Slice | None:
    """The endpoints of a slice; None where it belongs to no Service or carries names instead of addresses."""
    service = meta.labels(endpoint_slice).get(SERVICE_NAME_LABEL)
    address_type = endpoint_slice.get("addressType")
    if not service or address_type not in ("IPv4", "IPv6"):
        return None
    ports: dict[tuple[str, str], tuple[Endpoint, ...]] = {}
    for port in endpoint_slice.get("ports") or ():
        if port.get("port"):
            found = tuple(_endpoint(entry, port["port"]) for entry in endpoint_slice.get("endpoints") or ())
            ports[port.get("name") or "", (port.get("protocol") or "TCP").lower()] = found
    family: Family = "4" if address_type == "IPv4" else "6"
    return Slice(meta.join_key(meta.namespace(endpoint_slice), service), family, ports)


def _endpoint(entry: Object, port: int) -> Endpoint:
    conditions = entry.get("conditions") or {}
    ready = conditions.get("ready")
    serving = conditions.get("serving")
    ready = ready is None or bool(ready)  # unset means ready
    zones = frozenset(zone["name"] for zone in (entry.get("hints") or {}).get("forZones") or ())
    return Endpoint(
        address=entry["addresses"][0],
        port=port,
        node=entry.get("nodeName") or "",
        ready=ready,
        serving=ready if serving is None else bool(serving),
        terminating=bool(conditions.get("terminating")),
        zones=zones,
    )
