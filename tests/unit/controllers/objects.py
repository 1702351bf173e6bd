"""Small objects for the tables of the controllers' tests."""

from __future__ import annotations

from typing import Any

from orchestrator.api.meta import Object, format_time

NOW = 1_700_000_000.0


def pod(
    name: str = "p",
    *,
    phase: str = "Running",
    ready: bool = True,
    ready_for_s: float = 100,
    node: str = "n1",
    ip: str = "",
    ips: tuple[str, ...] = (),
    labels: dict[str, str] | None = None,
    deleting: bool = False,
    age_s: float = 1000,
    owner: Object | None = None,
    **more: Any,
) -> Object:
    made: Object = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "shop",
            "uid": f"uid-{name}",
            "labels": labels or {"app": "web"},
            "creationTimestamp": format_time(NOW - age_s),
        },
        "spec": {"nodeName": node, "containers": [{"name": "c"}], **more},
        "status": {
            "phase": phase,
            "conditions": [
                {
                    "type": "Ready",
                    "status": "True" if ready else "False",
                    "lastTransitionTime": format_time(NOW - ready_for_s),
                }
            ],
        },
    }
    addresses = ips or ((ip,) if ip else ())
    if addresses:
        made["status"] |= {"podIP": addresses[0], "podIPs": [{"ip": each} for each in addresses]}
    if deleting:
        made["metadata"]["deletionTimestamp"] = format_time(NOW)
    if owner:
        made["metadata"]["ownerReferences"] = [
            {"apiVersion": "v1", "kind": owner["kind"], "name": owner["metadata"]["name"],
             "uid": owner["metadata"]["uid"], "controller": True}
        ]  # fmt: skip
    return made


def node(name: str = "n1", *, ready: str = "True", zone: str = "", **spec: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "uid": f"uid-{name}",
            "labels": {"topology.kubernetes.io/zone": zone} if zone else {},
        },
        "spec": spec,
        "status": {
            "conditions": [
                {"type": "Ready", "status": ready, "lastHeartbeatTime": format_time(NOW), "reason": "KubeletReady"}
            ]
        },
    }


def service(name: str = "web", *, families: tuple[str, ...] = ("IPv4",), **spec: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "shop", "uid": f"uid-{name}"},
        "spec": {
            "selector": {"app": "web"},
            "clusterIP": "10.96.0.9",
            "ipFamilies": list(families),
            "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}],
            **spec,
        },
    }
