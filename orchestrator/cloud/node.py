"""The cloud-node controller: completes a Node that has registered, and keeps its addresses what the cloud says.

Pods come to a node only when its taint `uninitialized` is gone, so this is on the way of every new node: it acts on the
event. An instance that the cloud does not know yet is asked for again, with back-off. Addresses are compared now and
then, as nobody announces their change.
Source: cloud-provider controllers/node.
"""

from __future__ import annotations

import asyncio
import logging

from orchestrator.api import meta, status
from orchestrator.api.meta import Object
from orchestrator.api.resources import NODES
from orchestrator.client.loop import Loop
from orchestrator.cloud import node_plan
from orchestrator.cloud.context import Context
from orchestrator.cloud.provider import CloudError, Instance

log = logging.getLogger(__name__)

ADDRESSES_LOOK_S = 300.0


class CloudNodeController:
    """Initializes nodes."""

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._instances = context.cloud.instances
        self._recorder = context.recorder("cloud-node-controller")
        self._nodes = context.informers.informer(NODES)
        self.loop = Loop("cloud-node", self.reconcile)
        self._nodes.add_handler(self._changed)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.loop.run())
            while True:
                await asyncio.sleep(ADDRESSES_LOOK_S)
                for name in sorted(self._nodes.cache.keys()):
                    self.loop.queue.add(name)

    def _changed(self, old: Object | None, new: Object | None) -> None:
        if new is None:
            return
        needs_work = node_plan.has_taint(new, node_plan.UNINITIALIZED) or node_plan.missing_twins(new)
        if old is None or needs_work:
            self.loop.queue.add(meta.name(new))

    async def reconcile(self, key: str) -> None:
        node = self._nodes.cache.get(key)
        if node is None:
            return
        is_new = node_plan.has_taint(node, node_plan.UNINITIALIZED)
        instance = await self._instance(node)
        if instance is None:
            if is_new:  # it may be that the cloud hears of its machine later than the cluster
                raise status.ServiceUnavailable(f"node {key} has no instance yet")
            return  # nodelifecycle.py's
        if is_new:
            node = await self._initialize(node, instance)
        await self._keep_labels(node)
        await self._keep_addresses(node, instance)
        if is_new:
            log.info("node initialized", extra={"node": key, "instance": instance.provider_id})
            self._recorder.event(node, "Normal", "Synced", "Node synced successfully")

    async def _instance(self, node: Object) -> Instance | None:
        try:
            return await self._instances.get(meta.name(node), (node.get("spec") or {}).get("providerID") or "")
        except CloudError as error:
            raise status.ServiceUnavailable(str(error)) from error

    async def _initialize(self, node: Object, instance: Instance) -> Object:
        try:
            changed = node_plan.initialized(node, instance)
        except node_plan.NodeIpUnknown as error:
            self._recorder.event(node, "Warning", "SyncNodeFailed", str(error))
            raise status.ServiceUnavailable(str(error)) from error
        return node if changed is None else await self._client.update(NODES, changed)

    async def _keep_labels(self, node: Object) -> None:
        missing = node_plan.missing_twins(node)
        if missing:
            await self._client.patch(NODES, meta.name(node), "", {"metadata": {"labels": missing}})

    async def _keep_addresses(self, node: Object, instance: Instance) -> None:
        wanted = node_plan.addresses(node, instance)
        if wanted is not None:
            # The list is keyed by type for patches, and two of ours share one: it is replaced.
            patch = {"status": {"addresses": [*wanted, {"$patch": "replace"}]}}
            await self._client.patch(NODES, meta.name(node), "", patch, "strategic", subresource="status")
