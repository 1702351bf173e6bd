"""Lets disks grow with their claims.

The disk first, then the volume's capacity; the file system is the kubelet's, who sees the volume larger than its claim.
Source: the external resizer of Kubernetes' CSI sidecars; KEP-284, KEP-1790.
"""

from __future__ import annotations

import logging

from orchestrator.api import meta, quantity
from orchestrator.api.meta import Object
from orchestrator.api.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES
from orchestrator.api.volumes import DISK_DRIVER
from orchestrator.client.loop import Loop
from orchestrator.cloud import volume_plan
from orchestrator.cloud.context import Context
from orchestrator.cloud.provider import CloudError, Volumes
from orchestrator.cloud.volume_plan import capacity_bytes, spec

log = logging.getLogger(__name__)

RETRY_S = 5.0


class VolumeResizer:
    """Follows claims and volumes."""

    def __init__(self, context: Context, disks: Volumes) -> None:
        self._client, self._disks, self._clock = context.client, disks, context.clock
        self._recorder = context.recorder(f"external-resizer {DISK_DRIVER}")
        self.loop = Loop("volume-resizer", self.reconcile)
        self._claims = context.informers.informer(PERSISTENTVOLUMECLAIMS)
        self._volumes = context.informers.informer(PERSISTENTVOLUMES)
        self._claims.add_handler(lambda old, new: self.loop.queue.add(meta.key(new or old or {})))
        self._volumes.add_handler(self._volume_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _volume_changed(self, old: Object | None, new: Object | None) -> None:
        reference = spec(new or {}).get("claimRef")
        if reference:
            self.loop.queue.add(meta.join_key(reference.get("namespace") or "", reference["name"]))

    async def reconcile(self, key: str) -> None:
        claim = self._claims.cache.get(key)
        volume = self._volumes.cache.get(spec(claim or {}).get("volumeName") or "")
        if claim is None or volume is None or meta.is_deleting(claim) or not volume_plan.handle_of(volume):
            return
        if volume_plan.is_to_grow(claim, volume):
            await self._grow(key, claim, volume)
        elif 0 < capacity_bytes(claim, "status") < capacity_bytes(volume, "spec"):
            await self._hand_over(claim, volume)

    async def _grow(self, key: str, claim: Object, volume: Object) -> None:
        message = f"External resizer is resizing volume {meta.name(volume)}"
        self._recorder.event(claim, "Normal", "Resizing", message)
        patch = volume_plan.resizing(claim, meta.format_time(self._clock.now()))
        await self._patch_claim(claim, patch)
        try:
            size = await self._disks.resize(volume_plan.handle_of(volume), volume_plan.size_bytes(claim))
        except CloudError as error:
            message = f'resize volume "{meta.name(volume)}" by resizer "{DISK_DRIVER}" failed: {error}'
            self._recorder.event(claim, "Warning", "VolumeResizeFailed", message)
            self.loop.queue.add_after(key, RETRY_S)
            return
        log.info("disk grown", extra={"claim": key, "volume": meta.name(volume), "bytes": size})
        capacity = {"spec": {"capacity": {"storage": quantity.format_binary(size)}}}
        await self._client.patch(PERSISTENTVOLUMES, meta.name(volume), "", capacity)

    async def _hand_over(self, claim: Object, volume: Object) -> None:
        patch = volume_plan.disk_grown(claim, volume, meta.format_time(self._clock.now()))
        if patch is None:
            return
        await self._patch_claim(claim, patch)
        if spec(volume).get("volumeMode") == "Block":
            self._recorder.event(claim, "Normal", "VolumeResizeSuccessful", "Resize volume succeeded")
        else:
            message = "Require file system resize of volume on node"
            self._recorder.event(claim, "Normal", "FileSystemResizeRequired", message)

    async def _patch_claim(self, claim: Object, patch: Object) -> None:
        await self._client.patch(
            PERSISTENTVOLUMECLAIMS, meta.name(claim), meta.namespace(claim), patch, subresource="status"
        )
