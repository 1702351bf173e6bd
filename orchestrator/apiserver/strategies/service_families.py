"""The families of a Service's addresses: ipFamilies, ipFamilyPolicy and clusterIPs made to agree, before allocation.

Pure: takes the old and the new Service and the families that the cluster has, changes the new in place, returns the
faults. A Service without a selector and without addresses (headless) may name families that the cluster lacks.
Source: Kubernetes docs, "IPv4/IPv6 dual-stack"; KEP-563; messages of kube-apiserver.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any

from orchestrator.api.kinds import faults
from orchestrator.api.kinds.service import carry_node_ports
from orchestrator.api.status import Cause

NONE = "None"
SINGLE, PREFER, REQUIRE = "SingleStack", "PreferDualStack", "RequireDualStack"
IPV4, IPV6 = "IPv4", "IPv6"

Spec = dict[str, Any]


def needs_cluster_ip(spec: Spec) -> bool:
    return spec.get("type", "ClusterIP") in ("ClusterIP", "NodePort", "LoadBalancer")


def needs_node_ports(spec: Spec) -> bool:
    kind = spec.get("type", "ClusterIP")
    return kind == "NodePort" or (kind == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is not False)


def needs_health_check_port(spec: Spec) -> bool:
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def is_headless(spec: Spec) -> bool:
    return spec.get("clusterIP") == NONE


def carry_over(old: Spec, new: Spec) -> None:
    """What an update may leave out because the server once chose it, and what goes with a change of type."""
    _match_cluster_ip(old, new)
    if needs_cluster_ip(old) and needs_cluster_ip(new):
        if not new.get("clusterIP") and not new.get("clusterIPs"):
            _copy(old, new, "clusterIP", "clusterIPs")
        if not new.get("ipFamilies"):
            _copy(old, new, "ipFamilies")
        if not new.get("ipFamilyPolicy"):
            _copy(old, new, "ipFamilyPolicy")
    elif needs_cluster_ip(old):
        for field in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
            if new.get(field) == old.get(field):
                new.pop(field, None)
    carry_node_ports(new, old)
    if needs_health_check_port(old):
        if needs_health_check_port(new) and not new.get("healthCheckNodePort"):
            _copy(old, new, "healthCheckNodePort")
        elif not needs_health_check_port(new) and new.get("healthCheckNodePort") == old.get("healthCheckNodePort"):
            new.pop("healthCheckNodePort", None)
    _follow_policy(old, new)


def _copy(old: Spec, new: Spec, *fields: str) -> None:
    new.update({field: old[field] for field in fields if field in old})


def _match_cluster_ip(old: Spec, new: Spec) -> None:
    """A client that knows only clusterIP changes only that; its wish is carried over to clusterIPs."""
    was, now = old.get("clusterIP"), new.get("clusterIP")
    if was != now and new.get("clusterIPs") == old.get("clusterIPs"):
        if now:
            new["clusterIPs"] = [now]
        else:
            new.pop("clusterIPs", None)


def _follow_policy(old: Spec, new: Spec) -> None:
    """Dual stack to single: the second family and address go, where the client did not say otherwise."""
    if old.get("ipFamilyPolicy") in (PREFER, REQUIRE) and new.get("ipFamilyPolicy") == SINGLE and not is_headless(new):
        for field in ("ipFamilies", "clusterIPs"):
            if len(new.get(field) or ()) == 2 and new.get(field) == old.get(field):
                new[field] = new[field][:1]


def settle_families(spec: Spec, cluster: Sequence[str]) -> list[Cause]:
    """Fills in ipFamilies and ipFamilyPolicy, and makes clusterIP and clusterIPs say the same."""
    if spec.get("clusterIP") and not spec.get("clusterIPs"):
        spec["clusterIPs"] = [spec["clusterIP"]]
    elif spec.get("clusterIPs") and not spec.get("clusterIP"):
        spec["clusterIP"] = spec["clusterIPs"][0]
    found = _disagreements(spec)
    if not found:
        found = _infer_families(spec, cluster)
    if found:
        return found
    if is_headless(spec) and not spec.get("selector"):
        _settle_without_selector(spec, cluster)
        return []
    return _settle(spec, cluster)


def _disagreements(spec: Spec) -> list[Cause]:
    ips, families, policy = spec.get("clusterIPs") or [], spec.get("ipFamilies") or [], spec.get("ipFamilyPolicy")
    found: list[Cause] = []
    if ips and ips[0] != spec.get("clusterIP"):
        found.append(faults.invalid("spec.clusterIPs", ips, "first value must match `clusterIP`"))
    if len(ips) > 2:
        found.append(faults.too_many("spec.clusterIPs", len(ips), 2))
    for position, text in enumerate(ips):
        if text == NONE:
            if len(ips) > 1:
                why = "'None' must be the first and only value"
                found.append(faults.invalid(f"spec.clusterIPs[{position}]", text, why))
        elif (family := family_of(text)) is None:
            why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
            found.append(faults.invalid(f"spec.clusterIPs[{position}]", text, why))
        elif position < len(families) and families[position] != family:
            why = f"expected an {families[position]} value as indicated by `ipFamilies[{position}]`"
            found.append(faults.invalid(f"spec.clusterIPs[{position}]", text, why))
    without_selector = is_headless(spec) and not spec.get("selector")
    if policy == SINGLE or (policy is None and not without_selector):
        for values, what in ((families, "IP families"), (ips, "clusterIPs")):
            if len(values) == 2:
                why = f"must be RequireDualStack or PreferDualStack when multiple {what} are specified"
                return [*found, faults.invalid("spec.ipFamilyPolicy", policy, why)]
    return found


def _infer_families(spec: Spec, cluster: Sequence[str]) -> list[Cause]:
    families = list(spec.get("ipFamilies") or [])
    for position, text in enumerate(spec.get("clusterIPs") or []):
        family = family_of(text)
        if family is None or position < len(families):
            continue
        if family not in cluster:
            why = f"{family} is not configured on this cluster"
            return [faults.invalid(f"spec.clusterIPs[{position}]", spec["clusterIPs"], why)]
        families.append(family)
    if families:
        spec["ipFamilies"] = families
    return []


def _settle_without_selector(spec: Spec, cluster: Sequence[str]) -> None:
    policy = spec.get("ipFamilyPolicy") or REQUIRE
    families = list(spec.get("ipFamilies") or [cluster[0]])
    if len(families) < 2 and policy != SINGLE:
        families.append(IPV6 if families[0] == IPV4 else IPV4)
    spec["ipFamilies"], spec["ipFamilyPolicy"] = families, policy


def _settle(spec: Spec, cluster: Sequence[str]) -> list[Cause]:
    policy, families = spec.get("ipFamilyPolicy"), list(spec.get("ipFamilies") or [])
    found: list[Cause] = []
    if policy == REQUIRE and len(cluster) < 2:
        why = "this cluster is not configured for dual-stack services"
        found.append(faults.invalid("spec.ipFamilyPolicy", policy, why))
    if policy not in (None, SINGLE, PREFER, REQUIRE):
        found.append(faults.not_supported("spec.ipFamilyPolicy", policy, (PREFER, REQUIRE, SINGLE)))
    for position, family in enumerate(families):
        if family not in (IPV4, IPV6):
            found.append(faults.not_supported(f"spec.ipFamilies[{position}]", family, (IPV4, IPV6)))
        elif family not in cluster:
            found.append(faults.invalid(f"spec.ipFamilies[{position}]", family, "not configured on this cluster"))
    if found:
        return found
    families = families or [cluster[0]]
    if policy in (PREFER, REQUIRE) and len(families) == 1 and len(cluster) == 2:
        families.append(cluster[1] if families[0] == cluster[0] else cluster[0])
    spec["ipFamilies"], spec["ipFamilyPolicy"] = families, policy or SINGLE
    return []


def family_of(text: str) -> str | None:
    try:
        return IPV4 if ipaddress.ip_address(text).version == 4 else IPV6
    except ValueError:
        return None
