"""What a client is warned of about a Service that is accepted: deprecated and ignored fields, addresses not as written.

Source: Service API; RFC 5952 (the canonical text of IPv6 addresses).
"""

from __future__ import annotations

import ipaddress
from typing import Any

from orchestrator.api import meta
from orchestrator.api.meta import Object

HINTS, MODE = "service.kubernetes.io/topology-aware-hints", "service.kubernetes.io/topology-mode"


def of_service(obj: Object) -> list[str]:
    spec: dict[str, Any] = obj.get("spec") or {}
    kind, addresses = spec.get("type"), spec.get("externalIPs") or []
    is_headless = spec.get("clusterIP") == "None" and kind == "ClusterIP"
    found = []
    if HINTS in meta.annotations(obj):
        found.append(f"annotation {HINTS} is deprecated, please use {MODE} instead")
    if not is_headless and kind != "ExternalName":
        found += [
            text for index, ip in enumerate(spec.get("clusterIPs") or ()) for text in _ip(f"clusterIPs[{index}]", ip)
        ]
    if is_headless:
        found += [
            f"spec.{name} is ignored for headless services"
            for name in ("loadBalancerIP", "externalIPs")
            if spec.get(name)
        ]
        if spec.get("sessionAffinity") != "None":
            found.append("spec.SessionAffinity is ignored for headless services")
    found += [text for index, ip in enumerate(addresses) for text in _ip(f"externalIPs[{index}]", ip)]
    if addresses and not is_headless and kind != "ExternalName":
        found.append("spec.externalIPs is deprecated and may no longer be implemented in some clusters")
    found += _ip("loadBalancerIP", spec["loadBalancerIP"]) if spec.get("loadBalancerIP") else []
    for index, cidr in enumerate(spec.get("loadBalancerSourceRanges") or ()):
        found += _cidr(f"loadBalancerSourceRanges[{index}]", cidr)
    if kind == "ExternalName" and addresses:
        found.append('spec.externalIPs is ignored when spec.type is "ExternalName"')
    if kind != "ExternalName" and spec.get("externalName"):
        found.append('spec.externalName is ignored when spec.type is not "ExternalName"')
    if spec.get("trafficDistribution") == "PreferClose":
        found.append('spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"')
    return found


def _ip(field: str, text: str) -> list[str]:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return []  # the validation's concern
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return [f'spec.{field}: non-standard IP address "{text}" is invalid: use "{address.ipv4_mapped}"']
    if str(address) != text:
        return [f'spec.{field}: IPv6 address "{text}" should be in RFC 5952 canonical format ("{address}")']
    return []


def _cidr(field: str, text: str) -> list[str]:
    try:
        inside = ipaddress.ip_interface(text.strip())
    except ValueError:
        return []
    network = inside.network
    if inside.ip != network.network_address:
        single = f"{inside.ip}/{network.max_prefixlen}"
        return [
            f'spec.{field}: CIDR value "{text}" is ambiguous in this context (should be "{network}" or "{single}"?)'
        ]
    if network.version == 6 and str(network) != text:
        return [f'spec.{field}: IPv6 CIDR value "{text}" should be in RFC 5952 canonical format ("{network}")']
    return []
