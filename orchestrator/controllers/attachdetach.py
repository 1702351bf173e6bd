"""Attaches volumes to the nodes where pods use them, and detaches them: by making and deleting VolumeAttachments.

Another component, the attacher of the volume's driver, carries them out and says so in their status. What is decided
for one volume is in `attachdetach_plan.py`; its key here is the volume's name, and `node <name>` for a node's status.
Source: attach/detach controller of Kubernetes; API reference, VolumeAttachment.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from orchestrator.api import meta, status, volumes
from orchestrator.api.meta import Object
from orchestrator.api.resources import (
    CSIDRIVERS,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODS,
    VOLUMEATTACHMENTS,
)
from orchestrator.client.loop import Loop
from orchestrator.controllers import attachdetach_plan as planning
from orchestrator.controllers.attachdetach_plan import Attach, Detach, Refuse, Seen, Wait
from orchestrator.controllers.context import Context
from orchestrator.controllers.fields import spec, status_of
from orchestrator.controllers.pods import node_name
from orchestrator.controllers.volumebinder import by_claim, by_claim_reference

log = logging.getLogger(__name__)

NODE_KEY = "node "


def by_volume(attachment: Object) -> Iterable[str]:
    name = (spec(attachment).get("source") or {}).get("persistentVolumeName")
    return (name,) if name else ()


def by_node(attachment: Object) -> Iterable[str]:
    return (spec(attachment).get("nodeName") or "",)


class AttachDetachController:
    """Follows pods, claims, volumes, nodes and attachments."""

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._recorder = context.recorder("attachdetach-controller")
        self.loop = Loop("attachdetach", self.reconcile)
        informers = context.informers
        self._pods = informers.informer(PODS, indexers={"claims": by_claim})
        self._claims = informers.informer(PERSISTENTVOLUMECLAIMS)
        self._volumes = informers.informer(PERSISTENTVOLUMES, indexers={"claim": by_claim_reference})
        self._nodes = informers.informer(NODES)
        self._drivers = informers.informer(CSIDRIVERS)
        self._attachments = informers.informer(VOLUMEATTACHMENTS, indexers={"volume": by_volume, "node": by_node})
        self._unwanted_since: dict[tuple[str, str], float] = {}  # (volume, node) → loop time
        self._refused: set[tuple[str, str, str]] = set()  # (volume, node, pod uid) whose users have been told
        self._pods.add_handler(self._pod_changed)
        self._claims.add_handler(self._claim_changed)
        self._volumes.add_handler(lambda old, new: self.loop.queue.add(meta.name(new or old or {})))
        self._attachments.add_handler(self._attachment_changed)
        self._nodes.add_handler(self._node_changed)
        self._drivers.add_handler(lambda old, new: self._look_at_all())

    async def run(self) -> None:
        await self.loop.run()

    # What may change what is wanted.

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        for pod in (old, new):
            for key in by_claim(pod) if pod is not None and node_name(pod) else ():
                self._look_at_claim(key)

    def _claim_changed(self, old: Object | None, new: Object | None) -> None:
        if old is None or new is None or spec(old) != spec(new) or status_of(old) != status_of(new):
            self._look_at_claim(meta.key(new or old or {}))

    def _look_at_claim(self, key: str) -> None:
        for volume in self._volumes.cache.by_index("claim", key):
            self.loop.queue.add(meta.name(volume))

    def _look_at_all(self) -> None:
        for volume in self._volumes.cache.list():
            if volumes.csi(volume):
                self.loop.queue.add(meta.name(volume))

    def _attachment_changed(self, old: Object | None, new: Object | None) -> None:
        attachment = new or old or {}
        for name in by_volume(attachment):
            self.loop.queue.add(name)
            if old is not None and new is not None:
                self._tell(name, old, new)
        self.loop.queue.add(f"{NODE_KEY}{spec(attachment)['nodeName']}")

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        name = meta.name(new or old or {})
        for attachment in self._attachments.cache.by_index("node", name):
            for volume in by_volume(attachment):
                self.loop.queue.add(volume)
        if new is not None:
            self.loop.queue.add(f"{NODE_KEY}{name}")

    # What is.

    def _wanted(self, volume: Object) -> dict[str, tuple[Object, ...]]:
        """node → pods that use the volume there; nothing of a volume that is not attached at all."""
        source = volumes.csi(volume)
        if source is None or not self._needs_attaching(source["driver"]):
            return {}
        found: dict[str, tuple[Object, ...]] = {}
        for key in by_claim_reference(volume):
            claim = self._claims.cache.get(key)
            if claim is None or not _is_bound(claim, volume):
                continue
            for pod in self._pods.cache.by_index("claims", key):
                node = node_name(pod)
                if planning.is_managed(self._nodes.cache.get(node)) and planning.uses_volumes(pod):
                    found[node] = (*found.get(node, ()), pod)
        return found

    def _needs_attaching(self, driver: str) -> bool:
        found = self._drivers.cache.get(driver)
        return found is None or spec(found).get("attachRequired") is not False

    def _seen(self, name: str) -> Seen:
        volume = self._volumes.cache.get(name)
        wanted = self._wanted(volume) if volume is not None else {}
        found_there = self._attachments.cache.by_index("volume", name)
        attachments = tuple(each for each in found_there if planning.is_ours(each, volume))
        there = {node: found for node in map(_node_of, attachments) if (found := self._nodes.cache.get(node))}
        now = asyncio.get_running_loop().time()
        unwanted = {}
        for node in map(_node_of, attachments):
            if node in wanted:
                self._unwanted_since.pop((name, node), None)
            else:
                unwanted[node] = now - self._unwanted_since.setdefault((name, node), now)
        return Seen(volume, wanted, attachments, there, unwanted)

    # What is done.

    async def reconcile(self, key: str) -> None:
        if key.startswith(NODE_KEY):
            await self._report(key.removeprefix(NODE_KEY))
            return
        seen = self._seen(key)
        for action in planning.plan(seen):
            match action:
                case Attach(node):
                    await self._attach(seen, node)
                case Detach(node, is_forced):
                    await self._detach(key, seen, node, is_forced=is_forced)
                case Refuse(node, others):
                    self._refuse(key, seen.wanted[node], node, others)
                case Wait(_, seconds):
                    if seconds is not None:
                        self.loop.queue.add_after(key, seconds)

    async def _attach(self, seen: Seen, node: str) -> None:
        assert seen.volume is not None, "what is wanted exists"
        source = volumes.csi(seen.volume) or {}
        made = {
            "metadata": {"name": volumes.attachment_name(source["volumeHandle"], source["driver"], node)},
            "spec": {
                "attacher": source["driver"],
                "nodeName": node,
                "source": {"persistentVolumeName": meta.name(seen.volume)},
            },
        }
        try:
            await self._client.create(VOLUMEATTACHMENTS, made)
            log.info("volume to be attached", extra={"volume": meta.name(seen.volume), "node": node})
        except status.AlreadyExists:  # ours, which the cache does not have yet, or one that is about to go
            log.debug("attachment exists", extra={"volume": meta.name(seen.volume), "node": node})
        self._refused = {told for told in self._refused if told[:2] != (meta.name(seen.volume), node)}

    async def _detach(self, name: str, seen: Seen, node: str, *, is_forced: bool) -> None:
        """First the node's status, so that the kubelet does not begin to use it; then the attachment."""
        found = seen.nodes.get(node)
        if found is not None and seen.volume is not None and planning.is_reported(found, seen.volume):
            found = await self._set_reported(found, without=planning.name_of(seen.volume))
            if not is_forced and planning.is_in_use(found, seen.volume):
                raise status.Conflict(f"volume {name} was taken into use on {node}")
        for attachment in seen.attachments:
            if _node_of(attachment) == node:
                try:
                    await self._client.delete(VOLUMEATTACHMENTS, meta.name(attachment), uid=meta.uid(attachment))
                except status.NotFound:
                    continue
                if is_forced:
                    log.warning("volume detached by force", extra={"volume": name, "node": node})
        self._unwanted_since.pop((name, node), None)

    async def _report(self, name: str) -> None:
        """Makes a node's `volumesAttached` what it should be."""
        node = self._nodes.cache.get(name)
        if node is None or not planning.is_managed(node):
            return
        attached, wanted = [], set()
        for attachment in self._attachments.cache.by_index("node", name):
            for volume_name in by_volume(attachment):
                volume = self._volumes.cache.get(volume_name)
                if volume is not None and planning.is_ours(attachment, volume) and planning.is_attached(attachment):
                    attached.append(volume)
                    if name in self._wanted(volume):
                        wanted.add(volume_name)
        entries = planning.reported(node, attached, wanted)
        if entries != (status_of(node).get("volumesAttached") or []):
            await self._patch_reported(node, entries)

    async def _set_reported(self, node: Object, without: str) -> Object:
        entries = [entry for entry in status_of(node).get("volumesAttached") or () if entry["name"] != without]
        return await self._patch_reported(node, entries)

    async def _patch_reported(self, node: Object, entries: list[Object]) -> Object:
        """Conflict where the node has changed since it was looked at: `volumesInUse` may have."""
        patch = {
            "metadata": {"resourceVersion": meta.resource_version(node)},
            "status": {"volumesAttached": entries or None},
        }
        return await self._client.patch(NODES, meta.name(node), "", patch, subresource="status")

    # What users are told.

    def _tell(self, volume_name: str, old: Object, new: Object) -> None:
        was, now = status_of(old), status_of(new)
        volume = self._volumes.cache.get(volume_name)
        pods = self._wanted(volume).get(_node_of(new), ()) if volume is not None else ()
        self.loop.queue.add(f"{NODE_KEY}{_node_of(new)}")
        for pod in pods:
            if now.get("attached") and not was.get("attached"):
                message = f'AttachVolume.Attach succeeded for volume "{volume_name}" '
                self._recorder.event(pod, "Normal", planning.ATTACHED, message)
            elif now.get("attachError") and now["attachError"] != was.get("attachError"):
                message = f'AttachVolume.Attach failed for volume "{volume_name}" : {now["attachError"]["message"]}'
                self._recorder.event(pod, "Warning", planning.FAILED, message)

    def _refuse(self, volume: str, pods: tuple[Object, ...], node: str, others: tuple[Object, ...]) -> None:
        """Told once a pod: it is a fault that lasts, and the attempt is made again whenever something changes."""
        for pod in pods:
            told = (volume, node, meta.uid(pod))
            if told not in self._refused:
                self._refused.add(told)
                self._recorder.event(pod, "Warning", planning.FAILED, planning.refusal(volume, pod, others))


def _node_of(attachment: Object) -> str:
    return str(spec(attachment)["nodeName"])


def _is_bound(claim: Object, volume: Object) -> bool:
    is_its = spec(claim).get("volumeName") == meta.name(volume)
    return is_its and (spec(volume).get("claimRef") or {}).get("uid") in (None, "", meta.uid(claim))
