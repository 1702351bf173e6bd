"""Routes to the other nodes' pods: each node's pod CIDRs lie behind that node's own address of the same family.

Ours carry a routing protocol number of ours, so what another has set is never touched, and what is stale is found by
asking the kernel. The node's own CIDRs get an unreachable route of low preference: a packet to a pod that is gone must
not wander off through the default route and back. Source: Kubernetes docs, "Cluster Networking".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.porter.hostports import Surroundings, run

PROTOCOL = 83  # of rtnetlink; free in iproute2's rt_protos
UNREACHABLE_METRIC = 4096


class NodeNetwork(Struct, frozen=True):
    """What a Node object says of its network."""

    name: str
    pod_cidrs: tuple[str, ...]
    addresses: tuple[str, ...]  # InternalIPs


class Route(Struct, frozen=True, order=True):
    """`via` is "" for the unreachable route of the node's own CIDR."""

    destination: str
    via: str


def parse_node(node: Object) -> NodeNetwork:
    spec, status = node.get("spec") or {}, node.get("status") or {}
    cidrs = spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else [])
    addresses = [entry["address"] for entry in status.get("addresses") or () if entry.get("type") == "InternalIP"]
    return NodeNetwork(meta.name(node), tuple(cidrs), tuple(addresses))


def routes(nodes: Iterable[NodeNetwork], own_name: str) -> set[Route]:
    wanted = set()
    for node in nodes:
        for cidr in node.pod_cidrs:
            via = next((address for address in node.addresses if (":" in address) == (":" in cidr)), "")
            if node.name == own_name:
                wanted.add(Route(cidr, ""))
            elif via:
                wanted.add(Route(cidr, via))
    return wanted


def surroundings(nodes: Sequence[NodeNetwork], own_name: str) -> Surroundings:
    own = tuple(cidr for node in nodes if node.name == own_name for cidr in node.pod_cidrs)
    inside = [cidr for node in nodes for cidr in (*node.pod_cidrs, *node.addresses)]
    return Surroundings(own, tuple(sorted(set(inside))))


def parse_routes(listed: Sequence[Mapping[str, Any]]) -> set[Route]:
    """Routes as `ip -j route show` lists them."""
    found = set()
    for entry in listed:
        destination = str(entry["dst"])
        if "/" not in destination:
            destination += "/128" if ":" in destination else "/32"
        found.add(Route(destination, str(entry.get("gateway") or "")))
    return found


def commands(present: set[Route], wanted: set[Route]) -> list[str]:
    """Lines for `ip -batch`; none where nothing differs. What is added replaces, so no packet is lost between."""
    gone = {route.destination for route in present} - {route.destination for route in wanted}
    return [f"route replace {_line(route)}" for route in sorted(wanted - present)] + [
        f"route del {_line(route)}" for route in sorted(present) if route.destination in gone
    ]


def _line(route: Route) -> str:
    if route.via:
        return f"{route.destination} via {route.via} proto {PROTOCOL}"
    return f"unreachable {route.destination} proto {PROTOCOL} metric {UNREACHABLE_METRIC}"


async def apply(wanted: set[Route]) -> int:
    """Make the kernel's routes of our protocol exactly these; how many commands it took. PorterError."""
    present: set[Route] = set()
    for family in ("-4", "-6"):
        text = await run(["ip", "-j", family, "route", "show", "proto", str(PROTOCOL)], "", "routes not readable")
        present |= parse_routes(json.loads(text or "[]"))
    changes = commands(present, wanted)
    if changes:
        await run(["ip", "-force", "-batch", "-"], "\n".join(changes) + "\n", "routes to other nodes not set")
    return len(changes)
