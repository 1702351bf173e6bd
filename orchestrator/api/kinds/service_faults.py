"""What can be wrong with a Service: ports, addresses of both families, traffic policies; what an update may change.

`is_external`, `needs_health_check` and `is_headless` say what a spec is, for defaults and validation alike.
Source: core/v1 API reference, Service.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from orchestrator.api import meta
from orchestrator.api.kinds import container_faults, faults, formats
from orchestrator.api.kinds.metadata import check_labels
from orchestrator.api.kinds.values import one_of
from orchestrator.api.meta import Object
from orchestrator.api.status import Cause

Json = Mapping[str, Any]

NONE = "None"
AFFINITY_TIMEOUT_MAX_S = 86400
TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
FAMILIES = ("IPv4", "IPv6")
FAMILY_POLICIES = ("PreferDualStack", "RequireDualStack", "SingleStack")
DISTRIBUTIONS = ("PreferClose", "PreferSameZone", "PreferSameNode")
SOURCE_RANGES = "service.beta.kubernetes.io/load-balancer-source-ranges"
TOPOLOGY_MODE = "service.kubernetes.io/topology-mode"
TOPOLOGY_HINTS = "service.kubernetes.io/topology-aware-hints"
FOR_LOAD_BALANCERS = "may only be used when `type` is 'LoadBalancer'"


def _spec(obj: Json) -> dict[str, Any]:
    return obj.get("spec") or {}


def is_external(spec: Json) -> bool:
    """Whether it can be reached from outside the cluster."""
    kind = spec.get("type")
    return kind in ("LoadBalancer", "NodePort") or (kind == "ClusterIP" and bool(spec.get("externalIPs")))


def needs_health_check(spec: Json) -> bool:
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def is_headless(spec: Json) -> bool:
    return (spec.get("clusterIPs") or [""])[0] == NONE


def create(obj: Object) -> list[Cause]:
    spec = _spec(obj)
    kind, headless = spec.get("type"), is_headless(spec)
    ports = spec.get("ports") or []
    causes = _topology_annotations(meta.annotations(obj))
    if not ports and not headless and kind != "ExternalName":
        causes.append(faults.required("spec.ports"))
    if kind in ("LoadBalancer", "NodePort") and headless:
        detail = f"may not be set to 'None' for {kind} services"
        causes.append(faults.invalid("spec.clusterIPs[0]", NONE, detail))
    if kind == "ExternalName":
        causes += _external_name(spec)
    causes += _ports(ports)
    causes += check_labels(spec.get("selector"), "spec.selector")
    causes += _affinity(spec)
    causes += _cluster_ips(spec)
    for index, address in enumerate(spec.get("externalIPs") or ()):
        causes += endpoint_address(address, f"spec.externalIPs[{index}]")
    causes += one_of(kind, "spec.type", TYPES)
    causes += _repeated_ports(ports, kind)
    causes += _load_balancer(spec, meta.annotations(obj))
    causes += _external_traffic(spec)
    policies = ("Cluster", "Local")
    causes += one_of(spec.get("internalTrafficPolicy"), "spec.internalTrafficPolicy", policies, required=False)
    distribution = spec.get("trafficDistribution")
    if distribution is not None and distribution not in DISTRIBUTIONS:
        causes.append(faults.not_supported("spec.trafficDistribution", distribution, DISTRIBUTIONS))
    return causes


def _topology_annotations(noted: Mapping[str, str]) -> list[Cause]:
    """The older name of the same wish must not say otherwise."""
    if TOPOLOGY_MODE in noted and noted.get(TOPOLOGY_HINTS, noted[TOPOLOGY_MODE]) != noted[TOPOLOGY_MODE]:
        detail = f"must match annotations[{TOPOLOGY_HINTS}] when both are specified"
        return [faults.invalid(f"metadata.annotations[{TOPOLOGY_MODE}]", noted[TOPOLOGY_MODE], detail)]
    return []


def _external_name(spec: Json) -> list[Cause]:
    causes: list[Cause] = []
    for name in ("clusterIPs", "ipFamilies", "ipFamilyPolicy"):
        if spec.get(name):
            causes.append(faults.forbidden(f"spec.{name}", "may not be set for ExternalName services"))
    target = (spec.get("externalName") or "").removesuffix(".")
    if not target:
        return [*causes, faults.required("spec.externalName")]
    return causes + faults.each("spec.externalName", target, formats.dns_subdomain(target))


def _ports(ports: list[Json]) -> list[Cause]:
    causes: list[Cause] = []
    names: set[str] = set()
    for index, port in enumerate(ports):
        at, name = f"spec.ports[{index}]", port.get("name") or ""
        if not name and len(ports) > 1:
            causes.append(faults.required(f"{at}.name"))
        elif name:
            causes += faults.each(f"{at}.name", name, formats.dns_label(name))
            if name in names:
                causes.append(faults.duplicate(f"{at}.name", name))
            names.add(name)
        number = port.get("port", 0)
        causes += faults.each(f"{at}.port", number, formats.port_number(number))
        causes += one_of(port.get("protocol"), f"{at}.protocol", container_faults.PROTOCOLS)
        causes += container_faults.port(port.get("targetPort"), f"{at}.targetPort")
        if protocol := port.get("appProtocol"):
            causes += faults.each(f"{at}.appProtocol", protocol, formats.qualified_name(protocol))
    return causes


def _affinity(spec: Json) -> list[Cause]:
    affinity, config = spec.get("sessionAffinity"), spec.get("sessionAffinityConfig")
    causes = one_of(affinity, "spec.sessionAffinity", ("ClientIP", "None"))
    path = "spec.sessionAffinityConfig"
    if affinity == "ClientIP":
        seconds = ((config or {}).get("clientIP") or {}).get("timeoutSeconds") or 0
        if not 0 < seconds <= AFFINITY_TIMEOUT_MAX_S:
            detail = f"must be greater than 0 and less than {AFFINITY_TIMEOUT_MAX_S}"
            causes.append(faults.invalid(f"{path}.clientIP.timeoutSeconds", seconds, detail))
    elif affinity == "None" and config is not None:
        causes.append(faults.forbidden(path, "must not be set when session affinity is None"))
    return causes


def _cluster_ips(spec: Json) -> list[Cause]:
    if spec.get("type") == "ExternalName":
        return []
    single, several = spec.get("clusterIP") or "", spec.get("clusterIPs") or []
    path = "spec.clusterIPs"
    causes: list[Cause] = []
    if single and not several:
        causes.append(faults.required(path))
    elif single and several[0] != single:
        causes.append(faults.invalid(path, several, "first value must match `clusterIP`"))
    elif several and not single:
        causes.append(faults.invalid(path, several, "must be empty when `clusterIP` is not specified"))
    families: list[str] = spec.get("ipFamilies") or []
    for index, family in enumerate(families):
        if family not in FAMILIES:
            causes.append(faults.not_supported(f"spec.ipFamilies[{index}]", family, FAMILIES))
        if family in families[:index]:
            causes.append(faults.duplicate(f"spec.ipFamilies[{index}]", family))
    causes += one_of(spec.get("ipFamilyPolicy"), "spec.ipFamilyPolicy", FAMILY_POLICIES, required=False)
    return causes + _addresses(several, families, path)


def _addresses(several: list[str], families: list[str], path: str) -> list[Cause]:
    if several[:1] == [NONE]:
        detail = "'None' must be the first and only value"
        return [faults.invalid(path, several, detail)] if len(several) > 1 else []
    causes: list[Cause] = []
    for index, address in enumerate(several):
        if complaints := formats.ip_address(address):
            causes += faults.each(f"{path}[{index}]", address, complaints)
    if len(several) > 2:
        causes.append(faults.invalid(path, several, "may only hold up to 2 values"))
    if causes:
        return causes
    versions = [ipaddress.ip_address(address).version for address in several]
    if len(versions) > 1 and len(set(versions)) == 1:
        causes.append(faults.invalid(path, several, "may specify no more than one IP for each IP family"))
    for index, (address, version, family) in enumerate(zip(several, versions, families, strict=False)):
        if family in FAMILIES and family != f"IPv{version}":
            detail = f"expected an {family} value as indicated by `ipFamilies[{index}]`"
            causes.append(faults.invalid(f"{path}[{index}]", address, detail))
    return causes


def endpoint_address(address: str, path: str) -> list[Cause]:
    """An address that traffic may be sent to: not unspecified, loopback or link-local."""
    if complaints := formats.ip_address(address):
        return faults.each(path, address, complaints)
    found = ipaddress.ip_address(address)
    link_local_multicast = found.is_multicast and str(found).startswith(("224.0.0.", "ff02:"))
    for holds, what in (
        (found.is_unspecified, f"may not be unspecified ({address})"),
        (found.is_loopback, "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
        (found.is_link_local, "may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
        (link_local_multicast, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"),
    ):
        if holds:
            return [faults.invalid(path, address, what)]
    return []


def _repeated_ports(ports: list[Json], kind: str | None) -> list[Cause]:
    causes: list[Cause] = []
    if kind == "ClusterIP":
        for index, port in enumerate(ports):
            if port.get("nodePort"):
                detail = "may not be used when `type` is 'ClusterIP'"
                causes.append(faults.forbidden(f"spec.ports[{index}].nodePort", detail))
    node_ports: set[Any] = set()
    numbers: set[Any] = set()
    for index, port in enumerate(ports):
        key = (port.get("protocol"), port.get("nodePort"))
        if port.get("nodePort"):
            if key in node_ports:
                causes.append(faults.duplicate(f"spec.ports[{index}].nodePort", port["nodePort"]))
            node_ports.add(key)
    for index, port in enumerate(ports):
        key = (port.get("protocol"), port.get("port"))
        if key in numbers:
            # Upstream shows its own struct: every field of it, empty ones too.
            shown = {
                "Name": "",
                "Protocol": key[0],
                "AppProtocol": None,
                "Port": key[1],
                "TargetPort": 0,
                "NodePort": 0,
            }
            causes.append(faults.duplicate(f"spec.ports[{index}]", shown))
        numbers.add(key)
    return causes


def _load_balancer(spec: Json, noted: Mapping[str, str]) -> list[Cause]:
    is_balancer = spec.get("type") == "LoadBalancer"
    causes: list[Cause] = []
    path = "spec.LoadBalancerSourceRanges"
    ranges = spec.get("loadBalancerSourceRanges") or ()
    if ranges and not is_balancer:
        causes.append(faults.forbidden(path, FOR_LOAD_BALANCERS))
    for index, value in enumerate(ranges):
        causes += faults.each(f"{path}[{index}]", value.strip(), formats.cidr(value.strip()))
    if not ranges and SOURCE_RANGES in noted:  # the field's name before it was one
        path = f"metadata.annotations[{SOURCE_RANGES}]"
        if not is_balancer:
            causes.append(faults.forbidden(path, FOR_LOAD_BALANCERS))
        for value in noted[SOURCE_RANGES].split(",") if noted[SOURCE_RANGES].strip() else ():
            causes += faults.each(path, value.strip(), formats.cidr(value.strip()))
    if spec.get("allocateLoadBalancerNodePorts") is not None and not is_balancer:
        causes.append(faults.forbidden("spec.allocateLoadBalancerNodePorts", FOR_LOAD_BALANCERS))
    name = spec.get("loadBalancerClass")
    if name is not None:
        if is_balancer:
            causes += faults.each("spec.loadBalancerClass", name, formats.qualified_name(name))
        else:
            causes.append(faults.forbidden("spec.loadBalancerClass", FOR_LOAD_BALANCERS))
    return causes


def _external_traffic(spec: Json) -> list[Cause]:
    policy, path = spec.get("externalTrafficPolicy") or "", "spec.externalTrafficPolicy"
    causes: list[Cause] = []
    if is_external(spec):
        causes += one_of(policy, path, ("Cluster", "Local"))
    elif policy:
        causes.append(faults.invalid(path, policy, "may only be set for externally-accessible services"))
    port = spec.get("healthCheckNodePort") or 0
    if port and not needs_health_check(spec):
        detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        causes.append(faults.invalid("spec.healthCheckNodePort", port, detail))
    elif port:
        causes += faults.each("spec.healthCheckNodePort", port, formats.port_number(port))
    return causes


def update(new: Object, old: Object) -> list[Cause]:
    spec, before = _spec(new), _spec(old)
    causes: list[Cause] = []
    if "ExternalName" not in (spec.get("type"), before.get("type")):
        causes += _same_cluster_ips(spec, before) + _same_families(spec, before)
    if before.get("type") == spec.get("type") == "LoadBalancer" and before.get("loadBalancerClass") != spec.get(
        "loadBalancerClass"
    ):
        shown = spec.get("loadBalancerClass")
        causes.append(faults.invalid("spec.loadBalancerClass", shown, "may not change once set"))
    port, held = (one.get("healthCheckNodePort") or 0 for one in (spec, before))
    if needs_health_check(before) and needs_health_check(spec) and port != held:
        causes.append(faults.forbidden("spec.healthCheckNodePort", "field is immutable"))
    return causes + create(new)


def _same_cluster_ips(spec: Json, before: Json) -> list[Cause]:
    now, held = spec.get("clusterIPs") or [], before.get("clusterIPs") or []
    if is_headless(spec) and is_headless(before):
        return []
    path = "spec.clusterIPs[0]"
    if len(now) == len(held):
        return [
            faults.invalid(f"spec.clusterIPs[{index}]", now, "may not change once set")
            for index, address in enumerate(held)
            if address != now[index]
        ]
    if len(held) > len(now):
        if not now:
            return [faults.invalid(path, None, "primary clusterIP can not be unset")]
        causes = [faults.invalid(path, now, "may not change once set")] if held[0] != now[0] else []
        if spec.get("ipFamilyPolicy") != "SingleStack":
            detail = "must be set to 'SingleStack' when releasing the secondary clusterIP"
            causes.append(faults.invalid("spec.ipFamilyPolicy", spec.get("ipFamilyPolicy"), detail))
        return causes
    return [faults.invalid(path, now, "may not change once set")] if held and held[0] != now[0] else []


def _same_families(spec: Json, before: Json) -> list[Cause]:
    now, held = spec.get("ipFamilies") or [], before.get("ipFamilies") or []
    if is_headless(spec) != is_headless(before) or not held or not now:
        return []
    if len(now) == len(held):
        return [faults.invalid("spec.ipFamilies[0]", now, "may not change once set")] if now != held else []
    if now[0] != held[0]:
        return [faults.invalid("spec.ipFamilies[0]", spec.get("clusterIPs"), "may not change once set")]
    if len(held) > len(now) and spec.get("ipFamilyPolicy") != "SingleStack":
        detail = "must be set to 'SingleStack' when releasing the secondary ipFamily"
        return [faults.invalid("spec.ipFamilyPolicy", spec.get("ipFamilyPolicy"), detail)]
    return []


def status_update(new: Object, old: Object) -> list[Cause]:
    ingresses = ((new.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    path = "status.loadBalancer.ingress"
    if ingresses and _spec(new).get("type") != "LoadBalancer":
        return [faults.forbidden(path, "may only be used when `spec.type` is 'LoadBalancer'")]
    causes: list[Cause] = []
    for index, ingress in enumerate(ingresses):
        at, mode = f"{path}[{index}]", ingress.get("ipMode")
        if ingress.get("ip"):
            causes += faults.each(f"{at}.ip", ingress["ip"], formats.ip_address(ingress["ip"]))
        elif mode is not None:
            causes.append(faults.forbidden(f"{at}.ipMode", "may not be specified when `ip` is not set"))
        if ingress.get("ip") and mode not in (None, "VIP", "Proxy"):
            causes.append(faults.not_supported(f"{at}.ipMode", mode, ("Proxy", "VIP")))
        if name := ingress.get("hostname"):
            causes += faults.each(f"{at}.hostname", name, formats.dns_subdomain(name))
            if not formats.ip_address(name):
                causes.append(faults.invalid(f"{at}.hostname", name, "must be a DNS name, not an IP address"))
    return causes
