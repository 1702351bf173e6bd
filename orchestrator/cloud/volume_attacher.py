"""Carries out VolumeAttachments of our disks, and says in their status what came of it.

Finalizers keep the attachment until its disk is detached, and the volume (which names the disk) until then.
A node that was off has lost what it saw; now and then it is looked whether every node has what it should.
Source: the external attacher of Kubernetes' CSI sidecars; API reference, VolumeAttachment.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from orchestrator.api import meta, status
from orchestrator.api.meta import Object
from orchestrator.api.resources import PERSISTENTVOLUMES, VOLUMEATTACHMENTS, Resource
from orchestrator.client.loop import Loop
from orchestrator.cloud import volume_plan
from orchestrator.cloud.context import Context
from orchestrator.cloud.provider import CloudError, Volumes
from orchestrator.cloud.volume_plan import ATTACHER_FINALIZER, spec, status_of

log = logging.getLogger(__name__)

RETRY_S = 5.0
LOOK_S = 3.0  # at what nodes have


class VolumeAttacher:
    """Follows attachments and volumes."""

    def __init__(self, context: Context, disks: Volumes) -> None:
        self._client, self._disks, self._clock = context.client, disks, context.clock
        self.loop = Loop("volume-attacher", self.reconcile)
        informers = context.informers
        self._volumes = informers.informer(PERSISTENTVOLUMES)
        self._attachments = informers.informer(VOLUMEATTACHMENTS, indexers={"volume": volume_plan.by_volume})
        self._attachments.add_handler(self._attachment_changed)
        self._volumes.add_handler(self._volume_changed)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.loop.run())
            group.create_task(self._look_at_nodes())

    def _attachment_changed(self, old: Object | None, new: Object | None) -> None:
        attachment = new or old or {}
        if new is not None and volume_plan.is_ours(new):
            self.loop.queue.add(meta.name(new))
        if new is None and volume_plan.is_ours(attachment):
            self.loop.queue.add(f"volume {volume_plan.volume_of(attachment)}")

    def _volume_changed(self, old: Object | None, new: Object | None) -> None:
        if new is None:
            return
        for attachment in self._attachments.cache.by_index("volume", meta.name(new)):
            self.loop.queue.add(meta.name(attachment))
        if meta.is_deleting(new) and ATTACHER_FINALIZER in meta.finalizers(new):
            self.loop.queue.add(f"volume {meta.name(new)}")

    async def reconcile(self, key: str) -> None:
        if key.startswith("volume "):
            await self._release_volume(key.removeprefix("volume "))
            return
        attachment = self._attachments.cache.get(key)
        if attachment is None:
            return
        try:
            if meta.is_deleting(attachment):
                await self._detach(attachment)
            elif not status_of(attachment).get("attached"):
                await self._attach(attachment)
        except status.NotFound:
            return
        except CloudError as error:
            field = "detachError" if meta.is_deleting(attachment) else "attachError"
            log.warning("disk not moved", extra={"attachment": key, "error": str(error)})
            await self._tell_error(attachment, field, str(error))
            self.loop.queue.add_after(key, RETRY_S)

    async def _attach(self, attachment: Object) -> None:
        volume = self._volumes.cache.get(volume_plan.volume_of(attachment))
        if volume is None or not volume_plan.handle_of(volume):
            raise CloudError(f"persistentvolume {volume_plan.volume_of(attachment)} is no disk of this cloud, or gone")
        await self._with_finalizer(PERSISTENTVOLUMES, volume)
        attachment = await self._with_finalizer(VOLUMEATTACHMENTS, attachment)
        handle, node = volume_plan.handle_of(volume), spec(attachment)["nodeName"]
        await self._disks.attach(handle, node)
        log.info("disk attached", extra={"disk": handle, "node": node})
        await self._set_status(attachment, {"attached": True, "attachError": None, "detachError": None})

    async def _detach(self, attachment: Object) -> None:
        if ATTACHER_FINALIZER not in meta.finalizers(attachment):
            return
        volume = self._volumes.cache.get(volume_plan.volume_of(attachment))
        node = spec(attachment)["nodeName"]
        if volume is not None and (handle := volume_plan.handle_of(volume)):
            await self._disks.detach(handle, node)
            log.info("disk detached", extra={"disk": handle, "node": node})
        if status_of(attachment).get("attached") or status_of(attachment).get("detachError"):
            done = {"attached": False, "attachError": None, "detachError": None}
            attachment = await self._set_status(attachment, done)
        await self._without_finalizer(VOLUMEATTACHMENTS, attachment)

    async def _release_volume(self, name: str) -> None:
        volume = self._volumes.cache.get(name)
        if volume is not None and not self._attachments.cache.by_index("volume", name):
            try:
                await self._without_finalizer(PERSISTENTVOLUMES, volume)
            except status.NotFound:
                return

    async def _look_at_nodes(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            for attachment in self._attachments.cache.list():
                if volume_plan.is_ours(attachment) and status_of(attachment).get("attached"):
                    try:
                        await self._attach_again(attachment)
                    except CloudError as error:
                        log.warning("disk not attached again", extra={"error": str(error)})

    async def _attach_again(self, attachment: Object) -> None:
        volume = self._volumes.cache.get(volume_plan.volume_of(attachment))
        if volume is None or meta.is_deleting(attachment):
            return
        handle, node = volume_plan.handle_of(volume), spec(attachment)["nodeName"]
        if handle and handle not in await self._disks.attached(node):
            await self._disks.attach(handle, node)
            log.info("disk attached again", extra={"disk": handle, "node": node})

    # Writes.

    async def _tell_error(self, attachment: Object, field: str, message: str) -> None:
        """Said once: the time of an error that stays the same does not move."""
        if (status_of(attachment).get(field) or {}).get("message") == message:
            return
        told = {"time": meta.format_time(self._clock.now()), "message": message}
        attached = bool(status_of(attachment).get("attached"))
        try:
            await self._set_status(attachment, {"attached": attached, field: told})
        except status.NotFound:
            return

    async def _set_status(self, attachment: Object, fields: dict[str, Any]) -> Object:
        patch = {"status": fields}
        return await self._client.patch(VOLUMEATTACHMENTS, meta.name(attachment), "", patch, subresource="status")

    async def _with_finalizer(self, resource: Resource, obj: Object) -> Object:
        present = meta.finalizers(obj)
        if ATTACHER_FINALIZER in present:
            return obj
        return await self._set_finalizers(resource, obj, [*present, ATTACHER_FINALIZER])

    async def _without_finalizer(self, resource: Resource, obj: Object) -> None:
        present = meta.finalizers(obj)
        if ATTACHER_FINALIZER in present:
            await self._set_finalizers(resource, obj, [each for each in present if each != ATTACHER_FINALIZER])

    async def _set_finalizers(self, resource: Resource, obj: Object, wanted: list[str]) -> Object:
        described = {"resourceVersion": meta.resource_version(obj), "finalizers": wanted or None}
        return await self._client.patch(resource, meta.name(obj), "", {"metadata": described})
