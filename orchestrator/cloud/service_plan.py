"""What load balancer a Service asks for, and which nodes it may use. Pure.

A Service is ours while it is of type LoadBalancer and names no class: a class means that another implementation serves
it. The finalizer keeps the Service until its load balancer is gone.
Source: cloud-provider controllers/service; Concepts, Service, "type: LoadBalancer"; KEP-980 (finalizer), KEP-1860
(ipMode), KEP-3458 (nodes stay backends while they are not Ready: the health check decides).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.cloud.provider import Backend, Family, LoadBalancer, ServicePort
from orchestrator.cloud.route_plan import internal_ips

FINALIZER = "service.kubernetes.io/load-balancer-cleanup"
SOURCE_RANGES = "service.beta.kubernetes.io/load-balancer-source-ranges"
EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"
TO_BE_DELETED = "ToBeDeletedByClusterAutoscaler"
AFFINITY_DEFAULT_S = 10800
FALSE = {"0", "f", "false"}


class NotServable(ValueError):
    """A Service that no load balancer of this cloud can serve; the message says which field is the reason."""


def _spec(service: Object) -> dict[str, Any]:
    return service.get("spec") or {}


def wants(service: Object) -> bool:
    is_ours = _spec(service).get("type") == "LoadBalancer" and not _spec(service).get("loadBalancerClass")
    return is_ours and not meta.is_deleting(service)


def needs_cleanup(service: Object) -> bool:
    """Deviation: upstream also takes the finalizer off a Service with a class when that is deleted, though it belongs
    to the class's own implementation."""
    if FINALIZER not in meta.finalizers(service) or _spec(service).get("loadBalancerClass"):
        return False
    return meta.is_deleting(service) or _spec(service).get("type") != "LoadBalancer"


def name(service: Object) -> str:
    """The load balancer's, from the Service's uid: a Service of the same name that comes later has another."""
    return "a" + meta.uid(service).replace("-", "")[:31]


def wish(service: Object, nodes: Iterable[Object]) -> LoadBalancer:
    """NotServable."""
    spec = _spec(service)
    return LoadBalancer(
        name=name(service),
        service=meta.key(service),
        families=_families(spec),
        ports=_ports(spec),
        backends=backends(nodes),
        held=held(service),
        requested=spec.get("loadBalancerIP") or "",
        source_ranges=source_ranges(service),
        affinity_s=_affinity_s(spec),
        health_check_port=(spec.get("healthCheckNodePort") or 0) if spec.get("externalTrafficPolicy") == "Local" else 0,
    )


def _families(spec: dict[str, Any]) -> tuple[Family, ...]:
    told: list[Family] = spec.get("ipFamilies") or []
    if not told:  # from a server that knows no dual stack
        told = ["IPv6" if ":" in (spec.get("clusterIP") or "") else "IPv4"]
    return tuple(told)


def _ports(spec: dict[str, Any]) -> tuple[ServicePort, ...]:
    found = []
    for port in spec.get("ports") or ():
        protocol = port.get("protocol") or "TCP"
        if not port.get("nodePort"):
            raise NotServable(
                f"port {port['port']}/{protocol} has no node port, through which this cloud's load balancers reach a "
                "Service: set spec.allocateLoadBalancerNodePorts to true"
            )
        found.append(ServicePort(protocol, port["port"], port["nodePort"]))
    return tuple(found)


def _affinity_s(spec: dict[str, Any]) -> int:
    if spec.get("sessionAffinity") != "ClientIP":
        return 0
    client = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
    return int(client.get("timeoutSeconds") or AFFINITY_DEFAULT_S)


def held(service: Object) -> tuple[str, ...]:
    entries = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    return tuple(entry["ip"] for entry in entries if entry.get("ip"))


def source_ranges(service: Object) -> tuple[str, ...]:
    """spec.loadBalancerSourceRanges, else the annotation that came before it. NotServable."""
    texts = _spec(service).get("loadBalancerSourceRanges") or [
        text for text in meta.annotations(service).get(SOURCE_RANGES, "").split(",") if text.strip()
    ]
    found = []
    for text in texts:
        try:
            found.append(str(ipaddress.ip_network(text.strip(), strict=False)))
        except ValueError as error:
            raise NotServable(f"source range {text!r} is no CIDR: {error}") from error
    return tuple(found)


def backends(nodes: Iterable[Object]) -> tuple[Backend, ...]:
    found = [Backend(meta.name(node), internal_ips(node)) for node in nodes if _takes_traffic(node)]
    return tuple(sorted(backend for backend in found if backend.addresses))


def _takes_traffic(node: Object) -> bool:
    if meta.is_deleting(node):
        return False
    excluded = meta.labels(node).get(EXCLUDED)
    if excluded is not None and excluded.lower() not in FALSE:  # a value that is no boolean counts as true
        return False
    return not any(taint.get("key") == TO_BE_DELETED for taint in (node.get("spec") or {}).get("taints") or ())


def status(addresses: Iterable[str]) -> dict[str, Any]:
    """status.loadBalancer. With mode VIP a node's proxy serves these addresses for clients in the cluster itself."""
    entries = [{"ip": address, "ipMode": "VIP"} for address in addresses]
    return {"ingress": entries} if entries else {}


def oldest_first(services: Iterable[Object]) -> list[Object]:
    return sorted(services, key=lambda one: (meta.metadata(one).get("creationTimestamp") or "", meta.uid(one)))
