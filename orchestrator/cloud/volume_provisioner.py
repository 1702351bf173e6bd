"""Makes a disk and a volume for each claim of our classes, and deletes both when the claim is gone.

The disk's name follows from the claim's uid, so a provisioner that died between two steps goes on where it was.
Source: the external provisioner of Kubernetes' CSI sidecars.
"""

from __future__ import annotations

import logging

from orchestrator.api import meta, status, volumes
from orchestrator.api.meta import Object
from orchestrator.api.resources import (
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    STORAGECLASSES,
    VOLUMEATTACHMENTS,
)
from orchestrator.api.volumes import DISK_DRIVER
from orchestrator.client.loop import Loop
from orchestrator.cloud import volume_plan
from orchestrator.cloud.context import Context
from orchestrator.cloud.provider import CloudError, Volumes
from orchestrator.cloud.volume_plan import NotProvisionable, spec

log = logging.getLogger(__name__)

RETRY_S = 5.0
CLAIM, VOLUME = "claim ", "volume "


class VolumeProvisioner:
    """Follows claims, classes, volumes and attachments."""

    def __init__(self, context: Context, disks: Volumes) -> None:
        self._client, self._disks = context.client, disks
        self._recorder = context.recorder(DISK_DRIVER)
        self._made: set[str] = set()  # volumes that the cache may not have yet
        self.loop = Loop("volume-provisioner", self.reconcile)
        informers = context.informers
        self._claims = informers.informer(PERSISTENTVOLUMECLAIMS)
        self._classes = informers.informer(STORAGECLASSES)
        self._volumes = informers.informer(PERSISTENTVOLUMES)
        self._nodes = informers.informer(NODES)
        self._attachments = informers.informer(VOLUMEATTACHMENTS, indexers={"volume": volume_plan.by_volume})
        self._claims.add_handler(lambda old, new: self._add(CLAIM, new))
        self._classes.add_handler(lambda old, new: self._class_changed())
        self._volumes.add_handler(lambda old, new: self._add(VOLUME, new))
        self._attachments.add_handler(self._attachment_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _add(self, kind: str, obj: Object | None) -> None:
        if obj is not None:
            self.loop.queue.add(f"{kind}{meta.key(obj)}")

    def _class_changed(self) -> None:
        for claim in self._claims.cache.list():
            if not spec(claim).get("volumeName"):
                self._add(CLAIM, claim)

    def _attachment_changed(self, old: Object | None, new: Object | None) -> None:
        """A volume that was to be deleted may have waited for this."""
        if new is None and (name := volume_plan.volume_of(old or {})):
            self.loop.queue.add(f"{VOLUME}{name}")

    async def reconcile(self, key: str) -> None:
        if key.startswith(CLAIM):
            claim = self._claims.cache.get(key.removeprefix(CLAIM))
            storage_class = self._classes.cache.get(spec(claim or {}).get("storageClassName") or "")
            if claim is not None and storage_class is not None and volume_plan.wants_disk(claim, storage_class):
                await self._provision(key, claim, storage_class)
            return
        self._made.discard(key.removeprefix(VOLUME))  # it has been seen
        volume = self._volumes.cache.get(key.removeprefix(VOLUME))
        if volume is not None and volume_plan.is_to_be_deleted(volume):
            await self._delete(key, volume)
        elif volume is not None and volume_plan.is_let_go(volume):
            await self._without_finalizer(volume)

    async def _provision(self, key: str, claim: Object, storage_class: Object) -> None:
        name = volume_plan.volume_name(claim)
        if name in self._volumes.cache or name in self._made:
            return  # the binder's turn
        near = meta.annotations(claim).get(volume_plan.SELECTED_NODE, "")
        if near and near not in self._nodes.cache:
            await self._reschedule(claim, near)
            return
        message = f'External provisioner is provisioning volume for claim "{meta.key(claim)}"'
        self._recorder.event(claim, "Normal", "Provisioning", message)
        try:
            volume_plan.check(claim, storage_class)
            disk = await self._disks.create(volumes.handle(meta.uid(claim)), volume_plan.size_bytes(claim), near)
        except (CloudError, NotProvisionable) as error:
            message = f'failed to provision volume with StorageClass "{meta.name(storage_class)}": {error}'
            self._recorder.event(claim, "Warning", "ProvisioningFailed", message)
            if isinstance(error, CloudError):  # the other kind lasts until the class or the claim is another
                self.loop.queue.add_after(key, RETRY_S)
            return
        made = volume_plan.persistent_volume(claim, storage_class, disk)
        try:
            await self._client.create(PERSISTENTVOLUMES, made)
        except status.AlreadyExists:
            return
        self._made.add(name)
        log.info("volume provisioned", extra={"claim": meta.key(claim), "disk": disk.name, "bytes": disk.size_bytes})
        self._recorder.event(claim, "Normal", "ProvisioningSucceeded", f"Successfully provisioned volume {name}")

    async def _reschedule(self, claim: Object, node: str) -> None:
        """The chosen node has gone: the scheduler chooses again."""
        message = f'failed to provision volume: node "{node}" does not exist; the scheduler is asked for another'
        self._recorder.event(claim, "Warning", "ProvisioningFailed", message)
        patch = {
            "metadata": {
                "resourceVersion": meta.resource_version(claim),
                "annotations": {volume_plan.SELECTED_NODE: None},
            }
        }
        await self._client.patch(PERSISTENTVOLUMECLAIMS, meta.name(claim), meta.namespace(claim), patch)

    async def _delete(self, key: str, volume: Object) -> None:
        name = meta.name(volume)
        try:
            if attachments := self._attachments.cache.by_index("volume", name):
                node = spec(attachments[0])["nodeName"]
                raise CloudError(f"persistentvolume {name} is still attached to node {node}")
            await self._disks.delete(volume_plan.handle_of(volume))
        except CloudError as error:
            self._recorder.event(volume, "Warning", "VolumeFailedDelete", str(error))
            self.loop.queue.add_after(key, RETRY_S)
            return
        log.info("disk deleted", extra={"volume": name, "disk": volume_plan.handle_of(volume)})
        try:
            if not meta.is_deleting(volume):
                volume = await self._client.delete(PERSISTENTVOLUMES, name, uid=meta.uid(volume))
            await self._without_finalizer(volume)
        except status.NotFound:
            return

    async def _without_finalizer(self, volume: Object) -> None:
        left = [each for each in meta.finalizers(volume) if each != volume_plan.VOLUME_FINALIZER]
        if left != meta.finalizers(volume):
            described = {"resourceVersion": meta.resource_version(volume), "finalizers": left or None}
            await self._client.patch(PERSISTENTVOLUMES, meta.name(volume), "", {"metadata": described})
