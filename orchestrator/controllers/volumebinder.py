"""Binds claims to volumes as `volumebinder_plan.py` decides, and keeps the phases of both.

A released volume with the policy Delete is deleted here only if nothing outside the cluster has to be: a provisioner
deletes what it made. Source: Concepts, Persistent Volumes.
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.api import meta, status
from orchestrator.api.meta import Object
from orchestrator.api.resources import NODES, PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, PODS, STORAGECLASSES
from orchestrator.client.loop import Loop
from orchestrator.controllers import volumebinder_plan
from orchestrator.controllers.context import Context
from orchestrator.controllers.expectations import RECHECK_S, Expectations
from orchestrator.controllers.fields import spec, status_of, with_status
from orchestrator.controllers.volumebinder_plan import Bind, Lose, Provision, Wait


def by_claim_reference(volume: Object) -> Iterable[str]:
    reference = spec(volume).get("claimRef") or {}
    return (meta.join_key(reference.get("namespace") or "", reference["name"]),) if reference.get("name") else ()


def by_claim(pod: Object) -> Iterable[str]:
    """The claims that a pod uses, also those that its ephemeral volumes make."""
    for volume in spec(pod).get("volumes") or ():
        if source := volume.get("persistentVolumeClaim"):
            yield meta.join_key(meta.namespace(pod), source["claimName"])
        elif volume.get("ephemeral"):
            yield meta.join_key(meta.namespace(pod), f"{meta.name(pod)}-{volume['name']}")


class VolumeBinder:
    """One worker decides on all claims: two claims never take one volume."""

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._recorder = context.recorder("persistentvolume-controller")
        self.loop = Loop("persistentvolume-binder", self.reconcile, workers=1)
        informers = context.informers
        self._claims = informers.informer(PERSISTENTVOLUMECLAIMS)
        self._volumes = informers.informer(PERSISTENTVOLUMES, indexers={"claim": by_claim_reference})
        self._classes = informers.informer(STORAGECLASSES)
        self._nodes = informers.informer(NODES)
        self._pods = informers.informer(PODS, indexers={"claims": by_claim})
        self._expectations = Expectations(self._volumes)
        self._claims.add_handler(lambda old, new: self._claim_changed(new or old or {}))
        self._volumes.add_handler(self._volume_changed)
        self._classes.add_handler(lambda old, new: self._look_at_pending())

    async def run(self) -> None:
        await self.loop.run()

    def _claim_changed(self, claim: Object) -> None:
        self.loop.queue.add(f"claim {meta.key(claim)}")
        for volume in self._volumes.cache.by_index("claim", meta.key(claim)):
            self.loop.queue.add(f"volume {meta.name(volume)}")

    def _volume_changed(self, old: Object | None, new: Object | None) -> None:
        for volume in (old, new):
            for key in by_claim_reference(volume) if volume else ():
                self.loop.queue.add(f"claim {key}")
        if new is not None:
            self.loop.queue.add(f"volume {meta.name(new)}")
            if not spec(new).get("claimRef"):
                self._look_at_pending()

    def _look_at_pending(self) -> None:
        for claim in self._claims.cache.list():
            if status_of(claim).get("phase") != "Bound":
                self.loop.queue.add(f"claim {meta.key(claim)}")

    async def reconcile(self, key: str) -> None:
        if not self._expectations.are_met("volumes"):
            self.loop.queue.add_after(key, min(RECHECK_S, 0.02))
            return
        kind, _, name = key.partition(" ")
        if kind == "volume":
            await self._phase(name)
        elif (claim := self._claims.cache.get(name)) is not None and not meta.is_deleting(claim):
            await self._bind(claim)

    async def _bind(self, claim: Object) -> None:
        node = self._nodes.cache.get(meta.annotations(claim).get(volumebinder_plan.SELECTED_NODE, ""))
        storage_class = self._classes.cache.get(volumebinder_plan.class_of(claim))
        is_used = bool(self._pods.cache.by_index("claims", meta.key(claim)))
        volumes = self._volumes.cache.list()
        match volumebinder_plan.decide(claim, volumes, storage_class, node, is_used):
            case Bind(volume):
                await self._complete(claim, volume)
            case Lose(message):
                if status_of(claim).get("phase") != "Lost":
                    self._recorder.event(claim, "Warning", "ClaimLost", message)
                    lost = with_status(claim, {**status_of(claim), "phase": "Lost"})
                    await self._client.update(PERSISTENTVOLUMECLAIMS, lost, subresource="status")
            case Provision(provisioner):
                await self._mark(claim, provisioner)
            case Wait(reason, message):
                self._recorder.event(claim, "Normal", reason, message)
                await self._pend(claim)

    async def _complete(self, claim: Object, volume: Object) -> None:
        reference = spec(volume).get("claimRef") or {}
        if reference.get("uid") != meta.uid(claim):
            volume = await self._client.update(PERSISTENTVOLUMES, volumebinder_plan.claimed(volume, claim))
            self._expectations.written("volumes", volume)
        is_done = volumebinder_plan.BIND_COMPLETED in meta.annotations(claim)
        if not is_done or spec(claim).get("volumeName") != meta.name(volume):
            claim = await self._client.update(PERSISTENTVOLUMECLAIMS, volumebinder_plan.bound(claim, volume))
        wanted = volumebinder_plan.bound_status(claim, volume)
        if wanted != status_of(claim):
            await self._client.update(PERSISTENTVOLUMECLAIMS, with_status(claim, wanted), subresource="status")

    async def _mark(self, claim: Object, provisioner: str) -> None:
        annotations = meta.annotations(claim)
        if annotations.get(volumebinder_plan.PROVISIONER) != provisioner:
            marks = {volumebinder_plan.PROVISIONER: provisioner, volumebinder_plan.BETA_PROVISIONER: provisioner}
            patch = {"metadata": {"annotations": marks}}
            await self._client.patch(PERSISTENTVOLUMECLAIMS, meta.name(claim), meta.namespace(claim), patch)
            return
        message = (
            f"Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the "
            "system administrator. If volume creation is delayed, please verify that the provisioner is running and "
            "correctly registered."
        )
        self._recorder.event(claim, "Normal", "ExternalProvisioning", message)
        await self._pend(claim)

    async def _pend(self, claim: Object) -> None:
        if not status_of(claim).get("phase"):
            pending = with_status(claim, {**status_of(claim), "phase": "Pending"})
            await self._client.update(PERSISTENTVOLUMECLAIMS, pending, subresource="status")

    async def _phase(self, name: str) -> None:
        volume = self._volumes.cache.get(name)
        if volume is None:
            return
        keys = list(by_claim_reference(volume))
        claim = await self._claim_now(keys[0]) if keys else None
        phase = volumebinder_plan.volume_phase(volume, claim)
        if phase != status_of(volume).get("phase"):
            changed = with_status(volume, {**status_of(volume), "phase": phase})
            await self._client.update(PERSISTENTVOLUMES, changed, subresource="status")
        if phase == "Released" and spec(volume).get("persistentVolumeReclaimPolicy") == "Delete":
            message = 'error getting deleter volume plugin for volume "%s": no deletable volume plugin matched'
            if not meta.annotations(volume).get("pv.kubernetes.io/provisioned-by"):
                self._recorder.event(volume, "Warning", "VolumeFailedDelete", message % name)

    async def _claim_now(self, key: str) -> Object | None:
        """A claim that the cache lacks is asked for, before its volume is called released."""
        found = self._claims.cache.get(key)
        if found is not None:
            return found
        namespace, name = meta.split_key(key)
        try:
            return await self._client.get(PERSISTENTVOLUMECLAIMS, name, namespace)
        except status.NotFound:
            return None
