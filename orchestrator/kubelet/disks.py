"""The disks that this node uses: which pods have which, and what the node's status says of it.

    claim() --> in use (volumesInUse) --> attached (volumesAttached) --> the porter mounts it for the pod
    release() --> unmounted --> let go by the porter --> no longer in use

The attach/detach controller takes no disk from a node that says it is in use, and we mount none that the controller
does not report as attached; we look for that in the answer to the write that says "in use", so that no change between
the two is missed. What a kubelet before us had mounted is learnt from the porter.
A file system follows its disk: where a claim's volume has become larger than the claim knows, it is grown, and the
claim's status tells. Source: the kubelet's volume manager; API reference, NodeStatus; KEP-1790, KEP-284 expansion.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from orchestrator.api import meta, volumes
from orchestrator.api.meta import Object
from orchestrator.api.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES
from orchestrator.api.status import ApiError, NotFound
from orchestrator.client.client import Client
from orchestrator.client.events import EventRecorder
from orchestrator.kubelet import diskgrowth
from orchestrator.kubelet.porter import PodKey, Porter, PorterFailure

log = logging.getLogger(__name__)

ATTACH_PATIENCE_S = 123.0
LOOK_S = 5.0  # at the claims of mounted disks: has one grown?

Report = Callable[[list[str] | None], Awaitable[Object]]


class NotAttached(Exception):
    """A disk was not attached in time."""


class Disks:
    """`report` writes volumesInUse and gives the node as it is then; `pods` are those of this node."""

    def __init__(
        self, client: Client, recorder: EventRecorder, porter: Porter, report: Report, pods: Callable[[], list[Object]]
    ) -> None:
        self._client, self._recorder, self._porter = client, recorder, porter
        self._report, self._pods = report, pods
        self._uses: dict[str, set[str]] = {}  # handle → uids of pods
        self._attached: frozenset[str] = frozenset()  # unique names, by the node as last seen
        self._seen_version = 0
        self._change = asyncio.Event()
        self._locks: dict[str, asyncio.Lock] = {}
        self._complained: set[str] = set()  # handles whose growth failed, and whose users were told

    # The node's status.

    @property
    def in_use(self) -> list[str] | None:
        """As `volumesInUse` has it."""
        return sorted(volumes.unique_name(volumes.DISK_DRIVER, handle) for handle in self._uses) or None

    def node_changed(self, node: Object | None) -> None:
        """An answer and a watch event may come in the wrong order: only what is newer counts."""
        version = meta.resource_version(node or {})
        if version.isdecimal():
            if int(version) < self._seen_version:
                return
            self._seen_version = int(version)
        entries = ((node or {}).get("status") or {}).get("volumesAttached") or ()
        self._attached = frozenset(entry["name"] for entry in entries)
        self._change.set()
        self._change = asyncio.Event()

    async def _tell(self) -> None:
        self.node_changed(await self._report(self.in_use))

    # What pods ask.

    async def recover(self) -> None:
        """What is in use since before this kubelet."""
        for handle, uids in (await self._porter.disks()).items():
            self._uses.setdefault(handle, set()).update(uids)

    async def claim(self, uid: str, handle: str) -> None:
        """Returns when the disk is attached and this node has said that it is in use. Errors: NotAttached."""
        name = volumes.unique_name(volumes.DISK_DRIVER, handle)
        async with self._lock(handle):
            is_new = handle not in self._uses
            self._uses.setdefault(handle, set()).add(uid)
            if is_new or name not in self._attached:
                await self._tell()
        try:
            async with asyncio.timeout(ATTACH_PATIENCE_S):
                while name not in self._attached:
                    await self._change.wait()
        except TimeoutError as error:
            raise NotAttached(f"disk {handle} was not attached in {ATTACH_PATIENCE_S:.0f} s") from error

    async def release(self, pod: PodKey) -> None:
        """The pod has no use for its disks any more. PorterFailure while something still has one of them."""
        mine = [handle for handle, uids in self._uses.items() if pod.uid in uids]
        if mine:
            await self._porter.unmount_disks(pod)
        for handle in mine:
            await self._let_go(handle, pod.uid)

    async def _let_go(self, handle: str, uid: str) -> None:
        async with self._lock(handle):
            uids = self._uses.get(handle)
            if uids is None:
                return
            if uids <= {uid}:
                await self._porter.release_disk(handle)
                del self._uses[handle]
                self._complained.discard(handle)
                await self._tell()
            uids.discard(uid)

    async def release_unknown(self, known: set[str]) -> None:
        """Of pods that are not on this node any more."""
        for handle, uids in list(self._uses.items()):
            for uid in [*(uids - known), *([] if uids else [""])]:
                try:
                    await self._porter.unmount_disks(PodKey(uid, "", "")) if uid else None
                    await self._let_go(handle, uid)
                except (PorterFailure, ApiError, ConnectionError) as error:
                    log.warning("disk not released", extra={"disk": handle, "uid": uid, "error": str(error)})

    def _lock(self, handle: str) -> asyncio.Lock:
        return self._locks.setdefault(handle, asyncio.Lock())

    # Growth.

    async def run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            pods = {meta.uid(pod): pod for pod in self._pods()} if self._uses else {}
            for handle, uids in list(self._uses.items()):
                pod = next((pods[uid] for uid in sorted(uids) if uid in pods), None)
                if pod is None:
                    continue
                try:
                    await self._follow(handle, pod)
                except NotFound:
                    continue
                except (ApiError, ConnectionError) as error:
                    log.warning("disk not followed", extra={"disk": handle, "error": str(error)})

    async def _follow(self, handle: str, pod: Object) -> None:
        for name in volumes.claim_names(pod).values():
            claim = await self._client.get(PERSISTENTVOLUMECLAIMS, name, meta.namespace(pod))
            if not (claim.get("spec") or {}).get("volumeName"):
                continue
            volume = await self._client.get(PERSISTENTVOLUMES, claim["spec"]["volumeName"])
            if (volumes.csi(volume) or {}).get("volumeHandle") == handle:
                await self.grow(claim, volume, pod)

    async def grow(self, claim: Object, volume: Object, pod: Object) -> None:
        """Lets the file system fill its volume, where the claim says that it does not yet, and then says so. Where the
        node cannot do it the users are told once, and it stays to be done."""
        handle = volume["spec"]["csi"]["volumeHandle"]
        async with self._lock(handle):
            if handle in self._uses and diskgrowth.is_due(claim, volume):
                await self._grow(handle, claim, volume, pod)

    async def _grow(self, handle: str, claim: Object, volume: Object, pod: Object) -> None:
        name = meta.name(volume)
        try:
            await self._porter.grow_disk(handle, diskgrowth.size_bytes(volume))
        except PorterFailure as error:
            if handle not in self._complained:
                self._complained.add(handle)
                message = f'NodeExpandVolume.NodeExpandVolume failed for volume "{name}" : {error}'
                self._recorder.event(pod, "Warning", "VolumeResizeFailed", message)
            return
        changed = diskgrowth.finished(claim, volume)
        await self._client.patch(
            PERSISTENTVOLUMECLAIMS, meta.name(claim), meta.namespace(claim), changed, subresource="status"
        )
        self._complained.discard(handle)
        message = f'MountVolume.NodeExpandVolume succeeded for volume "{name}" '
        for about in (pod, claim):
            self._recorder.event(about, "Normal", "FileSystemResizeSuccessful", message)
