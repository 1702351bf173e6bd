"""The cloud-node-lifecycle controller: a Node whose machine is gone is deleted, one whose machine is off is tainted.

Deviation: upstream asks only about nodes that are not Ready, to spare a cloud that bills for questions, so that it
hears of a deleted machine a minute late. Ours is asked about every node at each look. A Ready Node is deleted only if
it names a machine of ours (a provider id): somebody may have made it by hand. No Node is deleted on one answer alone.
Source: cloud-provider controllers/nodelifecycle.
"""

from __future__ import annotations

import asyncio
import logging

from orchestrator.api import conditions, meta, status
from orchestrator.api.meta import Object
from orchestrator.api.resources import NODES
from orchestrator.cloud import node_plan
from orchestrator.cloud.context import Context
from orchestrator.cloud.provider import CloudError, Instance

log = logging.getLogger(__name__)

LOOK_S = 2.0
GONE_LOOKS = 2  # in a row, before a Node is deleted


class CloudNodeLifecycleController:
    """Looks at the machine of every Node."""

    def __init__(self, context: Context, look_s: float = LOOK_S) -> None:
        self._client = context.client
        self._instances = context.cloud.instances
        self._look_s = look_s
        self._recorder = context.recorder("cloud-node-lifecycle-controller")
        self._nodes = context.informers.informer(NODES)
        self._gone: dict[str, int] = {}  # uid of the Node → looks in a row that found no machine

    async def run(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(self._look_s)

    async def look(self) -> None:
        """One look at all nodes; what fails is tried again at the next."""
        nodes = sorted(self._nodes.cache.list(), key=meta.name)
        for node in nodes:
            try:
                await self._look_at(node)
            except (CloudError, status.ApiError, ConnectionError) as error:
                log.warning("node not looked after", extra={"node": meta.name(node), "error": str(error)})
        known = {meta.uid(node) for node in nodes}
        self._gone = {uid: looks for uid, looks in self._gone.items() if uid in known}

    async def _look_at(self, node: Object) -> None:
        name = meta.name(node)
        provider_id = (node.get("spec") or {}).get("providerID") or ""
        instance = await self._instances.get(name, provider_id)
        if instance is None:
            if provider_id or not conditions.is_true(node, "Ready"):
                await self._machine_is_gone(node)
            return
        self._gone.pop(meta.uid(node), None)
        changed = self._wanted(node, instance)
        if changed is not None:
            await self._client.update(NODES, changed)
            log.info("node tainted" if instance.is_shut_down else "node untainted", extra={"node": name})

    @staticmethod
    def _wanted(node: Object, instance: Instance) -> Object | None:
        if instance.is_shut_down:
            return node_plan.with_shutdown_taint(node)
        # A machine that has just been switched on keeps the taint until its kubelet says that it is ready.
        return node_plan.without_taint(node, node_plan.SHUTDOWN) if conditions.is_true(node, "Ready") else None

    async def _machine_is_gone(self, node: Object) -> None:
        name, uid = meta.name(node), meta.uid(node)
        self._gone[uid] = self._gone.get(uid, 0) + 1
        if self._gone[uid] < GONE_LOOKS:
            return
        log.warning("node deleted: its machine is gone", extra={"node": name})
        message = f"Deleting node {name} because it does not exist in the cloud provider"
        self._recorder.event(node, "Normal", "DeletingNode", message)
        try:
            await self._client.delete(NODES, name, uid=uid)
        except (status.NotFound, status.Conflict):
            return  # gone already, or registered anew meanwhile
