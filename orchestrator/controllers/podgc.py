"""Pod garbage: pods that no kubelet will ever end.

- orphaned: bound to a node that does not exist (asked of the server, and after a while, for a node may come late);
- terminating on a node that is out of service;
- terminating without ever having been bound;
- ended, beyond the number that is kept.
The first three are marked Failed, so that whoever waits for their end sees it, and then removed without grace.
Source: Concepts, Pod Lifecycle, "Pod Garbage collection"; KEP-2268 non-graceful node shutdown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Any

from orchestrator.api import conditions, meta, status
from orchestrator.api.meta import Object
from orchestrator.api.resources import NODES, PODS
from orchestrator.client.loop import Loop
from orchestrator.controllers import node_health
from orchestrator.controllers.context import Context
from orchestrator.controllers.fields import spec, status_of, with_status
from orchestrator.controllers.pods import created_at, is_terminal, node_name

TERMINATED_MAX = 12_500
QUARANTINE_S = 40.0
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"


def is_out_of_service(node: Object) -> bool:
    tainted = any(taint["key"] == OUT_OF_SERVICE for taint in spec(node).get("taints") or ())
    return tainted and node_health.ready(node) != "True"


def verdict(pod: Object, nodes: Mapping[str, Object], gone: Collection[str]) -> str:
    """Why the pod is garbage, "" if it is not. `gone` are nodes that are known not to exist."""
    node = node_name(pod)
    if not node:
        return "unscheduled" if meta.is_deleting(pod) else ""
    if node in gone:
        return "orphaned"
    if node in nodes and meta.is_deleting(pod) and is_out_of_service(nodes[node]):
        return "out-of-service"
    return ""


class PodGarbageCollector:
    """Removes such pods as nodes and pods change."""

    def __init__(self, context: Context, terminated_max: int = TERMINATED_MAX) -> None:
        self._client = context.client
        self._clock = context.clock
        self._terminated_max = terminated_max
        self._terminated: dict[str, None] = {}
        self._gone: set[str] = set()
        self.loop = Loop("pod-garbage-collector", self.reconcile, workers=2)
        self._missing = Loop("pod-garbage-collector nodes", self._look_for_node, workers=1)
        self._nodes = context.informers.informer(NODES)
        self._pods = context.informers.informer(
            PODS, indexers={"node": lambda pod: (node_name(pod),) if node_name(pod) else ()}
        )
        self._nodes.add_handler(self._node_changed)
        self._pods.add_handler(self._pod_changed)

    async def run(self) -> None:
        for pod in self._pods.cache.list():
            self._await_node(pod)
        async with asyncio.TaskGroup() as group:
            group.create_task(self.loop.run())
            group.create_task(self._missing.run())

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        name = meta.name(new or old or {})
        if new is None:
            self._missing.queue.add_after(name, QUARANTINE_S)
            return
        self._gone.discard(name)
        if is_out_of_service(new):
            for pod in self._pods.cache.by_index("node", name):
                self.loop.queue.add(meta.key(pod))

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        if new is None:
            self._terminated.pop(meta.key(old or {}), None)
            return
        if meta.is_deleting(new):
            self.loop.queue.add(meta.key(new))
        if is_terminal(new):
            self._terminated[meta.key(new)] = None
            if len(self._terminated) > self._terminated_max:
                oldest = min(self._terminated, key=lambda key: created_at(self._pods.cache.get(key) or {}))
                self.loop.queue.add(oldest)
        if old is None or node_name(old) != node_name(new):
            self._await_node(new)

    def _await_node(self, pod: Object) -> None:
        name = node_name(pod)
        if name and self._nodes.synced and name not in self._nodes.cache:
            self._missing.queue.add_after(name, QUARANTINE_S)

    async def _look_for_node(self, name: str) -> None:
        """A node that the cache does not have is asked of the server before its pods are given up."""
        if name in self._nodes.cache or not self._pods.cache.by_index("node", name):
            return
        try:
            await self._client.get(NODES, name)
        except status.NotFound:
            self._gone.add(name)
            for pod in self._pods.cache.by_index("node", name):
                self.loop.queue.add(meta.key(pod))

    async def reconcile(self, key: str) -> None:
        pod = self._pods.cache.get(key)
        if pod is None:
            return
        nodes = {name: node for name in (node_name(pod),) if (node := self._nodes.cache.get(name))}
        reason = verdict(pod, nodes, self._gone)
        try:
            if reason:
                await self._remove(pod, reason)
            elif is_terminal(pod) and len(self._terminated) > self._terminated_max:
                await self._client.delete(
                    PODS, meta.name(pod), meta.namespace(pod), grace_period_s=0, uid=meta.uid(pod)
                )
        except status.NotFound:
            return

    async def _remove(self, pod: Object, reason: str) -> None:
        if not is_terminal(pod):
            await self._client.update(PODS, failed(pod, reason, self._clock.now()), subresource="status")
        await self._client.delete(PODS, meta.name(pod), meta.namespace(pod), grace_period_s=0, uid=meta.uid(pod))


def failed(pod: Object, reason: str, now: float) -> Object:
    """The pod as Failed; a pod lost with its node says that it was disrupted, which Job policies may look at."""
    wanted: dict[str, Any] = {**status_of(pod), "phase": "Failed"}
    if reason == "orphaned":
        disruption = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "DeletionByPodGC",
            "message": "PodGC: node no longer exists",
        }
        wanted["conditions"] = conditions.updated(wanted.get("conditions"), disruption, meta.format_time(now))
    return with_status(pod, wanted)
