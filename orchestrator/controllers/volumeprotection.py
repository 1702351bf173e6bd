"""Storage in use is not deleted: finalizers on claims that pods use, on bound volumes, on classes of attributes.

The finalizers `kubernetes.io/pvc-protection`, `…/pv-protection` and `…/vac-protection` are put on every claim, volume
and VolumeAttributesClass, and removed from one that is being deleted once no pod uses the claim, no claim has the
volume, no claim or volume has or wants the class. That no pod uses a claim is asked of the server, for the cache may be
behind.
Source: Concepts, Persistent Volumes, "Storage Object in Use Protection"; upstream vacprotection.
"""

from __future__ import annotations

from orchestrator.api import meta, status
from orchestrator.api.meta import Object
from orchestrator.api.resources import (
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODS,
    VOLUMEATTRIBUTESCLASSES,
    Resource,
)
from orchestrator.client.loop import Loop
from orchestrator.controllers import pods
from orchestrator.controllers.context import Context
from orchestrator.controllers.fields import status_of
from orchestrator.controllers.volumebinder import by_claim

FINALIZERS = {
    PERSISTENTVOLUMECLAIMS.kind: "kubernetes.io/pvc-protection",
    PERSISTENTVOLUMES.kind: "kubernetes.io/pv-protection",
    VOLUMEATTRIBUTESCLASSES.kind: "kubernetes.io/vac-protection",
}
RESOURCES: dict[str, Resource] = {
    each.kind: each for each in (PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, VOLUMEATTRIBUTESCLASSES)
}
HOLDERS = (PERSISTENTVOLUMECLAIMS.kind, PERSISTENTVOLUMES.kind)  # of VolumeAttributesClasses
BY_CLASS = "attributes classes"


def attributes_classes(obj: Object) -> list[str]:
    """The VolumeAttributesClasses that a volume or claim has, had or is to have."""
    status = status_of(obj)
    names = (
        (obj.get("spec") or {}).get("volumeAttributesClassName"),
        status.get("currentVolumeAttributesClassName"),
        (status.get("modifyVolumeStatus") or {}).get("targetVolumeAttributesClassName"),
    )
    return list(dict.fromkeys(name for name in names if name))


class VolumeProtection:
    """Puts the finalizers on, and takes them off in time."""

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self.loop = Loop("volume-protection", self.reconcile)
        holders = {BY_CLASS: attributes_classes}
        self._informers = {
            kind: context.informers.informer(resource, indexers=holders if kind in HOLDERS else None)
            for kind, resource in RESOURCES.items()
        }
        self._pods = context.informers.informer(PODS, indexers={"claims": by_claim})
        for informer in self._informers.values():
            informer.add_handler(self._changed)
        self._pods.add_handler(self._pod_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None and (meta.is_deleting(new) or FINALIZERS[new["kind"]] not in meta.finalizers(new)):
            self.loop.queue.add(f"{new['kind']} {meta.key(new)}")
        if old is not None and old["kind"] in HOLDERS:  # what it held may go
            for name in set(attributes_classes(old)) - set(attributes_classes(new) if new is not None else ()):
                self.loop.queue.add(f"{VOLUMEATTRIBUTESCLASSES.kind} {name}")

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        """A pod that ended, or is gone, uses its claims no longer."""
        if old is not None and (new is None or pods.is_terminal(new)):
            for key in by_claim(old):
                self.loop.queue.add(f"{PERSISTENTVOLUMECLAIMS.kind} {key}")

    async def reconcile(self, key: str) -> None:
        kind, _, name = key.partition(" ")
        obj = self._informers[kind].cache.get(name)
        if obj is None:
            return
        finalizer = FINALIZERS[kind]
        present = meta.finalizers(obj)
        if not meta.is_deleting(obj):
            wanted = [*present, finalizer] if finalizer not in present else present
        elif finalizer in present and not await self._is_used(obj):
            wanted = [each for each in present if each != finalizer]
        else:
            return
        if wanted == present:
            return
        described = {"resourceVersion": meta.resource_version(obj), "finalizers": wanted or None}
        try:
            await self._client.patch(RESOURCES[kind], meta.name(obj), meta.namespace(obj), {"metadata": described})
        except status.NotFound:
            return

    async def _is_used(self, obj: Object) -> bool:
        if obj["kind"] == PERSISTENTVOLUMES.kind:
            return status_of(obj).get("phase") == "Bound"
        if obj["kind"] == VOLUMEATTRIBUTESCLASSES.kind:
            return any(self._informers[kind].cache.by_index(BY_CLASS, meta.name(obj)) for kind in HOLDERS)
        if any(not pods.is_terminal(pod) for pod in self._pods.cache.by_index("claims", meta.key(obj))):
            return True
        live = await self._client.list(PODS, meta.namespace(obj))
        return any(meta.key(obj) in by_claim(pod) and not pods.is_terminal(pod) for pod in live.items)
