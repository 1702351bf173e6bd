"""Which routes the cloud's router needs for the nodes' pods, and what a Node says when it has them. Pure.

Source: cloud-provider controllers/route; API reference, NodeStatus, NetworkUnavailable.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from orchestrator.api import conditions
from orchestrator.api.conditions import Condition
from orchestrator.api.meta import Object
from orchestrator.cloud.provider import Route


class Changes(Struct, frozen=True):
    delete: tuple[Route, ...]  # first
    create: tuple[Route, ...]


def pod_cidrs(node: Object) -> list[str]:
    spec = node.get("spec") or {}
    found: list[str] = spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else [])
    return found


def internal_ips(node: Object) -> tuple[str, ...]:
    entries = (node.get("status") or {}).get("addresses") or ()
    return tuple(entry["address"] for entry in entries if entry.get("type") == "InternalIP")


def routes_of(node: Object) -> list[Route]:
    """One for each pod network, behind the node's first address of its family; none without such an address."""
    found = []
    for cidr in pod_cidrs(node):
        via = next((address for address in internal_ips(node) if (":" in address) == (":" in cidr)), "")
        if via:
            found.append(Route(cidr, via))
    return found


def changes(present: Iterable[Route], nodes: Iterable[Object]) -> Changes:
    """From the routes that the cloud has to those that it should have. A creation replaces what leads elsewhere."""
    wanted = {route for node in nodes for route in routes_of(node)}
    destinations = {route.destination for route in wanted}
    stale = [route for route in present if route.destination not in destinations]
    return Changes(tuple(sorted(stale)), tuple(sorted(wanted - set(present))))


def condition(node: Object, made: Iterable[Route]) -> Condition | None:
    """What the Node shall say of its network; None before it has pod networks, as nothing is known then."""
    cidrs = pod_cidrs(node)
    if not cidrs:
        return None
    reached = {route.destination for route in made}
    if all(cidr in reached for cidr in cidrs):
        reason, message, state = "RouteCreated", "RouteController created a route", "False"
    else:
        reason, message, state = "NoRouteCreated", "RouteController failed to create a route", "True"
    return {"type": "NetworkUnavailable", "status": state, "reason": reason, "message": message}


def says(node: Object, wanted: Condition) -> bool:
    found = conditions.find((node.get("status") or {}).get("conditions"), wanted["type"])
    return found is not None and all(found.get(field) == wanted[field] for field in ("status", "reason"))
