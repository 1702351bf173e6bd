"""Nodes and Services as the cloud controllers see them."""

from __future__ import annotations

from typing import Any

from orchestrator.api.meta import Object
from orchestrator.cloud.provider import Instance

LAB = "lab"


def node(name: str = "worker-1", number: int = 11, **more: Any) -> Object:
    """`more`: taints, labels, annotations, provider_id, pod_cidrs, addresses, conditions."""
    spec: dict[str, Any] = {"podCIDRs": more.get("pod_cidrs", [f"10.244.{number}.0/24", f"fd00:10:244:{number}::/64"])}
    if "taints" in more:
        spec["taints"] = more["taints"]
    if "provider_id" in more:
        spec["providerID"] = more["provider_id"]
    addresses = more.get(
        "addresses",
        [("InternalIP", f"172.29.0.{number}"), ("InternalIP", f"fd00:172:29::{number}"), ("Hostname", name)],
    )
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "uid": f"uid-{name}",
            "labels": dict(more.get("labels", {})),
            "annotations": dict(more.get("annotations", {})),
            **({"deletionTimestamp": "2026-01-01T00:00:00Z"} if more.get("deleting") else {}),
        },
        "spec": spec,
        "status": {
            "addresses": [{"type": kind, "address": address} for kind, address in addresses],
            "conditions": more.get("conditions", [{"type": "Ready", "status": "True"}]),
        },
    }


def instance(name: str = "worker-1", number: int = 11, **more: Any) -> Instance:
    return Instance(
        name=name,
        provider_id=f"sampan://{LAB}/{name}",
        addresses=more.get(
            "addresses", (("InternalIP", f"172.29.0.{number}"), ("InternalIP", f"fd00:172:29::{number}"))
        ),
        instance_type=more.get("instance_type", "namespace"),
        zone=more.get("zone", "a"),
        region=more.get("region", "local"),
        is_shut_down=more.get("is_shut_down", False),
    )


def service(name: str = "web", uid: str = "01234567-89ab-cdef-0123-456789abcdef", **spec: Any) -> Object:
    """`spec` as in the API, and: annotations, finalizers, deleting, created, ingress (addresses of its status)."""
    metadata: dict[str, Any] = {"namespace": "default", "name": name, "uid": uid}
    metadata["creationTimestamp"] = spec.pop("created", "2026-01-01T00:00:00Z")
    metadata["annotations"] = spec.pop("annotations", {})
    metadata["finalizers"] = spec.pop("finalizers", [])
    if spec.pop("deleting", False):
        metadata["deletionTimestamp"] = "2026-01-02T00:00:00Z"
    ingress = [{"ip": address, "ipMode": "VIP"} for address in spec.pop("ingress", [])]
    base = {
        "type": "LoadBalancer",
        "clusterIP": "10.96.0.7",
        "ipFamilies": ["IPv4", "IPv6"],
        "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30080}],
    }
    status = {"loadBalancer": {"ingress": ingress} if ingress else {}}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": base | spec, "status": status}
