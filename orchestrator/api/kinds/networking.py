"""Ingress, NetworkPolicy, and the address ranges of Services. Source: networking.k8s.io/v1 API reference."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.api import meta
from orchestrator.api.kinds import faults, formats, table
from orchestrator.api.kinds.rules import KindRules
from orchestrator.api.kinds.table import AGE, NAME, Cells, age
from orchestrator.api.kinds.values import label_selector, name_of
from orchestrator.api.meta import Object
from orchestrator.api.resources import INGRESSCLASSES, INGRESSES, IPADDRESSES, NETWORKPOLICIES, SERVICECIDRS
from orchestrator.api.status import Cause

Json = Mapping[str, Any]

CLASS_ANNOTATION = "kubernetes.io/ingress.class"
DEFAULT_CLASS = "ingressclass.kubernetes.io/is-default-class"
PATH_TYPES = ("Exact", "ImplementationSpecific", "Prefix")
CONTROLLER_MAX = 250
HOSTS_SHOWN_MAX = 3


def _spec(obj: Json) -> dict[str, Any]:
    return obj.get("spec") or {}


# -- Ingress -----------------------------------------------------------------------------------------------------------


def ingress(obj: Object) -> list[Cause]:
    spec = _spec(obj)
    rules, default = spec.get("rules") or [], spec.get("defaultBackend")
    causes: list[Cause] = []
    if not rules and default is None:
        causes.append(faults.invalid("spec", spec.get("rules"), "either `defaultBackend` or `rules` must be specified"))
    if default is not None:
        causes += _backend(default, "spec.defaultBackend")
    for index, rule in enumerate(rules):
        causes += _rule(rule, f"spec.rules[{index}]")
    for index, tls in enumerate(spec.get("tls") or ()):
        for number, host in enumerate(tls.get("hosts") or ()):
            causes += _host(host, f"spec.tls[{index}].hosts[{number}]")
        causes += name_of(tls.get("secretName"), f"spec.tls[{index}].secretName", formats.dns_subdomain)
    return causes + name_of(spec.get("ingressClassName"), "spec.ingressClassName", formats.dns_subdomain)


def ingress_create(obj: Object) -> list[Cause]:
    causes = ingress(obj)
    annotated, named = meta.annotations(obj).get(CLASS_ANNOTATION), _spec(obj).get("ingressClassName")
    if annotated is not None and named is not None and annotated != named:
        detail = "must match `ingressClassName` when both are specified"
        causes.append(faults.invalid(f"annotations.{CLASS_ANNOTATION}", annotated, detail))
    return causes


def _host(host: str, path: str) -> list[Cause]:
    if "*" in host:
        return faults.each(path, host, formats.wildcard_subdomain(host))
    return faults.each(path, host, formats.dns_subdomain(host))


def _rule(rule: Json, path: str) -> list[Cause]:
    host, causes = rule.get("host") or "", []
    if host and not formats.ip_address(host):
        causes.append(faults.invalid(f"{path}.host", host, "must be a DNS name, not an IP address"))
    if host:
        causes += _host(host, f"{path}.host")
    http = rule.get("http")
    if http is None:
        return causes
    paths = http.get("paths") or ()
    if not paths:
        causes.append(faults.required(f"{path}.http.paths"))
    for index, found in enumerate(paths):
        causes += _path(found, f"{path}.http.paths[{index}]")
    return causes


def _path(found: Json, path: str) -> list[Cause]:
    kind, place = found.get("pathType"), found.get("path") or ""
    if not kind:
        return [faults.required(f"{path}.pathType", "pathType must be specified")]
    causes: list[Cause] = []
    relative = not place.startswith("/")
    if kind not in PATH_TYPES:
        causes.append(faults.not_supported(f"{path}.pathType", kind, PATH_TYPES))
    elif relative and (place or kind != "ImplementationSpecific"):
        causes.append(faults.invalid(f"{path}.path", place, "must be an absolute path"))
    if kind in ("Exact", "Prefix") and place:
        for mark in ("//", "/./", "/../", "%2f", "%2F"):
            if mark in place:
                causes.append(faults.invalid(f"{path}.path", place, f"must not contain '{mark}'"))
        for mark in ("/..", "/."):
            if place.endswith(mark):
                causes.append(faults.invalid(f"{path}.path", place, f"cannot end with '{mark}'"))
    return causes + _backend(found.get("backend") or {}, f"{path}.backend")


def _backend(backend: Json, path: str) -> list[Cause]:
    service, resource = backend.get("service"), backend.get("resource")
    if service is not None and resource is not None:
        return [faults.invalid(path, "", "cannot set both resource and service backends")]
    if resource is not None:
        return [faults.required(f"{path}.resource.{name}") for name in ("kind", "name") if not resource.get(name)]
    if service is None:
        return [faults.invalid(path, "", "resource or service backend is required")]
    causes = name_of(service.get("name"), f"{path}.service.name", formats.dns_label, required=True)
    port = service.get("port") or {}
    if port.get("name") and port.get("number"):
        causes.append(faults.invalid(path, "", "cannot set both port name & port number"))
    elif port.get("name"):
        causes += faults.each(f"{path}.service.port.name", port["name"], formats.port_name(port["name"]))
    elif port.get("number"):
        causes += faults.each(f"{path}.service.port.number", port["number"], formats.port_number(port["number"]))
    else:
        causes.append(faults.required(path, "port name or number is required"))
    return causes


def default_class(obj: Object) -> None:
    parameters = _spec(obj).get("parameters")
    if parameters is not None:
        parameters.setdefault("scope", "Cluster")


def ingress_class(obj: Object) -> list[Cause]:
    spec = _spec(obj)
    controller, parameters = spec.get("controller") or "", spec.get("parameters")
    causes: list[Cause] = []
    if len(controller) > CONTROLLER_MAX:
        causes.append(faults.too_long("spec.controller", CONTROLLER_MAX))
    causes += _domain_prefixed(controller, "spec.controller")
    if parameters is not None:
        path = "spec.parameters"
        if group := parameters.get("apiGroup"):
            causes += faults.each(f"{path}.apiGroup", group, formats.dns_subdomain(group))
        for name in ("kind", "name"):
            value = parameters.get(name) or ""
            if not value:
                causes.append(faults.required(f"{path}.{name}"))
            causes += faults.each(f"{path}.{name}", value, formats.path_segment(value) if value else ())
        scope = parameters.get("scope")
        if scope not in ("Cluster", "Namespace"):
            causes.append(faults.not_supported(f"{path}.scope", scope or "", ("Cluster", "Namespace")))
        elif scope == "Namespace" and not parameters.get("namespace"):
            causes.append(faults.required(f"{path}.namespace", "`parameters.scope` is set to 'Namespace'"))
        elif scope == "Namespace":
            namespace = parameters["namespace"]
            causes += faults.each(f"{path}.namespace", namespace, formats.dns_label(namespace))
        elif scope == "Cluster" and parameters.get("namespace") is not None:
            causes.append(faults.forbidden(f"{path}.namespace", "`parameters.scope` is set to 'Cluster'"))
    return causes


def _domain_prefixed(value: str, path: str) -> list[Cause]:
    host, _, rest = value.partition("/")
    if not value:
        return [faults.required(path)]
    if not host or not rest:
        return [faults.invalid(path, value, 'must be a domain-prefixed path (such as "acme.io/foo")')]
    return faults.each(path, host, formats.dns_subdomain(host))


# -- NetworkPolicy -----------------------------------------------------------------------------------------------------


def default_policy(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    for direction in ("ingress", "egress"):
        for rule in spec.get(direction) or ():
            for port in rule.get("ports") or ():
                port.setdefault("protocol", "TCP")
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]


def policy(obj: Object) -> list[Cause]:
    spec = _spec(obj)
    causes = label_selector(spec.get("podSelector"), "spec.podSelector")
    for direction, peers in (("ingress", "from"), ("egress", "to")):
        for index, rule in enumerate(spec.get(direction) or ()):
            path = f"spec.{direction}[{index}]"
            for number, port in enumerate(rule.get("ports") or ()):
                causes += _policy_port(port, f"{path}.ports[{number}]")
            for number, peer in enumerate(rule.get(peers) or ()):
                causes += _peer(peer, f"{path}.{peers}[{number}]")
    types = spec.get("policyTypes") or []
    if len(types) > 2:
        return [*causes, faults.invalid("spec.policyTypes", types, "may not specify more than two policyTypes")]
    for index, kind in enumerate(types):
        if kind not in ("Ingress", "Egress"):
            causes.append(faults.not_supported(f"spec.policyTypes[{index}]", kind, ("Ingress", "Egress")))
    return causes


def _policy_port(found: Json, path: str) -> list[Cause]:
    protocol, port, end = found.get("protocol"), found.get("port"), found.get("endPort")
    causes: list[Cause] = []
    if protocol is not None and protocol not in ("TCP", "UDP", "SCTP"):
        causes.append(faults.not_supported(f"{path}.protocol", protocol, ("TCP", "UDP", "SCTP")))
    if port is None:
        detail = "may not be specified when `port` is not specified"
        return [*causes, faults.invalid(f"{path}.endPort", end, detail)] if end is not None else causes
    if isinstance(port, str):
        if end is not None:
            detail = "may not be specified when `port` is non-numeric"
            causes.append(faults.invalid(f"{path}.endPort", end, detail))
        return causes + faults.each(f"{path}.port", port, formats.port_name(port))
    causes += faults.each(f"{path}.port", port, formats.port_number(port))
    if end is not None:
        if end < port:
            causes.append(faults.invalid(f"{path}.endPort", port, "must be greater than or equal to `port`"))
        causes += faults.each(f"{path}.endPort", end, formats.port_number(end))
    return causes


def _peer(peer: Json, path: str) -> list[Cause]:
    causes = label_selector(peer.get("podSelector"), f"{path}.podSelector")
    causes += label_selector(peer.get("namespaceSelector"), f"{path}.namespaceSelector")
    block = peer.get("ipBlock")
    if block is not None:
        causes += _block(block, f"{path}.ipBlock")
    selectors = [name for name in ("podSelector", "namespaceSelector") if peer.get(name) is not None]
    if not selectors and block is None:
        causes.append(faults.required(path, "must specify a peer"))
    elif selectors and block is not None:
        causes.append(faults.forbidden(path, "may not specify both ipBlock and another peer"))
    return causes


def _block(block: Json, path: str) -> list[Cause]:
    text = block.get("cidr") or ""
    if not text:
        return [faults.required(f"{path}.cidr")]
    if complaints := formats.cidr(text):
        return faults.each(f"{path}.cidr", text, complaints)
    whole = ipaddress.ip_network(text, strict=False)
    causes: list[Cause] = []
    for index, part in enumerate(block.get("except") or ()):
        at = f"{path}.except[{index}]"
        if complaints := formats.cidr(part):
            causes += faults.each(at, part, complaints)
            continue
        hole = ipaddress.ip_network(part, strict=False)
        inside = hole.version == whole.version and hole.network_address in whole
        if not inside or whole.prefixlen >= hole.prefixlen:
            causes.append(faults.invalid(at, part, "must be a strict subset of `cidr`"))
    return causes


# -- addresses ---------------------------------------------------------------------------------------------------------


def address_name(name: str, is_prefix: bool = False) -> list[str]:
    if complaints := formats.ip_address(name):
        return complaints
    is_canonical = str(ipaddress.ip_address(name)) == name
    return [] if is_canonical else ["must be a valid IP address in canonical form"]


def address(obj: Object) -> list[Cause]:
    parent = _spec(obj).get("parentRef")
    if parent is None:
        return [faults.required("spec.parentRef")]
    causes: list[Cause] = []
    for name in ("group", "resource", "name", "namespace"):
        value, rule = parent.get(name) or "", formats.dns_subdomain if name == "group" else formats.path_segment
        if value:
            causes += faults.each(f"spec.parentRef.{name}", value, rule(value))
        elif name in ("resource", "name"):
            causes.append(faults.required(f"spec.parentRef.{name}"))
    return causes


def address_update(new: Object, old: Object) -> list[Cause]:
    return address(new) + faults.immutable("spec.parentRef", _spec(new).get("parentRef"), _spec(old).get("parentRef"))


def ranges(obj: Object) -> list[Cause]:
    path, found = "spec.cidrs", _spec(obj).get("cidrs") or []
    if not found:
        return [faults.required(path, "at least one CIDR required")]
    if len(found) > 2:
        return [faults.invalid(path, _spec(obj), "may only hold up to 2 values")]
    causes: list[Cause] = []
    for index, text in enumerate(found):
        causes += faults.each(f"{path}[{index}]", text, formats.cidr(text))
    if len(found) == 2 and not causes and len({":" in text for text in found}) == 1:
        rule = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"
        causes.append(faults.invalid(path, found, rule))
    return causes


def ranges_update(new: Object, old: Object) -> list[Cause]:
    path, now, held = "spec.cidrs", _spec(new).get("cidrs") or [], _spec(old).get("cidrs") or []
    if len(held) == len(now):
        changed = [i for i, text in enumerate(held) if text != now[i]]
        return [faults.invalid(f"{path}[{index}]", now[index], faults.IMMUTABLE) for index in changed]
    if (len(held), len(now)) == (1, 2):
        causes = [faults.invalid(f"{path}[0]", now[0], faults.IMMUTABLE)] if now[0] != held[0] else []
        return causes + ranges(new)
    return [faults.invalid(path, now or None, faults.IMMUTABLE)]


# -- tables ------------------------------------------------------------------------------------------------------------


def _ingress_cells(obj: Object, now: float) -> Cells:
    spec = _spec(obj)
    ingresses = ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    addresses = sorted({entry.get("ip") or entry.get("hostname") or "" for entry in ingresses} - {""})
    ports = "80, 443" if spec.get("tls") else "80"
    name = spec.get("ingressClassName") or "<none>"
    return [meta.name(obj), name, _hosts(spec.get("rules") or ()), ",".join(addresses), ports, age(obj, now)]


def _hosts(rules: Sequence[Json]) -> str:
    shown = [rule["host"] for rule in rules if rule.get("host")]
    if not shown:
        return "*"
    text = ",".join(shown[:HOSTS_SHOWN_MAX])
    return f"{text} + {len(rules) - HOSTS_SHOWN_MAX} more..." if len(shown) > HOSTS_SHOWN_MAX else text


def _class_cells(obj: Object, now: float) -> Cells:
    spec, default = _spec(obj), meta.annotations(obj).get(DEFAULT_CLASS) == "true"
    parameters, shown = spec.get("parameters"), "<none>"
    if parameters is not None:
        group = f".{parameters['apiGroup']}" if parameters.get("apiGroup") else ""
        shown = f"{parameters.get('kind')}{group}/{parameters.get('name')}"
    name = f"{meta.name(obj)} (default)" if default else meta.name(obj)
    return [name, spec.get("controller") or "", shown, age(obj, now)]


def _address_cells(obj: Object, now: float) -> Cells:
    parent, shown = _spec(obj).get("parentRef"), "<none>"
    if parent:
        group = f".{parent['group']}" if parent.get("group") else ""
        parts = [f"{parent.get('resource')}{group}".lower(), parent.get("namespace"), parent.get("name")]
        shown = "/".join(part for part in parts if part)
    return [meta.name(obj), shown, age(obj, now)]  # which has no column: kube-apiserver sends it all the same


RULES = (
    KindRules(
        resource=INGRESSES,
        has_generation=True,
        faults=ingress_create,
        update_faults=lambda new, old: ingress(new),
        columns=(NAME, *table.texts("Class", "Hosts", "Address", "Ports"), AGE),
        cells=_ingress_cells,
    ),
    KindRules(
        resource=INGRESSCLASSES,
        has_generation=True,
        default=default_class,
        faults=ingress_class,
        update_faults=lambda new, old: (
            faults.immutable("spec.controller", _spec(new).get("controller") or "", _spec(old).get("controller") or "")
            + ingress_class(new)
        ),
        columns=(NAME, *table.texts("Controller", "Parameters"), AGE),
        cells=_class_cells,
    ),
    KindRules(
        resource=NETWORKPOLICIES,
        has_generation=True,
        default=default_policy,
        faults=policy,
        update_faults=lambda new, old: policy(new),
        columns=(NAME, *table.texts("Pod-Selector"), AGE),
        cells=lambda obj, now: [meta.name(obj), table.selector_text(_spec(obj).get("podSelector")), age(obj, now)],
    ),
    KindRules(
        resource=IPADDRESSES,
        name_format=address_name,
        faults=address,
        update_faults=address_update,
        columns=(NAME, *table.texts("ParentRef")),
        cells=_address_cells,
    ),
    KindRules(
        resource=SERVICECIDRS,
        status_keeps_metadata=True,
        faults=ranges,
        update_faults=ranges_update,
        columns=(NAME, *table.texts("CIDRs"), AGE),
        cells=lambda obj, now: [meta.name(obj), ",".join(_spec(obj).get("cidrs") or ()), age(obj, now)],
    ),
)
