"""Which pods stand behind a Service, at which addresses and ports: what EndpointSlices and Endpoints are made from.

A pod counts if the selector matches, it has an address and has not ended. It is *serving* while it is ready, *ready*
while it is serving and not being deleted (or if the Service publishes pods that are not), *terminating* while it is
being deleted. A named target port is the container port of that name, and may differ from pod to pod.
Source: Concepts, Service and EndpointSlices; API reference discovery/v1.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.api.podresources import is_sidecar
from orchestrator.controllers import pods
from orchestrator.controllers.fields import spec, status_of

ZONE_LABEL = "topology.kubernetes.io/zone"
HEADLESS = "service.kubernetes.io/headless"


class Port(Struct, frozen=True):
    name: str
    port: int
    protocol: str
    app_protocol: str = ""


class Backend(Struct, frozen=True):
    """One pod at its address of one family."""

    pod: Object
    address: str
    ports: tuple[Port, ...]
    is_serving: bool
    is_terminating: bool
    is_ready: bool
    hostname: str


def families(service: Object) -> list[str]:
    """The address types of a Service's slices: IPv4, IPv6 or both."""
    return list(spec(service).get("ipFamilies") or ["IPv4"])


def is_headless(service: Object) -> bool:
    return spec(service).get("clusterIP") == "None"


def backends(service: Object, candidates: Iterable[Object], family: str) -> list[Backend]:
    """In the order of the pods' names, so that the same pods always give the same answer."""
    found = []
    publishes_all = bool(spec(service).get("publishNotReadyAddresses"))
    for pod in sorted(candidates, key=meta.name):
        address = address_of(pod, family)
        if address is None or pods.is_terminal(pod):
            continue
        serving, terminating = pods.is_ready(pod), meta.is_deleting(pod)
        found.append(
            Backend(
                pod,
                address,
                ports_of(service, pod),
                serving,
                terminating,
                publishes_all or (serving and not terminating),
                _hostname(service, pod),
            )
        )
    return found


def address_of(pod: Object, family: str) -> str | None:
    seen = status_of(pod)
    addresses = [entry["ip"] for entry in seen.get("podIPs") or ()] or ([seen["podIP"]] if seen.get("podIP") else [])
    version = 6 if family == "IPv6" else 4
    return next((text for text in addresses if ipaddress.ip_address(text).version == version), None)


def ports_of(service: Object, pod: Object) -> tuple[Port, ...]:
    """The Service's ports as this pod has them; a named port that the pod lacks is left out."""
    found = []
    for entry in spec(service).get("ports") or ():
        protocol = entry.get("protocol") or "TCP"
        number = target_port(entry, pod, protocol)
        if number is not None:
            found.append(Port(entry.get("name") or "", number, protocol, entry.get("appProtocol") or ""))
    return tuple(found)


def target_port(entry: dict[str, Any], pod: Object, protocol: str) -> int | None:
    target = entry.get("targetPort")
    if target in (None, "", 0):
        return int(entry["port"])
    if isinstance(target, int):
        return target
    described = spec(pod)
    sidecars = filter(is_sidecar, described.get("initContainers") or ())
    for container in [*(described.get("containers") or ()), *sidecars]:
        for port in container.get("ports") or ():
            if port.get("name") == target and (port.get("protocol") or "TCP") == protocol:
                return int(port["containerPort"])
    return None


def _hostname(service: Object, pod: Object) -> str:
    """A pod of the Service's subdomain has a DNS name of its own."""
    hostname = spec(pod).get("hostname") or ""
    return hostname if hostname and spec(pod).get("subdomain") == meta.name(service) else ""


def target_reference(pod: Object) -> dict[str, Any]:
    return {"kind": "Pod", "namespace": meta.namespace(pod), "name": meta.name(pod), "uid": meta.uid(pod)}


def sort_ports(ports: Sequence[Port]) -> list[Port]:
    return sorted(ports, key=lambda port: (port.name, port.port, port.protocol))
