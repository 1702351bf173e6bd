"""Node lifecycle: notices nodes that fall silent, taints them by their conditions, marks their pods as not ready.

Each sign of life (a renewed Lease, a written status) moves a timer of the grace period by this machine's own clock; no
node is polled. After a start every node has a whole grace period, for nothing is known of the time before.
What follows from a node's health is decided in `node_health.py`; evicting pods is `tainteviction.py`'s.
Source: Concepts, Nodes, "Node heartbeats", "Node controller"; KEP-589 node leases.
"""

from __future__ import annotations

import asyncio
import logging

from orchestrator.api import meta, status
from orchestrator.api.meta import Object
from orchestrator.api.resources import LEASES, NODES, PODS
from orchestrator.client.loop import Loop
from orchestrator.controllers import node_health
from orchestrator.controllers.context import Context
from orchestrator.controllers.fields import copied, spec, status_of, with_status
from orchestrator.controllers.pods import is_terminal, node_name

log = logging.getLogger(__name__)

LEASE_NAMESPACE = "kube-node-lease"
GRACE_S = 40.0


class NodeLifecycleController:
    """Watches the health of all nodes."""

    def __init__(self, context: Context, grace_s: float = GRACE_S) -> None:
        self._client = context.client
        self._clock = context.clock
        self._grace_s = grace_s
        self._recorder = context.recorder("node-controller")
        self.loop = Loop("node-lifecycle", self.reconcile)
        self._nodes = context.informers.informer(NODES)
        self._leases = context.informers.informer(LEASES, namespace=LEASE_NAMESPACE)
        self._pods = context.informers.informer(
            PODS, indexers={"node": lambda pod: (node_name(pod),) if node_name(pod) else ()}
        )
        self._alive_at: dict[str, float] = {}  # node → loop time of the last sign of life
        self._readiness: dict[str, str] = {}  # node → its Ready as acted upon
        self._nodes.add_handler(self._node_changed)
        self._leases.add_handler(self._lease_changed)

    async def run(self) -> None:
        now = asyncio.get_running_loop().time()
        for name in self._nodes.cache.keys():  # noqa: SIM118 (a cache is no mapping)
            self._alive_at[name] = now
            self.loop.queue.add(name)
        await self.loop.run()

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        name = meta.name(new or old or {})
        if new is None:
            self._alive_at.pop(name, None)
            self._readiness.pop(name, None)
        elif old is None or _heartbeats(old) != _heartbeats(new):
            self._is_alive(name)
        self.loop.queue.add(name)

    def _lease_changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None and (old is None or spec(old).get("renewTime") != spec(new).get("renewTime")):
            name = meta.name(new)
            was_silent = self._silent_s(name) >= self._grace_s
            self._is_alive(name)
            if was_silent:
                self.loop.queue.add(name)

    def _is_alive(self, name: str) -> None:
        self._alive_at[name] = asyncio.get_running_loop().time()

    def _silent_s(self, name: str) -> float:
        now = asyncio.get_running_loop().time()
        return now - self._alive_at.setdefault(name, now)

    async def reconcile(self, key: str) -> None:
        node = self._nodes.cache.get(key)
        if node is None:
            return
        silent_s = self._silent_s(key)
        if silent_s >= self._grace_s:
            node = await self._declare_lost(node)
        else:
            self.loop.queue.add_after(key, self._grace_s - silent_s + 0.001)
        await self._taint(node)
        state = node_health.ready(node)
        before, self._readiness[key] = self._readiness.get(key), state
        if before == state:
            return
        if state != "True":
            await self._mark_pods(node)
        others = [name for name in self._nodes.cache.keys() if name != key]  # noqa: SIM118
        if "True" in (before, state):  # whether all nodes are lost may have changed
            for name in others:
                if self._readiness.get(name) != "True":
                    self.loop.queue.add(name)

    async def _declare_lost(self, node: Object) -> Object:
        wanted = node_health.lost_conditions(node, self._clock.now())
        if wanted == (status_of(node).get("conditions") or []):
            return node
        log.warning("node is silent", extra={"node": meta.name(node), "grace_s": self._grace_s})
        changed = with_status(node, {**status_of(node), "conditions": wanted})
        message = f"Node {meta.name(node)} status is now: NodeNotReady"
        self._recorder.event(node, "Normal", "NodeNotReady", message)
        return await self._client.update(NODES, changed, subresource="status")

    async def _taint(self, node: Object) -> None:
        nodes = self._nodes.cache.list()
        some_ready = any(node_health.ready(each) == "True" for each in nodes if meta.name(each) != meta.name(node))
        already = any(
            taint["effect"] == "NoExecute" and taint["key"] in (node_health.NOT_READY, node_health.UNREACHABLE)
            for taint in spec(node).get("taints") or ()
        )
        may_evict = some_ready or already
        wanted = node_health.wanted_taints(node, self._clock.now(), may_evict=may_evict)
        if wanted == (spec(node).get("taints") or []):
            return
        changed = copied(node)
        changed.setdefault("spec", {})["taints"] = wanted
        await self._client.update(NODES, changed)

    async def _mark_pods(self, node: Object) -> None:
        """Services must stop sending to pods of whose node nothing is heard."""
        now = self._clock.now()
        for pod in self._pods.cache.by_index("node", meta.name(node)):
            wanted = None if is_terminal(pod) else node_health.not_ready_pod_conditions(pod, now)
            if wanted is None:
                continue
            changed = with_status(pod, {**status_of(pod), "conditions": wanted})
            try:
                await self._client.update(PODS, changed, subresource="status")
            except status.NotFound:
                continue
            except status.Conflict:
                self._readiness.pop(meta.name(node), None)
                raise
            self._recorder.event(pod, "Warning", "NodeNotReady", "Node is not ready")


def _heartbeats(node: Object) -> list[object]:
    """What of a status moves when its kubelet writes it; our own changes of conditions do not count as life."""
    return [
        (condition.get("type"), condition.get("lastHeartbeatTime"))
        for condition in status_of(node).get("conditions") or ()
    ]
