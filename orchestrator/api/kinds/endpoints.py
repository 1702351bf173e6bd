"""EndpointSlice and Endpoints: the addresses behind a Service. Source: discovery.k8s.io/v1, core/v1 API reference."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

from orchestrator.api import meta
from orchestrator.api.kinds import container_faults, faults, formats, table
from orchestrator.api.kinds.rules import KindRules
from orchestrator.api.kinds.service_faults import endpoint_address
from orchestrator.api.kinds.table import AGE, NAME, Cells, age
from orchestrator.api.kinds.values import one_of
from orchestrator.api.meta import Object
from orchestrator.api.resources import ENDPOINTS, ENDPOINTSLICES
from orchestrator.api.status import Cause

Json = Mapping[str, Any]

ENDPOINTS_MAX, ADDRESSES_MAX, PORTS_MAX, HINTS_MAX = 1000, 100, 20000, 8
SHOWN_MAX = 3
ADDRESS_TYPES = ("FQDN", "IPv4", "IPv6")


def drop_topology(obj: Object) -> None:
    """What v1 shows of older versions' objects cannot be written by it."""
    for endpoint in obj.get("endpoints") or ():
        endpoint.pop("deprecatedTopology", None)


def default_slice(obj: Object) -> None:
    for port in obj.get("ports") or ():
        port.setdefault("name", "")
        port.setdefault("protocol", "TCP")


def slice_(obj: Object, old: Object | None = None) -> list[Cause]:
    """Endpoints that an update leaves as they were are not held against it."""
    kind, found = obj.get("addressType") or "", obj.get("endpoints") or []
    causes = one_of(kind, "addressType", ADDRESS_TYPES)
    causes += _ports(obj.get("ports") or [])
    if old is not None and found == (old.get("endpoints") or []):
        return causes
    if len(found) > ENDPOINTS_MAX:
        return [*causes, faults.too_many("endpoints", len(found), ENDPOINTS_MAX)]
    for index, endpoint in enumerate(found):
        causes += _endpoint(endpoint, f"endpoints[{index}]", kind)
    return causes


def _ports(ports: list[Json]) -> list[Cause]:
    if len(ports) > PORTS_MAX:
        return [faults.too_many("ports", len(ports), PORTS_MAX)]
    causes: list[Cause] = []
    names: set[str] = set()
    for index, port in enumerate(ports):
        at, name = f"ports[{index}]", port.get("name") or ""
        if name:
            causes += faults.each(f"{at}.name", name, formats.dns_label(name))
        if name in names:
            causes.append(faults.duplicate(f"{at}.name", name))
        names.add(name)
        causes += one_of(port.get("protocol"), f"{at}.protocol", container_faults.PROTOCOLS)
        if protocol := port.get("appProtocol"):
            causes += faults.each(f"{at}.appProtocol", protocol, formats.qualified_name(protocol))
    return causes


def _endpoint(endpoint: Json, path: str, kind: str) -> list[Cause]:
    addresses = endpoint.get("addresses") or []
    causes: list[Cause] = []
    if not addresses:
        causes.append(faults.required(f"{path}.addresses", "must contain at least 1 address"))
    elif len(addresses) > ADDRESSES_MAX:
        causes.append(faults.too_many(f"{path}.addresses", len(addresses), ADDRESSES_MAX))
    for index, address in enumerate(addresses):
        causes += _address(address, f"{path}.addresses[{index}]", f"{path}.addresses", kind)
    if node := endpoint.get("nodeName"):
        causes += faults.each(f"{path}.nodeName", node, formats.dns_subdomain(node))
    if name := endpoint.get("hostname"):
        causes += faults.each(f"{path}.hostname", name, formats.dns_label(name))
    return causes + _hints(endpoint.get("hints") or {}, f"{path}.hints")


def _hints(hints: Json, path: str) -> list[Cause]:
    causes: list[Cause] = []
    zones, nodes = hints.get("forZones") or [], hints.get("forNodes") or []
    if len(zones) > HINTS_MAX:
        causes.append(faults.too_many(f"{path}.forZones", len(zones), HINTS_MAX))
    for index, zone in enumerate(zones):
        name = zone.get("name") or ""
        causes += faults.each(f"{path}.forZones[{index}].name", name, formats.label_value(name))
    for index, node in enumerate(nodes):
        name = node.get("name") or ""
        causes += faults.each(f"{path}.forNodes[{index}].name", name, formats.dns_subdomain(name))
    return causes


