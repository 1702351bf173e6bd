"""From the backends of a Service to its EndpointSlices, changing as few slices as can be. Pure.

A slice holds endpoints of one address type and one set of ports, at most `ENDPOINTS_MAX`. Endpoints stay in the slice
where they are; new ones fill the slices that change anyway, then the fullest that has room for all of the rest, then
new slices. A slice that became empty is deleted, but the last one of a family is kept as a placeholder, so that
watchers know that there is nothing. Every write reaches every node's proxy: that is why.
Source: KEP-752; Concepts, EndpointSlices, "Distribution of EndpointSlices".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct, field

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.controllers import pods
from orchestrator.controllers.endpoints_of import (
    HEADLESS,
    Backend,
    Port,
    is_headless,
    sort_ports,
    target_reference,
)
from orchestrator.controllers.fields import spec

ENDPOINTS_MAX = 100
SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
MANAGER = "endpointslice-controller.k8s.io"
RESERVED_LABELS = {SERVICE_NAME, MANAGED_BY, HEADLESS}

Ports = tuple[Port, ...]


class Plan(Struct):
    create: list[Object] = field(default_factory=list)
    update: list[Object] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)


def plan(
    service: Object,
    by_family: Mapping[str, Sequence[Backend]],
    zones: Mapping[str, str],
    slices: Sequence[Object],
) -> Plan:
    """`by_family` has each family that the Service wants; `zones` maps nodes to zones; `slices` are the ones that this
    controller made for the Service."""
    found = Plan()
    labels = slice_labels(service)
    for family, backends in by_family.items():
        existing = [each for each in slices if each.get("addressType") == family]
        _plan_family(service, family, backends, zones, existing, labels, found)
    for each in slices:
        if each.get("addressType") not in by_family:
            found.delete.append(each)
    return found


def slice_labels(service: Object) -> dict[str, str]:
    labels = {name: value for name, value in meta.labels(service).items() if name not in RESERVED_LABELS}
    labels |= {SERVICE_NAME: meta.name(service), MANAGED_BY: MANAGER}
    if is_headless(service):
        labels[HEADLESS] = ""
    return labels


def _plan_family(
    service: Object,
    family: str,
    backends: Sequence[Backend],
    zones: Mapping[str, str],
    existing: Sequence[Object],
    labels: dict[str, str],
    found: Plan,
) -> None:
    wanted: dict[Ports, dict[str, dict[str, Any]]] = {}
    hinted = _hints(service, backends, zones)
    for backend in backends:
        ports = tuple(sort_ports(backend.ports))
        wanted.setdefault(ports, {})[meta.uid(backend.pod)] = _endpoint(backend, zones, hinted)
    by_ports: dict[Ports, list[Object]] = {}
    for each in existing:
        by_ports.setdefault(_ports_of_slice(each), []).append(each)
    if not wanted:
        # The placeholder: what is there already, or a slice without endpoints and ports.
        placeholder = existing[0] if existing else _new_slice(service, family, (), labels)
        kept = {**placeholder, "endpoints": [], "ports": []}
        _put(kept, placeholder if existing else None, labels, found)
        found.delete.extend(existing[1:])
        return
    placeholders = by_ports.pop((), []) if () not in wanted else []
    for ports, endpoints in wanted.items():
        here = by_ports.pop(ports, [])
        if not here and placeholders:  # a placeholder takes the first endpoints: one write, not two
            here = [{**placeholders.pop(0), "ports": [_port_json(port) for port in ports]}]
        _plan_ports(service, family, ports, endpoints, here, labels, found)
    by_ports[()] = placeholders
    for surplus in by_ports.values():
        found.delete.extend(surplus)


def _plan_ports(
    service: Object,
    family: str,
    ports: Ports,
    wanted: dict[str, dict[str, Any]],
    existing: Sequence[Object],
    labels: dict[str, str],
    found: Plan,
) -> None:
    rest = dict(wanted)
    contents: list[tuple[Object, list[dict[str, Any]]]] = []
    changed: set[int] = set()
    for index, each in enumerate(existing):
        before = each.get("endpoints") or []
        kept = []
        for endpoint in before:
            now = rest.pop((endpoint.get("targetRef") or {}).get("uid", ""), None)
            if now is not None:
                kept.append(now)
        if kept != before:
            changed.add(index)
        contents.append((each, kept))
    new = list(rest.values())
    for index in sorted(changed, key=lambda index: -len(contents[index][1])):
        kept = contents[index][1]
        while new and len(kept) < ENDPOINTS_MAX and (kept or len(new) > 0):
            kept.append(new.pop(0))
    if new:
        roomy = [
            index
            for index, (_, kept) in enumerate(contents)
            if index not in changed and len(kept) + len(new) % ENDPOINTS_MAX <= ENDPOINTS_MAX
        ]
        if roomy and len(new) % ENDPOINTS_MAX:
            index = max(roomy, key=lambda index: len(contents[index][1]))
            count = len(new) % ENDPOINTS_MAX
            contents[index][1].extend(new[:count])
            new = new[count:]
            changed.add(index)
    for each, kept in contents:
        if not kept:
            found.delete.append(each)
        else:
            _put({**each, "endpoints": kept}, each, labels, found)
    for start in range(0, len(new), ENDPOINTS_MAX):
        made = _new_slice(service, family, ports, labels)
        made["endpoints"] = new[start : start + ENDPOINTS_MAX]
        found.create.append(made)


def _put(wanted: Object, before: Object | None, labels: dict[str, str], found: Plan) -> None:
    """Creates or updates, where anything differs."""
    if before is None:
        found.create.append(wanted)
        return
    same = all((before.get(part) or []) == (wanted.get(part) or []) for part in ("endpoints", "ports"))
    if same and meta.labels(before) == labels:
        return
    wanted["metadata"] = {**meta.metadata(before), "labels": dict(labels)}
    found.update.append(wanted)


def _new_slice(service: Object, family: str, ports: Ports, labels: dict[str, str]) -> Object:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "generateName": f"{meta.name(service)}-",
            "namespace": meta.namespace(service),
            "labels": dict(labels),
            "ownerReferences": [meta.owner_reference(service)],
        },
        "addressType": family,
        "endpoints": [],
        "ports": [_port_json(port) for port in ports],
    }


def _port_json(port: Port) -> dict[str, Any]:
    shown: dict[str, Any] = {"name": port.name, "port": port.port, "protocol": port.protocol}
    return shown | ({"appProtocol": port.app_protocol} if port.app_protocol else {})


def _ports_of_slice(each: Object) -> Ports:
    return tuple(
        sort_ports(
            [
                Port(
                    entry.get("name") or "",
                    entry.get("port") or 0,
                    entry.get("protocol") or "TCP",
                    entry.get("appProtocol") or "",
                )
                for entry in each.get("ports") or ()
            ]
        )
    )


def _endpoint(backend: Backend, zones: Mapping[str, str], hinted: str) -> dict[str, Any]:
    node = pods.node_name(backend.pod)
    endpoint: dict[str, Any] = {
        "addresses": [backend.address],
        "conditions": {
            "ready": backend.is_ready,
            "serving": backend.is_serving,
            "terminating": backend.is_terminating,
        },
        "targetRef": target_reference(backend.pod),
    }
    if backend.hostname:
        endpoint["hostname"] = backend.hostname
    if node:
        endpoint["nodeName"] = node
    if zones.get(node):
        endpoint["zone"] = zones[node]
    hints: dict[str, Any] = {}
    if hinted in ("zone", "node"):
        hints["forZones"] = [{"name": zones[node]}] if zones.get(node) else []
    if hinted == "node":
        hints["forNodes"] = [{"name": node}]
    hints = {name: value for name, value in hints.items() if value}
    return endpoint | ({"hints": hints} if hints and backend.is_ready else {})


def _hints(service: Object, backends: Iterable[Backend], zones: Mapping[str, str]) -> str:
    """What trafficDistribution asks hints for: each endpoint then serves its own zone (KEP-2433) or node (KEP-3015)."""
    wanted = spec(service).get("trafficDistribution") or ""
    if wanted == "PreferSameNode":
        return "node"
    if wanted in ("PreferClose", "PreferSameZone"):
        return "zone" if all(zones.get(pods.node_name(each.pod)) for each in backends if each.is_ready) else ""
    return ""
