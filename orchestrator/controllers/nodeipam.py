"""Node IPAM: gives each node its range of pod addresses, one of each family.

Each cluster range is cut into ranges of one mask size; a node gets the lowest that no other node has. What a node has
stays its own until the node is deleted. There is one worker: two allocations never race.
Errors: a range that is used up is told as the event CIDRNotAvailable on the node.
Source: kube-controller-manager --allocate-node-cidrs; API reference, Node v1 spec.podCIDRs.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.api.resources import NODES
from orchestrator.client.loop import Loop
from orchestrator.controllers.context import Context
from orchestrator.controllers.expectations import RECHECK_S, Expectations
from orchestrator.controllers.fields import spec

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def lowest_free(cluster: Network, mask_size: int, used: Iterable[Network]) -> Network | None:
    """The first range of the cluster's that overlaps no used one."""
    step_bits = cluster.max_prefixlen - mask_size
    first = int(cluster.network_address)
    taken: set[int] = set()
    for each in used:
        if each.version == cluster.version and each.overlaps(cluster):
            start = (max(int(each.network_address), first) - first) >> step_bits
            end = (min(int(each.broadcast_address), int(cluster.broadcast_address)) - first) >> step_bits
            taken.update(range(start, end + 1))
    for index in range(2 ** (mask_size - cluster.prefixlen)):
        if index not in taken:
            address = type(cluster.network_address)(first + (index << step_bits))
            return ipaddress.ip_network(f"{address}/{mask_size}")
    return None


def allocate(clusters: Sequence[tuple[Network, int]], nodes: Iterable[Object]) -> list[Network] | None:
    """One free range of each cluster range, or None where one is used up."""
    used = [ipaddress.ip_network(text) for node in nodes for text in pod_cidrs(node)]
    found = [lowest_free(cluster, mask_size, used) for cluster, mask_size in clusters]
    return None if None in found else [each for each in found if each is not None]


def pod_cidrs(node: Object) -> list[str]:
    return spec(node).get("podCIDRs") or ([spec(node)["podCIDR"]] if spec(node).get("podCIDR") else [])


class NodeIpamController:
    """Allocates spec.podCIDRs of nodes."""

    def __init__(self, context: Context, clusters: Sequence[tuple[str, int]]) -> None:
        self._client = context.client
        self._clusters = [(ipaddress.ip_network(text), mask_size) for text, mask_size in clusters]
        self._recorder = context.recorder("cidrAllocator")
        self.loop = Loop("node-ipam", self.reconcile, workers=1)
        self._nodes = context.informers.informer(NODES)
        self._expectations = Expectations(self._nodes)
        self._nodes.add_handler(self._node_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None and not pod_cidrs(new):
            self.loop.queue.add(meta.name(new))

    async def reconcile(self, key: str) -> None:
        node = self._nodes.cache.get(key)
        if node is None or pod_cidrs(node):
            return
        if not self._expectations.are_met("nodes"):  # the cache does not show the last allocation yet
            self.loop.queue.add_after(key, min(RECHECK_S, 0.02))
            return
        found = allocate(self._clusters, self._nodes.cache.list())
        if found is None:
            message = f"Node {key} status is now: CIDRNotAvailable"
            self._recorder.event(node, "Normal", "CIDRNotAvailable", message)
            self.loop.queue.add_after(key, 60)  # until a node is deleted
            return
        cidrs = [str(each) for each in found]
        patch = {"spec": {"podCIDR": cidrs[0], "podCIDRs": cidrs}}
        self._expectations.written("nodes", await self._client.patch(NODES, key, "", patch, "strategic"))