def _address(address: str, path: str, whole: str, kind: str) -> list[Cause]:
    if kind == "FQDN":
        return faults.each(path, address, formats.dns_subdomain(address))
    if complaints := formats.ip_address(address):
        return faults.each(path, address, complaints)
    causes: list[Cause] = []
    if kind in ("IPv4", "IPv6") and f"IPv{ipaddress.ip_address(address).version}" != kind:
        causes.append(faults.invalid(whole, address, f"must be an {kind} address"))
    return causes + endpoint_address(address, path)


def slice_update(new: Object, old: Object) -> list[Cause]:
    return slice_(new, old) + faults.immutable("addressType", new.get("addressType"), old.get("addressType"))


def default_endpoints(obj: Object) -> None:
    for subset in obj.get("subsets") or ():
        for port in subset.get("ports") or ():
            if not port.get("protocol"):
                port["protocol"] = "TCP"


def endpoints(obj: Object) -> list[Cause]:
    causes: list[Cause] = []
    for index, subset in enumerate(obj.get("subsets") or ()):
        path = f"subsets[{index}]"
        if not subset.get("addresses") and not subset.get("notReadyAddresses"):
            causes.append(faults.required(path, "must specify `addresses` or `notReadyAddresses`"))
        for kind in ("addresses", "notReadyAddresses"):
            for number, address in enumerate(subset.get(kind) or ()):
                at = f"{path}.{kind}[{number}]"
                if name := address.get("hostname"):
                    causes += faults.each(f"{at}.hostname", name, formats.dns_label(name))
                if (name := address.get("nodeName")) is not None:
                    causes += faults.each(f"{at}.nodeName", name, formats.dns_subdomain(name))
                ip = address.get("ip") or ""
                causes += faults.each(f"{at}.ip", ip, formats.ip_address(ip))
                try:
                    ipaddress.ip_address(formats.without_leading_zeros(ip))
                except ValueError:  # which upstream looks for twice
                    causes.append(faults.invalid(f"{at}.ip", ip, "must be a valid IP address"))
                else:
                    causes += endpoint_address(formats.without_leading_zeros(ip), f"{at}.ip")
        ports = subset.get("ports") or ()
        for number, port in enumerate(ports):
            at, name = f"{path}.ports[{number}]", port.get("name") or ""
            if not name and len(ports) > 1:
                causes.append(faults.required(f"{at}.name"))
            elif name:
                causes += faults.each(f"{at}.name", name, formats.dns_label(name))
            causes += faults.each(f"{at}.port", port.get("port", 0), formats.port_number(port.get("port", 0)))
            causes += one_of(port.get("protocol"), f"{at}.protocol", container_faults.PROTOCOLS)
            if (protocol := port.get("appProtocol")) is not None:
                causes += faults.each(f"{at}.appProtocol", protocol, formats.qualified_name(protocol))
    return causes


def _first(items: Iterable[str]) -> str:
    """The first few of a list: `a,b,c + 2 more...`."""
    found = list(items)
    text = ",".join(found[:SHOWN_MAX]) or "<unset>"
    return f"{text} + {len(found) - SHOWN_MAX} more..." if len(found) > SHOWN_MAX else text


def _slice_cells(obj: Object, now: float) -> Cells:
    ports = _first(
        str(port["port"]) if port.get("port") else port.get("name") or "*" for port in obj.get("ports") or ()
    )
    addresses = _first(a for endpoint in obj.get("endpoints") or () for a in endpoint.get("addresses") or ())
    return [meta.name(obj), obj.get("addressType") or "", ports, addresses, age(obj, now)]


def _endpoints_cells(obj: Object, now: float) -> Cells:
    found = [
        _host_port(address.get("ip") or "", port)
        for subset in obj.get("subsets") or ()
        for port in subset.get("ports") or [None]
        for address in subset.get("addresses") or ()
    ]
    shown = _first(found) if obj.get("subsets") else "<none>"
    return [meta.name(obj), "" if shown == "<unset>" else shown, age(obj, now)]


def _host_port(address: str, port: Json | None) -> str:
    if port is None:
        return address
    return f"[{address}]:{port.get('port')}" if ":" in address else f"{address}:{port.get('port')}"


RULES = (
    KindRules(
        resource=ENDPOINTSLICES,
        has_generation=True,
        counts_labels=True,
        default=default_slice,
        on_create=drop_topology,
        on_update=lambda new, old: drop_topology(new),
        faults=slice_,
        update_faults=slice_update,
        columns=(NAME, *table.texts("AddressType", "Ports", "Endpoints"), AGE),
        cells=_slice_cells,
    ),
    KindRules(
        resource=ENDPOINTS,
        default=default_endpoints,
        faults=endpoints,
        update_faults=lambda new, old: endpoints(new),
        columns=(NAME, *table.texts("Endpoints"), AGE),
        cells=_endpoints_cells,
    ),
)
