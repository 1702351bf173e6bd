"""What is done for a pod after its containers: its sandbox, its network, its files, its object in the API.

Every step may find its work done already. The order matters: the network is released while its namespace may still be
there, disks and files go when nothing uses them, and the API object goes last, for with it goes the right to do the
rest.
"""

from __future__ import annotations

import asyncio
import logging
import shutil

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.api.resources import PODS
from orchestrator.api.status import Conflict, NotFound
from orchestrator.kubelet import podspec
from orchestrator.kubelet.dirs import PodDirs
from orchestrator.kubelet.porter import PodKey
from orchestrator.kubelet.runtime.interface import PodState
from orchestrator.kubelet.surroundings import Surroundings

log = logging.getLogger(__name__)


class PodEnding:
    def __init__(self, around: Surroundings, pod: Object, key: PodKey, dirs: PodDirs) -> None:
        self._around, self._pod, self._key, self._dirs = around, pod, key, dirs

    async def release_sandboxes(self, state: PodState) -> None:
        """Ends what holds the pod's namespaces, gives its addresses back, and its disks, which others may wait for;
        ended containers stay for their logs."""
        ready = [sandbox for sandbox in state.sandboxes if sandbox.is_ready]
        if ready:
            await self._detach()
        for sandbox in ready:
            await self._around.runtime.stop_sandbox(sandbox.id)
        await self._around.disks.release(self._key)

    async def _detach(self) -> None:
        if not podspec.is_host_network(self._pod):
            await self._around.porter.detach(self._key)

    async def remove(self, state: PodState, *, is_gone: bool) -> None:
        """Everything of the pod on this node, then its object, unless that is gone already."""
        around = self._around
        if any(sandbox.is_ready for sandbox in state.sandboxes):
            await self._detach()
        for sandbox in state.sandboxes:
            await around.runtime.remove_sandbox(sandbox.id)
        if not is_gone:
            await around.statuses.settled(self._key.uid)
        await around.disks.release(self._key)
        await around.porter.purge(self._key)
        await asyncio.to_thread(shutil.rmtree, self._dirs.root, ignore_errors=True)
        await asyncio.to_thread(shutil.rmtree, self._dirs.logs, ignore_errors=True)
        if not is_gone:
            await self._delete_object()
        around.objects.release(self._key.uid)
        around.tokens.release(self._key.uid)
        around.images.release(self._key.uid)
        around.statuses.release(self._key.uid)
        log.info("pod removed", extra={"pod": meta.key(self._pod), "uid": self._key.uid})

    async def _delete_object(self) -> None:
        try:
            await self._around.client.delete(
                PODS, self._key.name, self._key.namespace, grace_period_s=0, uid=self._key.uid
            )
        except (NotFound, Conflict) as error:
            log.debug("pod object is gone", extra={"pod": meta.key(self._pod), "error": str(error)})
