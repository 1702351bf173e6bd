"""Taint eviction: pods leave a node whose NoExecute taints they do not tolerate, at once or when their time is over.

A toleration without `tolerationSeconds` tolerates for ever; of several that match, the shortest time counts, from the
moment the taint was added. A taint that goes away in time calls the eviction off.
Source: Concepts, Taints and Tolerations; KEP-166.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from orchestrator.api import conditions, meta, status
from orchestrator.api.meta import Object
from orchestrator.api.resources import NODES, PODS
from orchestrator.client.loop import Loop
from orchestrator.controllers.context import Context
from orchestrator.controllers.fields import spec, status_of, with_status
from orchestrator.controllers.pods import is_terminal, node_name

log = logging.getLogger(__name__)


def tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    """Whether one toleration covers one taint; an empty key with Exists covers all, an empty effect every effect."""
    if toleration.get("effect") and toleration["effect"] != taint["effect"]:
        return False
    if toleration.get("key") and toleration["key"] != taint["key"]:
        return False
    match toleration.get("operator") or "Equal":
        case "Exists":
            return True
        case "Equal":
            return bool(toleration.get("key")) and (toleration.get("value") or "") == (taint.get("value") or "")
        case "Lt" | "Gt" as operator:
            return _compares(operator, toleration.get("value") or "", taint.get("value") or "")
    return False


def _compares(operator: str, bound: str, value: str) -> bool:
    try:
        return int(value) < int(bound) if operator == "Lt" else int(value) > int(bound)
    except ValueError:
        return False


def evict_at(taints: Sequence[Mapping[str, Any]], tolerations: Iterable[Mapping[str, Any]], now: float) -> float | None:
    """When a pod must leave: a time in the past for at once, None for never."""
    executing = [taint for taint in taints if taint.get("effect") == "NoExecute"]
    tolerations = list(tolerations)
    deadlines: list[float] = []
    for taint in executing:
        matching = [each for each in tolerations if tolerates(each, taint)]
        if not matching:
            return now
        since = meta.parse_time(taint["timeAdded"]) if taint.get("timeAdded") else now
        limited = [each["tolerationSeconds"] for each in matching if each.get("tolerationSeconds") is not None]
        if limited:
            deadlines.append(since + max(0, min(limited)))
    return min(deadlines) if deadlines else None


class TaintEvictionController:
    """Evicts pods from tainted nodes."""

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._clock = context.clock
        self._recorder = context.recorder("taint-eviction-controller")
        self.loop = Loop("taint-eviction", self.reconcile)
        self._nodes = context.informers.informer(NODES)
        self._pods = context.informers.informer(
            PODS, indexers={"node": lambda pod: (node_name(pod),) if node_name(pod) else ()}
        )
        self._nodes.add_handler(self._node_changed)
        self._pods.add_handler(self._pod_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        if new is None or (old is not None and spec(old).get("taints") == spec(new).get("taints")):
            return
        for pod in self._pods.cache.by_index("node", meta.name(new)):
            self.loop.queue.add(meta.key(pod))

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        if new is None or not node_name(new):
            return
        if (
            old is None
            or node_name(old) != node_name(new)
            or spec(old).get("tolerations") != spec(new).get("tolerations")
        ):
            node = self._nodes.cache.get(node_name(new))
            if node is not None and spec(node).get("taints"):
                self.loop.queue.add(meta.key(new))

    async def reconcile(self, key: str) -> None:
        pod = self._pods.cache.get(key)
        node = self._nodes.cache.get(node_name(pod)) if pod else None
        if pod is None or node is None or meta.is_deleting(pod) or is_terminal(pod):
            return
        now = self._clock.now()
        leave_at = evict_at(spec(node).get("taints") or (), spec(pod).get("tolerations") or (), now)
        if leave_at is None:
            return
        if leave_at > now:
            self.loop.queue.add_after(key, leave_at - now)
            return
        await self._evict(pod)

    async def _evict(self, pod: Object) -> None:
        self._recorder.event(pod, "Normal", "TaintManagerEviction", f"Marking for deletion Pod {meta.key(pod)}")
        disruption = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint",
        }
        found = conditions.updated(status_of(pod).get("conditions"), disruption, meta.format_time(self._clock.now()))
        try:
            if found != (status_of(pod).get("conditions") or []):
                marked = with_status(pod, {**status_of(pod), "conditions": found})
                await self._client.update(PODS, marked, subresource="status")
            await self._client.delete(PODS, meta.name(pod), meta.namespace(pod), uid=meta.uid(pod))
        except status.NotFound:
            return
        log.info("pod evicted", extra={"pod": meta.key(pod), "node": node_name(pod)})
