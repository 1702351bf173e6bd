"""Writes pod statuses to the API: the newest of each pod, only when it says something new, and again until it is in.

Statuses are strategic merge patches with the pod's uid as precondition: conditions of others stay, and a pod of the
same name that came after is not touched. A status field that we gave up is set to null.
Errors: none to the caller; a refusal other than "gone" is logged and tried again with growing delay.
Source: kubelet's status manager.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from orchestrator.api import conditions, meta
from orchestrator.api.meta import Object
from orchestrator.api.resources import PODS
from orchestrator.api.status import ApiError, Conflict, NotFound
from orchestrator.client.client import Client
from orchestrator.client.workqueue import WorkQueue
from orchestrator.kubelet.resize import IN_PROGRESS, PENDING

log = logging.getLogger(__name__)

Status = dict[str, Any]
WRITERS = 4
PASSING_CONDITIONS = (PENDING, IN_PROGRESS)
OWN_FIELDS = (
    "phase",
    "observedGeneration",
    "startTime",
    "qosClass",
    "hostIP",
    "hostIPs",
    "podIP",
    "podIPs",
    "containerStatuses",
    "initContainerStatuses",
    "ephemeralContainerStatuses",
    "reason",
    "message",
)


class StatusWriter:
    def __init__(self, client: Client) -> None:
        self._client = client
        self._queue = WorkQueue()
        self._wanted: dict[str, tuple[Object, Status]] = {}  # by uid: the pod as the API has it, and its status
        self._written: dict[str, Status] = {}
        self._idle: dict[str, asyncio.Event] = {}

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(WRITERS):
                tasks.create_task(self._write_all())

    def set(self, pod: Object, status: Status) -> None:
        """The pod's status is this. `pod` is what the API last had, and its status what was there before."""
        uid = meta.uid(pod)
        before = self._written.get(uid)
        if before is None:
            before = pod.get("status") or {}
        if uid not in self._wanted and is_same(before, status):
            return
        self._wanted[uid] = (pod, status)
        self._idle.setdefault(uid, asyncio.Event()).clear()
        self._queue.add(uid)

    async def settled(self, uid: str) -> None:
        """Until what was set for the pod is in the API."""
        idle = self._idle.get(uid)
        if idle is not None:
            await idle.wait()

    def release(self, uid: str) -> None:
        self._wanted.pop(uid, None)
        self._written.pop(uid, None)
        if (idle := self._idle.pop(uid, None)) is not None:
            idle.set()

    async def _write_all(self) -> None:
        while (uid := await self._queue.get()) is not None:
            try:
                await self._write(uid)
                self._queue.forget(uid)
            except (ApiError, ConnectionError) as error:
                log.warning("pod status not written", extra={"uid": uid, "error": str(error)})
                self._queue.add_rate_limited(uid)
            finally:
                self._queue.done(uid)

    async def _write(self, uid: str) -> None:
        wanted = self._wanted.get(uid)
        if wanted is None:
            return
        pod, status = wanted
        before = self._written.get(uid) or pod.get("status") or {}
        patch = patch_of(pod, status, before)
        try:
            await self._client.patch(
                PODS, meta.name(pod), meta.namespace(pod), patch, "strategic", subresource="status"
            )
        except (NotFound, Conflict) as error:
            # The pod is gone, or another of its name is there: nothing to tell anyone.
            log.debug("pod status has no pod", extra={"pod": meta.key(pod), "error": str(error)})
        self._written[uid] = status
        if self._wanted.get(uid) is wanted:
            del self._wanted[uid]
            if (idle := self._idle.get(uid)) is not None:
                idle.set()


def patch_of(pod: Object, status: Status, before: Status) -> Object:
    """What turns the status that was there before into this one; lists are keyed: conditions by type, addresses by
    address."""
    gone = {field: None for field in OWN_FIELDS if field not in status and field in before}
    conditions_made = []
    for condition in status.get("conditions") or ():
        old = conditions.find(before.get("conditions"), condition["type"]) or {}
        emptied = {field: None for field in ("reason", "message") if field in old and field not in condition}
        conditions_made.append({**emptied, **condition})
    conditions_made += [{"type": kind, "$patch": "delete"} for kind in _passed(before, status)]
    made = {**gone, **status, "conditions": conditions_made}
    for field in ("podIPs", "hostIPs"):
        now, were = status.get(field) or [], before.get(field) or []
        if now and were and now != were:  # else the old ones would stay beside the new
            made[field] = [*now, *({**entry, "$patch": "delete"} for entry in were if entry not in now)]
            made[f"$setElementOrder/{field}"] = now
    return {"metadata": {"uid": meta.uid(pod)}, "status": made}


def is_same(before: Status, status: Status) -> bool:
    """Whether a status already says all that the new one does."""
    if any(before.get(field) != status.get(field) for field in OWN_FIELDS) or _passed(before, status):
        return False
    return all(
        _same_condition(conditions.find(before.get("conditions"), condition["type"]), condition)
        for condition in status.get("conditions") or ()
    )


def _passed(before: Status, status: Status) -> list[str]:
    """Conditions of ours that are there only as long as they hold."""
    return [
        kind
        for kind in PASSING_CONDITIONS
        if conditions.find(before.get("conditions"), kind) and not conditions.find(status.get("conditions"), kind)
    ]


def _same_condition(before: Status | None, condition: Status) -> bool:
    compared = ("status", "reason", "message", "observedGeneration")
    return before is not None and all(before.get(field) == condition.get(field) for field in compared)
