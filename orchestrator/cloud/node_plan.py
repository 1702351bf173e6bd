"""What a Node becomes once the cloud has said what its machine is. Pure; None where it is so already.

A kubelet with `cloud_provider: external` registers its Node with the taint `uninitialized`, which keeps pods away until
the cloud has told provider id, instance type, zone and region; taking the taint off is the end of it. Labels have a
stable name and an older one, and both say the same.
Source: cloud-provider's node controller; Well-Known Labels, Annotations and Taints.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.cloud.provider import Instance

UNINITIALIZED = "node.cloudprovider.kubernetes.io/uninitialized"
SHUTDOWN = "node.cloudprovider.kubernetes.io/shutdown"
PROVIDED_NODE_IP = "alpha.kubernetes.io/provided-node-ip"
# Stable label -> its older twin.
TWINS = {
    "node.kubernetes.io/instance-type": "beta.kubernetes.io/instance-type",
    "topology.kubernetes.io/zone": "failure-domain.beta.kubernetes.io/zone",
    "topology.kubernetes.io/region": "failure-domain.beta.kubernetes.io/region",
}


class NodeIpUnknown(ValueError):
    """The kubelet insists on an address that its machine does not have."""


def taints(node: Object) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (node.get("spec") or {}).get("taints") or []
    return found


def has_taint(node: Object, key: str) -> bool:
    return any(taint.get("key") == key for taint in taints(node))


def without_taint(node: Object, key: str) -> Object | None:
    if not has_taint(node, key):
        return None
    changed = meta.copied(node)
    changed["spec"]["taints"] = [taint for taint in taints(changed) if taint.get("key") != key]
    if not changed["spec"]["taints"]:
        del changed["spec"]["taints"]
    return changed


def with_shutdown_taint(node: Object) -> Object | None:
    if has_taint(node, SHUTDOWN):
        return None
    changed = meta.copied(node)
    changed.setdefault("spec", {})["taints"] = [*taints(node), {"key": SHUTDOWN, "effect": "NoSchedule"}]
    return changed


def initialized(node: Object, instance: Instance) -> Object | None:
    """The Node as the cloud knows it, open to pods; None where it was initialized before. NodeIpUnknown."""
    addresses(node, instance)  # before the taint goes it must be certain that the node will have its addresses
    changed = without_taint(node, UNINITIALIZED)
    if changed is None:
        return None
    if not changed["spec"].get("providerID"):
        changed["spec"]["providerID"] = instance.provider_id
    labels = changed["metadata"].setdefault("labels", {})
    told = (instance.instance_type, instance.zone, instance.region)
    for (label, twin), value in zip(TWINS.items(), told, strict=True):
        if value:
            labels[label] = labels[twin] = value
    return changed


def missing_twins(node: Object) -> dict[str, str]:
    """Labels that do not say what their stable twin says.

    Deviation: upstream takes the older label for the truth. Here it is the stable one, which is what people set.
    """
    labels = meta.labels(node)
    return {
        twin: labels[label] for label, twin in TWINS.items() if label in labels and labels.get(twin) != labels[label]
    }


def addresses(node: Object, instance: Instance) -> list[dict[str, str]] | None:
    """The addresses that the Node shall have, or None where it has them: the cloud's, and the kubelet's Hostname.

    Where the kubelet was given node IPs, these come first among those of their type. NodeIpUnknown.
    """
    status = node.get("status") or {}
    current: list[dict[str, str]] = status.get("addresses") or []
    if not instance.addresses:
        return None  # the cloud knows of none: the kubelet's own stay
    told = [{"type": kind, "address": address} for kind, address in instance.addresses]
    if not any(entry["type"] == "Hostname" for entry in told):
        told += [entry for entry in current if entry.get("type") == "Hostname"]
    provided = meta.annotations(node).get(PROVIDED_NODE_IP)
    if provided:
        told = _preferring([text.strip() for text in provided.split(",")], told, meta.name(node))
    return None if told == current else told


def _preferring(node_ips: list[str], told: list[dict[str, str]], name: str) -> list[dict[str, str]]:
    """Addresses of the types that the node IPs have: those first, and of these types no others."""
    first: list[dict[str, str]] = []
    for node_ip in node_ips:
        found = [entry for entry in told if _is_same(entry["address"], node_ip)]
        if not found:
            known = ", ".join(entry["address"] for entry in told)
            raise NodeIpUnknown(f"node {name}: its kubelet has node IP {node_ip}, its machine has {known}")
        first += [entry for entry in found if entry not in first]
    settled = {entry["type"] for entry in first}
    return first + [entry for entry in told if entry["type"] not in settled]


def _is_same(text: str, node_ip: str) -> bool:
    try:
        return ipaddress.ip_address(text) == ipaddress.ip_address(node_ip)
    except ValueError:
        return False
