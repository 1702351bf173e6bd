"""Storage in use is not deleted: finalizers on claims that pods use and on volumes that are bound.

The finalizers `kubernetes.io/pvc-protection` and `kubernetes.io/pv-protection` are put on every claim and volume, and
removed from one that is being deleted once no pod uses the claim, or no claim has the volume. That no pod uses a claim
is asked of the server, for the cache may be behind.
Source: Concepts, Persistent Volumes, "Storage Object in Use Protection".
"""

from __future__ import annotations

from orchestrator.api import meta, status
from orchestrator.api.meta import Object
from orchestrator.api.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, PODS, Resource
from orchestrator.client.loop import Loop
from orchestrator.controllers import pods
from orchestrator.controllers.context import Context
from orchestrator.controllers.fields import status_of
from orchestrator.controllers.volumebinder import by_claim

FINALIZERS = {
    PERSISTENTVOLUMECLAIMS.kind: "kubernetes.io/pvc-protection",
    PERSISTENTVOLUMES.kind: "kubernetes.io/pv-protection",
}
RESOURCES: dict[str, Resource] = {each.kind: each for each in (PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES)}


class VolumeProtection:
    """Puts the finalizers on, and takes them off in time."""

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self.loop = Loop("volume-protection", self.reconcile)
        self._informers = {kind: context.informers.informer(resource) for kind, resource in RESOURCES.items()}
        self._pods = context.informers.informer(PODS, indexers={"claims": by_claim})
        for informer in self._informers.values():
            informer.add_handler(self._changed)
        self._pods.add_handler(self._pod_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None and (meta.is_deleting(new) or FINALIZERS[new["kind"]] not in meta.finalizers(new)):
            self.loop.queue.add(f"{new['kind']} {meta.key(new)}")

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
        if any(not pods.is_terminal(pod) for pod in self._pods.cache.by_index("claims", meta.key(obj))):
            return True
        live = await self._client.list(PODS, meta.namespace(obj))
        return any(meta.key(obj) in by_claim(pod) and not pods.is_terminal(pod) for pod in live.items)
