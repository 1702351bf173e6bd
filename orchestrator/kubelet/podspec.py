"""Reading a Pod: its containers in all three lists, its resources, its quality of service. Pure.

Resources are counted as the scheduler counts them: the larger of the containers' sum (with sidecars) and the largest
moment of initialization, plus overhead. Units: quantities as Decimal of the resource's own unit.
Source: API reference, PodSpec; Kubernetes docs, "Pod Quality of Service Classes"; KEP-753 (sidecar resources).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Literal

import orjson

from orchestrator.api import quantity
from orchestrator.api.meta import Object
from orchestrator.api.podresources import is_sidecar
from orchestrator.kubelet.runtime.interface import ContainerKind

Container = dict[str, Any]
Totals = dict[str, Decimal]
QosClass = Literal["Guaranteed", "Burstable", "BestEffort"]
LISTS: tuple[tuple[str, ContainerKind], ...] = (
    ("initContainers", "init"),
    ("containers", "app"),
    ("ephemeralContainers", "ephemeral"),
)


def spec(pod: Object) -> dict[str, Any]:
    found: dict[str, Any] = pod.get("spec") or {}
    return found


def status(pod: Object) -> dict[str, Any]:
    found: dict[str, Any] = pod.get("status") or {}
    return found


def containers(pod: Object, kind: ContainerKind) -> list[Container]:
    field = next(field for field, of_kind in LISTS if of_kind == kind)
    return spec(pod).get(field) or []


def all_containers(pod: Object) -> Iterator[tuple[ContainerKind, Container]]:
    for _, kind in LISTS:
        for container in containers(pod, kind):
            yield kind, container


def find(pod: Object, name: str) -> tuple[ContainerKind, Container] | None:
    return next(((kind, found) for kind, found in all_containers(pod) if found["name"] == name), None)


def is_host_network(pod: Object) -> bool:
    return bool(spec(pod).get("hostNetwork"))


def restart_policy(pod: Object) -> str:
    return str(spec(pod).get("restartPolicy") or "Always")


def is_terminal(pod: Object) -> bool:
    return status(pod).get("phase") in ("Succeeded", "Failed")


def field_path(kind: ContainerKind, name: str) -> str:
    """What an event about a container names: `spec.containers{web}`."""
    field = next(field for field, of_kind in LISTS if of_kind == kind)
    return f"spec.{field}{{{name}}}"


def spec_hash(container: Container) -> str:
    """Changes when the container must be made anew. Of what can be changed in a living pod that is the image alone;
    resources are resized in place."""
    relevant = {"name": container.get("name"), "image": container.get("image")}
    return hashlib.sha256(orjson.dumps(relevant, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def requests(container: Container) -> dict[str, Any]:
    """Requests, where a limit stands for a request that is not given."""
    resources = container.get("resources") or {}
    return {**(resources.get("limits") or {}), **(resources.get("requests") or {})}


def pod_requests(pod: Object) -> Totals:
    """What the pod takes from a node."""
    running: Totals = {}
    for container in containers(pod, "app"):
        _add(running, requests(container))
    sidecars: Totals = {}
    largest: Totals = {}
    for container in containers(pod, "init"):
        needed = dict(sidecars)
        _add(needed, requests(container))
        if is_sidecar(container):
            sidecars = needed
        _raise_to(largest, needed)
    _add(running, sidecars)
    _raise_to(running, largest)
    for resource, value in ((spec(pod).get("resources") or {}).get("requests") or {}).items():
        running[resource] = quantity.parse(value)
    _add(running, spec(pod).get("overhead") or {})
    return running


def _add(totals: Totals, more: dict[str, Any]) -> None:
    for resource, value in more.items():
        totals[resource] = totals.get(resource, Decimal(0)) + (
            value if isinstance(value, Decimal) else quantity.parse(value)
        )


def _raise_to(totals: Totals, least: Totals) -> None:
    for resource, value in least.items():
        totals[resource] = max(totals.get(resource, Decimal(0)), value)


def qos_class(pod: Object) -> QosClass:
    kept = status(pod).get("qosClass")
    if kept in ("Guaranteed", "Burstable", "BestEffort"):
        return kept
    members = [*containers(pod, "app"), *containers(pod, "init")]
    given = False
    guaranteed = True
    for container in members:
        resources = container.get("resources") or {}
        limits = {name: quantity.parse(value) for name, value in (resources.get("limits") or {}).items()}
        asked = {name: quantity.parse(value) for name, value in requests(container).items()}
        for resource in ("cpu", "memory"):
            limit, request = limits.get(resource), asked.get(resource)
            given = given or bool(limit) or bool(request)
            guaranteed = guaranteed and bool(limit) and limit == request
    if not given:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def host_ports(pod: Object) -> list[tuple[str, str, int, int]]:
    """(host IP, protocol, host port, container port) of every port that the pod wants on the node."""
    found = []
    for container in [*containers(pod, "app"), *filter(is_sidecar, containers(pod, "init"))]:
        for port in container.get("ports") or ():
            if port.get("hostPort"):
                found.append(
                    (port.get("hostIP") or "", port.get("protocol") or "TCP", port["hostPort"], port["containerPort"])
                )
    return found


def hostname(pod: Object, cluster_domain: str) -> tuple[str, str]:
    """(host name, domain): the domain is "" unless the pod has a subdomain. Host names are cut at 63 characters."""
    described = spec(pod)
    if described.get("hostnameOverride"):
        return str(described["hostnameOverride"]), ""
    short = str(described.get("hostname") or pod["metadata"]["name"])[:63].rstrip("-.")
    subdomain = described.get("subdomain")
    if not subdomain:
        return short, ""
    return short, f"{subdomain}.{pod['metadata'].get('namespace', '')}.svc.{cluster_domain}"
