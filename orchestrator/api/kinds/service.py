"""Service: types, addresses, ports and traffic policies.

Addresses (clusterIP, nodePort) are allocated by the API server after `prepare`; validation sees them. Switching to a
type that has no use for an address gives back what the server had filled in. Source: core/v1 API reference, Service.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.api import meta
from orchestrator.api.kinds import formats, service_faults, service_warnings, table
from orchestrator.api.kinds.rules import KindRules
from orchestrator.api.kinds.service_faults import is_external, is_headless, needs_health_check
from orchestrator.api.kinds.table import AGE, NAME, Cells, age, wide
from orchestrator.api.meta import Object
from orchestrator.api.resources import SERVICES

Json = Mapping[str, Any]

AFFINITY_TIMEOUT_S = 10800


def _spec(obj: Object) -> dict[str, Any]:
    found: dict[str, Any] = obj.setdefault("spec", {})
    return found


# -- defaults and preparation ------------------------------------------------------------------------------------------


def default(obj: Object) -> None:
    spec = _spec(obj)
    if not spec.get("sessionAffinity"):
        spec["sessionAffinity"] = "None"
    if spec["sessionAffinity"] == "None":
        spec.pop("sessionAffinityConfig", None)
    elif spec["sessionAffinity"] == "ClientIP":
        config = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
        if config.get("timeoutSeconds") is None:
            spec["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": AFFINITY_TIMEOUT_S}}
    if not spec.get("type"):
        spec["type"] = "ClusterIP"
    for port in spec.get("ports") or ():
        if not port.get("protocol"):
            port["protocol"] = "TCP"
        if port.get("targetPort") in (None, 0, ""):
            port["targetPort"] = port.get("port", 0)
    if is_external(spec) and not spec.get("externalTrafficPolicy"):
        spec["externalTrafficPolicy"] = "Cluster"
    if spec["type"] != "ExternalName":
        spec.setdefault("internalTrafficPolicy", "Cluster")
    if spec["type"] == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)
        for ingress in ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ():
            if ingress.get("ip"):
                ingress.setdefault("ipMode", "VIP")


def normalize_addresses(new: Object, old: Object | None = None) -> None:
    """`clusterIP` is the first of `clusterIPs`, whichever of the two a client wrote or left out.

    The API server calls this before it allocates. A client that knows only `clusterIP` may clear or set it alone.
    """
    spec, before = _spec(new), _spec(old) if old is not None else {}
    single, several = spec.get("clusterIP") or "", spec.get("clusterIPs") or []
    if not before:
        if single and not several:
            spec["clusterIPs"] = [single]
        return
    old_single, old_several = before.get("clusterIP") or "", before.get("clusterIPs") or []
    if single != old_single and several == old_several:
        several = [single] if single else []
    elif single == old_single and not several and old_several:
        several = old_several if single else []
    if single and not several:
        several = [single]
    if several:
        spec["clusterIPs"] = several
    else:
        spec.pop("clusterIPs", None)


def on_create(obj: Object) -> None:
    obj["status"] = {"loadBalancer": {}}


def on_update(new: Object, old: Object) -> None:
    spec, before = _spec(new), _spec(old)
    _keep_addresses(spec, before)
    carry_node_ports(spec, before)
    normalize_addresses(new, old)
    _drop_what_the_type_has_no_use_for(spec, before)
    if spec.get("type") != "LoadBalancer":
        new["status"] = {**(new.get("status") or {}), "loadBalancer": {}}


def _keep_addresses(spec: dict[str, Any], before: Json) -> None:
    """An update that leaves allocated values out means the same ones."""
    if "ExternalName" in (spec.get("type"), before.get("type")):
        return
    if not spec.get("clusterIP") and not spec.get("clusterIPs"):
        for name in ("clusterIP", "clusterIPs"):
            if before.get(name):
                spec[name] = before[name]
    if is_headless(spec) == is_headless(before):
        for name in ("ipFamilies", "ipFamilyPolicy"):
            if before.get(name) and not spec.get(name):
                spec[name] = before[name]
    held_port = before.get("healthCheckNodePort")
    if held_port and needs_health_check(spec) and needs_health_check(before) and not spec.get("healthCheckNodePort"):
        spec["healthCheckNodePort"] = held_port


def carry_node_ports(spec: dict[str, Any], before: Json) -> None:
    """Node ports that an update leaves out stay with the port of that name, whatever else of it has changed; a type
    that has none gives them back, unless the update asks for others. `allocateLoadBalancerNodePorts: false` takes none
    away: it only keeps new ones from being chosen."""
    ports, held = spec.get("ports") or (), _node_ports(before)
    if not _may_have_node_ports(before):
        return
    if _may_have_node_ports(spec):
        used = held & _node_ports(spec)
        by_name = {port.get("name") or "": port.get("nodePort") for port in before.get("ports") or ()}
        for port in ports:
            number = by_name.get(port.get("name") or "")
            if number and not port.get("nodePort") and number not in used:
                port["nodePort"] = number
    elif _node_ports(spec) <= held:
        for port in ports:
            port.pop("nodePort", None)


def _may_have_node_ports(spec: Json) -> bool:
    return spec.get("type") in ("NodePort", "LoadBalancer")


def _node_ports(spec: Json) -> set[int]:
    return {port["nodePort"] for port in spec.get("ports") or () if port.get("nodePort")}


def _drop_what_the_type_has_no_use_for(spec: dict[str, Any], before: Json) -> None:
    def drop_same(*names: str) -> None:
        for name in names:
            if name in spec and spec[name] == before.get(name):
                del spec[name]

    had, has = before.get("type"), spec.get("type")
    if had != "ExternalName" and has == "ExternalName":
        if spec.get("clusterIP", "") in ("", before.get("clusterIP", "")):
            drop_same("clusterIP", "clusterIPs")
        drop_same("ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy")
    if needs_health_check(before) and not needs_health_check(spec):
        drop_same("healthCheckNodePort")
    if had == "LoadBalancer" and has != "LoadBalancer":
        drop_same("allocateLoadBalancerNodePorts", "loadBalancerClass")
    if is_external(before) and not is_external(spec):
        drop_same("externalTrafficPolicy")


# -- table -------------------------------------------------------------------------------------------------------------


def _cells(obj: Object, now: float) -> Cells:
    spec = _spec(obj)
    address = (spec.get("clusterIPs") or [spec.get("clusterIP")])[0] or "<none>"
    ports = ",".join(_port_text(port) for port in spec.get("ports") or ()) or "<none>"
    selector = table.label_text(spec.get("selector"))
    return [meta.name(obj), spec.get("type") or "", address, external_address(obj), ports, age(obj, now), selector]


def _port_text(port: Json) -> str:
    number, protocol = port.get("port", 0), port.get("protocol") or "TCP"
    return f"{number}:{port['nodePort']}/{protocol}" if port.get("nodePort") else f"{number}/{protocol}"


def external_address(obj: Object) -> str:
    spec = _spec(obj)
    own = spec.get("externalIPs") or []
    match spec.get("type"):
        case "LoadBalancer":
            ingresses = ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
            given = [entry.get("ip") or entry.get("hostname") or "" for entry in ingresses]
            return ",".join(sorted(set(filter(None, given))) + own) or "<pending>"
        case "ExternalName":
            return spec.get("externalName") or "<none>"
        case "ClusterIP" | "NodePort":
            return ",".join(own) or "<none>"
    return "<unknown>"


RULES = (
    KindRules(
        resource=SERVICES,
        name_format=formats.dns_label,
        default=default,
        on_create=on_create,
        on_update=on_update,
        faults=service_faults.create,
        update_faults=service_faults.update,
        status_faults=service_faults.status_update,
        warnings=service_warnings.of_service,
        columns=(NAME, *table.texts("Type", "Cluster-IP", "External-IP", "Port(s)"), AGE, wide("Selector")),
        cells=_cells,
    ),
)
