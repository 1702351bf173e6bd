"""Disruption: how many pods of a PodDisruptionBudget may be evicted now.

The expected count is what the controllers of the pods want (their scale), or the pods themselves where nothing scales
them. Evictions that the API server allowed are in `disruptedPods` until the pod is seen going, at most two minutes.
Source: Concepts, Disruptions; API reference policy/v1 PodDisruptionBudget.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from orchestrator.api import conditions, meta, selectors
from orchestrator.api.meta import Object
from orchestrator.api.resources import (
    DEPLOYMENTS,
    PODDISRUPTIONBUDGETS,
    PODS,
    REPLICASETS,
    REPLICATIONCONTROLLERS,
    STATEFULSETS,
)
from orchestrator.client.cache import by_namespace
from orchestrator.client.loop import Loop
from orchestrator.controllers import pods
from orchestrator.controllers.context import Context
from orchestrator.controllers.fields import replicas, scaled, spec, status_of, with_status

DISRUPTED_TIMEOUT_S = 120.0


class Observed(Struct, frozen=True):
    budget: Object
    pods: tuple[Object, ...]
    scales: Mapping[str, int]  # uid of a controller that scales → replicas that it wants
    now: float


def next_status(seen: Observed) -> dict[str, Any]:
    budget = seen.budget
    expected, desired = _healthy_counts(budget, seen.pods, seen.scales)
    disrupted = _disrupted(seen)
    healthy = sum(
        pods.is_ready(pod) and not meta.is_deleting(pod) and meta.name(pod) not in disrupted for pod in seen.pods
    )
    allowed = max(0, healthy - desired) if expected > 0 else 0
    reason = "SufficientPods" if allowed > 0 else "InsufficientPods"
    condition = {
        "type": "DisruptionAllowed",
        "status": "True" if allowed > 0 else "False",
        "reason": reason,
        "message": "",
        "observedGeneration": meta.generation(budget),
    }
    found = conditions.updated(status_of(budget).get("conditions"), condition, meta.format_time(seen.now))
    status = {
        "observedGeneration": meta.generation(budget),
        "disruptionsAllowed": allowed,
        "currentHealthy": healthy,
        "desiredHealthy": desired,
        "expectedPods": expected,
        "conditions": found,
    }
    return status | ({"disruptedPods": disrupted} if disrupted else {})


def _healthy_counts(budget: Object, owned: Sequence[Object], scales: Mapping[str, int]) -> tuple[int, int]:
    """(expected pods, those that must be healthy)."""
    wish = spec(budget)
    if wish.get("maxUnavailable") is not None:
        expected = _expected(owned, scales)
        return expected, max(0, expected - scaled(wish["maxUnavailable"], expected, round_up=True))
    minimum = wish.get("minAvailable", 1)
    if isinstance(minimum, str):
        expected = _expected(owned, scales)
        return expected, scaled(minimum, expected, round_up=True)
    return len(owned), int(minimum)


def _expected(owned: Sequence[Object], scales: Mapping[str, int]) -> int:
    controllers: dict[str, int] = {}
    alone = 0
    for pod in owned:
        reference = meta.controller_of(pod)
        if reference is None or reference["uid"] not in scales:
            alone += 1
        else:
            controllers[reference["uid"]] = scales[reference["uid"]]
    return sum(controllers.values()) + alone


def _disrupted(seen: Observed) -> dict[str, str]:
    """Evictions that have not shown in the pods yet."""
    by_name = {meta.name(pod): pod for pod in seen.pods}
    kept = {}
    for name, at in (status_of(seen.budget).get("disruptedPods") or {}).items():
        pod = by_name.get(name)
        if pod is not None and not meta.is_deleting(pod) and seen.now - meta.parse_time(at) < DISRUPTED_TIMEOUT_S:
            kept[name] = at
    return kept


class DisruptionController:
    """Keeps the status of budgets."""

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._clock = context.clock
        self.loop = Loop("disruption", self.reconcile)
        informers = context.informers
        self._budgets = informers.informer(PODDISRUPTIONBUDGETS, indexers={"namespace": by_namespace})
        self._pods = informers.informer(PODS, indexers={"namespace": by_namespace})
        self._owners = {
            resource.kind: informers.informer(resource)
            for resource in (REPLICASETS, REPLICATIONCONTROLLERS, STATEFULSETS, DEPLOYMENTS)
        }
        self._budgets.add_handler(lambda old, new: self.loop.queue.add(meta.key(new)) if new else None)
        self._pods.add_handler(self._pod_changed)
        for informer in self._owners.values():
            informer.add_handler(self._owner_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        for pod in (old, new):
            for budget in self._budgets.cache.by_index("namespace", meta.namespace(pod)) if pod else ():
                if pod and selectors.from_json(spec(budget).get("selector")).matches(meta.labels(pod)):
                    self.loop.queue.add(meta.key(budget))

    def _owner_changed(self, old: Object | None, new: Object | None) -> None:
        if old is not None and new is not None and spec(old).get("replicas") == spec(new).get("replicas"):
            return
        for budget in self._budgets.cache.by_index("namespace", meta.namespace(new or old or {})):
            self.loop.queue.add(meta.key(budget))

    async def reconcile(self, key: str) -> None:
        budget = self._budgets.cache.get(key)
        if budget is None:
            return
        selector = selectors.from_json(spec(budget).get("selector"))
        in_namespace = self._pods.cache.by_index("namespace", meta.namespace(budget))
        selected = tuple(
            pod for pod in in_namespace if not pods.is_terminal(pod) and selector.matches(meta.labels(pod))
        )
        seen = Observed(budget, selected, self._scales(selected), self._clock.now())
        wanted = next_status(seen)
        if wanted != status_of(budget):
            await self._client.update(PODDISRUPTIONBUDGETS, with_status(budget, wanted), subresource="status")
        if wanted.get("disruptedPods"):
            self.loop.queue.add_after(key, DISRUPTED_TIMEOUT_S)

    def _scales(self, selected: Sequence[Object]) -> dict[str, int]:
        """What the pods' controllers want; of a Deployment's ReplicaSet the Deployment's wish counts."""
        found: dict[str, int] = {}
        for pod in selected:
            reference = meta.controller_of(pod)
            owner = self._owner(meta.namespace(pod), reference)
            if owner is None or reference is None:
                continue
            above = self._owner(meta.namespace(pod), meta.controller_of(owner))
            found[reference["uid"]] = replicas(above if above is not None else owner)
        return found

    def _owner(self, namespace: str, reference: Mapping[str, Any] | None) -> Object | None:
        informer = self._owners.get(reference["kind"]) if reference else None
        if informer is None or reference is None:
            return None
        found = informer.cache.get(meta.join_key(namespace, reference["name"]))
        return found if found is not None and meta.uid(found) == reference["uid"] else None
