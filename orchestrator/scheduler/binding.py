"""Binding: what the scheduler does in the world for one Pod. Nothing here decides.

`bind` gives the Pod its node (DefaultBinder), after the volumes that were reserved for it are bound. `report` tells why
it has none: the PodScheduled condition, the nominated node, an event. `evict` removes a victim gracefully, with the
condition that says so. Source: core/v1 Binding; pod conditions PodScheduled and DisruptionTarget.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from orchestrator.api import conditions, meta, status
from orchestrator.api.clock import Clock
from orchestrator.api.meta import Object
from orchestrator.api.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, PODS
from orchestrator.client.client import Client
from orchestrator.client.events import EventRecorder
from orchestrator.scheduler.plugins.volumebinding import SELECTED_NODE, Binding, is_bound
from orchestrator.scheduler.pod import Pod

log = logging.getLogger(__name__)

CLAIMS_PATIENCE_S = 600.0  # VolumeBindingArgs.bindTimeoutSeconds
BOUND_BY_CONTROLLER = "pv.kubernetes.io/bound-by-controller"

ClaimOf = Callable[[str], Object | None]


class VolumesNotBound(Exception):
    """A claim was not bound in time, or went to another volume or node."""


class Binder:
    """Writes to the API server. Errors: ApiError, ConnectionError, VolumesNotBound."""

    def __init__(self, client: Client, recorders: dict[str, EventRecorder], clock: Clock, claim_of: ClaimOf) -> None:
        self._client = client
        self._recorders = recorders
        self._clock = clock
        self._claim_of = claim_of
        self._claims_changed = asyncio.Condition()

    async def bind(self, pod: Pod, volumes: Sequence[Binding]) -> None:
        if volumes:
            await self._bind_volumes(pod, volumes)
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
            "target": {"kind": "Node", "name": pod.node_name},
        }
        await self._client.create(PODS, binding, pod.namespace, subresource="binding", name=pod.name)
        message = f"Successfully assigned {pod.key} to {pod.node_name}"
        self._recorders[pod.scheduler_name].event(reference(pod), "Normal", "Scheduled", message, action="Binding")

    async def _bind_volumes(self, pod: Pod, volumes: Sequence[Binding]) -> None:
        for binding in volumes:
            claim = binding.claim
            if binding.volume is not None:
                await self._claim_volume(binding.volume, claim)
            else:
                patch = {"metadata": {"annotations": {SELECTED_NODE: pod.node_name}}}
                await self._client.patch(PERSISTENTVOLUMECLAIMS, meta.name(claim), meta.namespace(claim), patch)
        keys = [meta.key(binding.claim) for binding in volumes]
        try:
            async with asyncio.timeout(CLAIMS_PATIENCE_S), self._claims_changed:
                await self._claims_changed.wait_for(lambda: all(self._is_settled(key, pod) for key in keys))
        except TimeoutError as error:
            raise VolumesNotBound(f"binding volumes: {', '.join(keys)} not bound in time") from error

    async def _claim_volume(self, volume: Object, claim: Object) -> None:
        """The volume is kept for the claim; the volume controller completes the rest."""
        wanted = {"kind": "PersistentVolumeClaim", "apiVersion": "v1", **_identity(claim)}
        patch = {
            "metadata": {
                "resourceVersion": meta.resource_version(volume),
                "annotations": {BOUND_BY_CONTROLLER: "yes"},
            },
            "spec": {"claimRef": wanted},
        }
        await self._client.patch(PERSISTENTVOLUMES, meta.name(volume), "", patch)

    def _is_settled(self, key: str, pod: Pod) -> bool:
        claim = self._claim_of(key)
        if claim is None or meta.is_deleting(claim):
            raise VolumesNotBound(f'persistentvolumeclaim "{key}" is gone')
        if is_bound(claim):
            return True
        chosen = meta.annotations(claim).get(SELECTED_NODE)
        if chosen not in (None, pod.node_name):
            raise VolumesNotBound(f'persistentvolumeclaim "{key}" was given to node {chosen}')
        return False

    async def claims_changed(self) -> None:
        """Some claim is not what it was: whoever waits for claims looks again."""
        async with self._claims_changed:
            self._claims_changed.notify_all()

    async def report(self, pod: Pod, seen: Object, reason: str, message: str, nominated_node: str | None) -> None:
        """The condition and, unless None, the nominated node; nothing is written that is there already."""
        current: Object = seen.get("status") or {}
        old = conditions.find(current.get("conditions"), "PodScheduled") or {}
        new: Object = {"type": "PodScheduled", "status": "False", "reason": reason, "message": message}
        new["observedGeneration"] = meta.generation(seen)
        patch: Object = {}
        if any(old.get(field) != value for field, value in new.items()):
            now = meta.format_time(self._clock.now())
            since = old.get("lastTransitionTime") if old.get("status") == "False" else None
            patch["conditions"] = [{**new, "lastProbeTime": None, "lastTransitionTime": since or now}]
        if nominated_node is not None and nominated_node != (current.get("nominatedNodeName") or ""):
            patch["nominatedNodeName"] = nominated_node or None
        recorder = self._recorders[pod.scheduler_name]
        recorder.event(reference(pod), "Warning", "FailedScheduling", message, action="Scheduling")
        if patch:
            await self._patch_status(pod, patch)

    async def evict(self, victim: Pod, preemptor: Pod) -> None:
        """Gracefully: the victim keeps its termination grace period."""
        now = meta.format_time(self._clock.now())
        condition = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "PreemptionByScheduler",
            "message": f"{preemptor.scheduler_name}: preempting to accommodate a higher priority pod",
            "lastProbeTime": None,
            "lastTransitionTime": now,
        }
        try:
            await self._patch_status(victim, {"conditions": [condition]})
            await self._client.delete(PODS, victim.name, victim.namespace, uid=victim.uid)
        except (status.NotFound, status.Conflict):
            return  # gone already, or another of that name
        message = f"Preempted by pod {preemptor.uid} on node {victim.node_name}"
        recorder = self._recorders[preemptor.scheduler_name]
        recorder.event(
            reference(victim), "Normal", "Preempted", message, action="Preempting", related=reference(preemptor)
        )
        log.info("pod preempted", extra={"pod": victim.key, "by": preemptor.key, "node": victim.node_name})

    async def clear_nomination(self, pod: Pod) -> None:
        try:
            await self._patch_status(pod, {"nominatedNodeName": None})
        except status.NotFound:
            return

    async def _patch_status(self, pod: Pod, patch: Object) -> None:
        body = {"metadata": {"uid": pod.uid}, "status": patch}
        await self._client.patch(PODS, pod.name, pod.namespace, body, "strategic", subresource="status")


def reference(pod: Pod) -> Object:
    return {"kind": "Pod", "apiVersion": "v1", "namespace": pod.namespace, "name": pod.name, "uid": pod.uid}


def _identity(obj: Object) -> Object:
    return {
        "namespace": meta.namespace(obj),
        "name": meta.name(obj),
        "uid": meta.uid(obj),
        "resourceVersion": meta.resource_version(obj),
    }
