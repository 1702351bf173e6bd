"""The routes of a Linux gateway to the nodes' pods: the kernel's own, with a protocol number and a metric of ours.

The metric is the lab's: two labs of one machine have the same pod networks behind different bridges. Both have their
routes, the lower metric is used, and when the one lab goes the other's is there already.
"""

from __future__ import annotations

import ipaddress

from orchestrator.cloud import programs
from orchestrator.cloud.provider import Route

PROTOCOL = 84  # of rtnetlink; free in iproute2's rt_protos


class GatewayRoutes:
    """Routes out of one bridge."""

    def __init__(self, bridge: str, metric: int) -> None:
        self._options = ["dev", bridge, "proto", str(PROTOCOL), "metric", str(metric)]
        self._bridge = bridge

    async def list(self) -> frozenset[Route]:
        found = set()
        for family in ("-4", "-6"):
            command = ["ip", "-j", family, "route", "show", "proto", str(PROTOCOL), "dev", self._bridge]
            for entry in await programs.read_json(command):
                found.add(Route(str(ipaddress.ip_network(entry["dst"])), entry.get("gateway") or ""))
        return frozenset(found)

    async def create(self, route: Route) -> None:
        await programs.run(["ip", "route", "replace", route.destination, "via", route.via, *self._options])

    async def delete(self, route: Route) -> None:
        await programs.run(["ip", "route", "del", route.destination, "via", route.via, *self._options])
