"""Eviction: a delete that asks the pod's disruption budget first (`kubectl drain`).

A pod that does not run, or is going away already, needs no budget. Otherwise the one budget that selects it must allow
a disruption, which is then counted in its status before the pod is deleted: two evictions cannot use the same one.
Errors: TooManyRequests where the budget is used up or not yet computed, InternalError where two budgets select the pod.
Source: policy/v1 Eviction; Kubernetes docs, "API-initiated Eviction"; messages of kube-apiserver.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from orchestrator.api import conditions, meta, selectors
from orchestrator.api.clock import Clock
from orchestrator.api.meta import Object
from orchestrator.api.resources import PODDISRUPTIONBUDGETS, PODS, Resource
from orchestrator.api.status import BadRequest, Cause, InternalError, NotFound, TooManyRequests, forbidden, not_found
from orchestrator.apiserver.handlers import Call, Handler
from orchestrator.apiserver.lookup import Lookup
from orchestrator.apiserver.strategies.binding import SUCCESS
from orchestrator.apiserver.strategies.rewrite import Rewriter

VIOLATES = "Cannot evict pod as it would violate the pod's disruption budget."
UNCONFIRMED_MAX = 2000
RETRY_AFTER_S = 10


class Deleter(Protocol):
    """What is needed of a client that acts for the server."""

    async def delete(
        self, resource: Resource, name: str, namespace: str, *, grace_period_s: int | None, uid: str | None
    ) -> Object: ...


class PodEviction:
    def __init__(self, rewriter: Rewriter, deleter: Deleter, lookup: Lookup, clock: Clock) -> None:
        self._rewriter = rewriter
        self._deleter = deleter
        self._lookup = lookup
        self._clock = clock

    def handlers(self) -> Mapping[tuple[str, str], Handler]:
        return {("pods", "eviction"): self.evict}

    async def evict(self, call: Call) -> Object:
        eviction = call.attributes.object or {}
        namespace, name = call.attributes.namespace, call.attributes.name
        if meta.name(eviction) not in ("", name):
            raise BadRequest("name in URL does not match name in Eviction object")
        pod = self._lookup.get(PODS, namespace, name)
        if pod is None:
            raise not_found("", "pods", name)
        options = eviction.get("deleteOptions") or {}
        wanted = (options.get("preconditions") or {}).get("uid")
        if wanted and wanted != meta.uid(pod):
            raise not_found("", "pods", name)
        dry_run = call.attributes.dry_run or bool(options.get("dryRun"))
        if not needs_no_budget(pod):
            await self._spend(pod, dry_run)
        if not dry_run:
            await self._delete(pod, options.get("gracePeriodSeconds"))
        return SUCCESS

    async def _spend(self, pod: Object, dry_run: bool) -> None:
        budgets = [one for one in self._lookup.list(PODDISRUPTIONBUDGETS, meta.namespace(pod)) if covers(one, pod)]
        if len(budgets) > 1:
            raise InternalError(
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
            )
        if not budgets or is_exempt(budgets[0], pod):
            return
        now = meta.format_time(self._clock.now())
        if dry_run:
            spent(budgets[0], pod, now)
            return
        try:
            await self._rewriter.rewrite(
                PODDISRUPTIONBUDGETS, meta.namespace(pod), meta.name(budgets[0]), lambda one: spent(one, pod, now)
            )
        except NotFound:
            return  # the budget was deleted meanwhile, so nothing protects the pod

    async def _delete(self, pod: Object, grace_period_s: int | None) -> None:
        namespace, name = meta.namespace(pod), meta.name(pod)
        now = meta.format_time(self._clock.now())
        await self._rewriter.rewrite(PODS, namespace, name, lambda current: marked(current, pod, now))
        await self._deleter.delete(PODS, name, namespace, grace_period_s=grace_period_s, uid=meta.uid(pod))


def needs_no_budget(pod: Object) -> bool:
    return meta.is_deleting(pod) or (pod.get("status") or {}).get("phase") in ("Pending", "Succeeded", "Failed")


def covers(budget: Object, pod: Object) -> bool:
    selector = selectors.from_json((budget.get("spec") or {}).get("selector"))
    return selector.matches(meta.labels(pod))


def is_exempt(budget: Object, pod: Object) -> bool:
    """A pod that is not ready serves nobody: it may go where the budget says so, or where enough others are healthy."""
    if conditions.is_true(pod, "Ready"):
        return False
    if (budget.get("spec") or {}).get("unhealthyPodEvictionPolicy") == "AlwaysAllow":
        return True
    status = budget.get("status") or {}
    desired = status.get("desiredHealthy", 0)
    return bool(desired > 0 and status.get("currentHealthy", 0) >= desired)


def spent(budget: Object, pod: Object, now: str) -> Object:
    """The budget with one disruption less, for this pod."""
    status: dict[str, Any] = dict(budget.get("status") or {})
    name, allowed = meta.name(budget), status.get("disruptionsAllowed", 0)
    if status.get("observedGeneration", 0) < meta.generation(budget):
        raise _too_many(f"The disruption budget {name} is still being processed by the server.", RETRY_AFTER_S)
    if allowed < 0:
        raise forbidden("policy", "poddisruptionbudgets", name, "pdb disruptions allowed is negative")
    disrupted = dict(status.get("disruptedPods") or {})
    if len(disrupted) > UNCONFIRMED_MAX:
        why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller"
        raise forbidden("policy", "poddisruptionbudgets", name, why)
    if allowed == 0:
        needed, present = status.get("desiredHealthy", 0), status.get("currentHealthy", 0)
        raise _too_many(f"The disruption budget {name} needs {needed} healthy pods and has {present} currently", None)
    status["disruptionsAllowed"] = allowed - 1
    status["disruptedPods"] = {**disrupted, meta.name(pod): now}
    if allowed == 1:
        condition = {
            "type": "DisruptionAllowed",
            "status": "False",
            "reason": "InsufficientPods",
            "message": "",
            "observedGeneration": status.get("observedGeneration", 0),
        }
        status["conditions"] = conditions.updated(status.get("conditions"), condition, now)
    return {**budget, "status": status}


def _too_many(cause: str, retry_after_s: int | None) -> TooManyRequests:
    details = {"retryAfterSeconds": retry_after_s} if retry_after_s else {}
    return TooManyRequests(VIOLATES, details=details, causes=[Cause("", "DisruptionBudget", cause)])


def marked(current: Object, pod: Object, now: str) -> Object:
    """The pod with the condition that says why it goes."""
    if meta.uid(current) != meta.uid(pod):
        raise not_found("", "pods", meta.name(pod))
    status = dict(current.get("status") or {})
    condition = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting",
    }
    status["conditions"] = conditions.updated(status.get("conditions"), condition, now)
    return {**current, "status": status}
