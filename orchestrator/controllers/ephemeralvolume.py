"""Claims of generic ephemeral volumes: each is made for its pod, from the pod's own template, and goes with it.

The claim is called `<pod>-<volume>`; one of that name that is not the pod's is left alone, and the pod waits for it in
vain. Source: Concepts, Ephemeral Volumes, "Generic ephemeral volumes"; API reference, EphemeralVolumeSource.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.api import meta, status
from orchestrator.api.meta import Object
from orchestrator.api.resources import PERSISTENTVOLUMECLAIMS, PODS
from orchestrator.client.loop import Loop
from orchestrator.controllers import pods
from orchestrator.controllers.context import Context
from orchestrator.controllers.fields import copied, spec


def claims_of(pod: Object) -> Iterator[Object]:
    """Those that the pod shall have."""
    for volume in spec(pod).get("volumes") or ():
        if source := volume.get("ephemeral"):
            yield _claim(pod, volume["name"], source.get("volumeClaimTemplate") or {})


def _claim(pod: Object, volume: str, template: Mapping[str, Any]) -> Object:
    described = meta.metadata(template)
    made: dict[str, Any] = {
        "name": f"{meta.name(pod)}-{volume}",
        "namespace": meta.namespace(pod),
        "ownerReferences": [meta.owner_reference({"apiVersion": "v1", "kind": "Pod", **pod})],
    }
    for part in ("labels", "annotations"):
        if described.get(part):
            made[part] = dict(described[part])
    return {"metadata": made, "spec": copied(template.get("spec") or {})}


class EphemeralVolumeController:
    """Follows pods, and claims that went while their pods are there."""

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._recorder = context.recorder("ephemeral_volume")
        self.loop = Loop("ephemeral-volume", self.reconcile)
        self._pods = context.informers.informer(PODS)
        self._claims = context.informers.informer(PERSISTENTVOLUMECLAIMS)
        self._pods.add_handler(self._pod_changed)
        self._claims.add_handler(self._claim_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None and any(claims_of(new)):
            self.loop.queue.add(meta.key(new))

    def _claim_changed(self, old: Object | None, new: Object | None) -> None:
        owner = meta.controller_of(old) if old is not None and new is None else None
        if owner is not None and owner.get("kind") == "Pod":
            self.loop.queue.add(meta.join_key(meta.namespace(old or {}), owner["name"]))

    async def reconcile(self, key: str) -> None:
        pod = self._pods.cache.get(key)
        if pod is None or not pods.is_active(pod):
            return
        for wanted in claims_of(pod):
            found = self._claims.cache.get(meta.key(wanted))
            if found is None:
                await self._create(pod, wanted)
            elif not meta.is_controlled_by(found, pod):
                self._refuse(pod, found)

    async def _create(self, pod: Object, wanted: Object) -> None:
        try:
            await self._client.create(PERSISTENTVOLUMECLAIMS, wanted)
        except status.AlreadyExists:
            raise
        except (status.Forbidden, status.Invalid) as error:
            message = f"ephemeral volume: {error}"
            self._recorder.event(pod, "Warning", "FailedBinding", message)
            raise

    def _refuse(self, pod: Object, found: Object) -> None:
        message = f"ephemeral volume: PVC {meta.key(found)} was not created for pod {meta.key(pod)} (pod is not owner)"
        self._recorder.event(pod, "Warning", "FailedBinding", message)
