"""ReplicaSet: keeps `spec.replicas` pods of one template. The ReplicationController is the same with another kind.

Only active pods count: a pod that ended or is being deleted is replaced. A reconcile creates what is missing or deletes
the surplus, then reports what it saw. At most `BURST_MAX` pods are created or deleted at a time.
Source: Concepts, ReplicaSet; API reference apps/v1 ReplicaSet, v1 ReplicationController.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from orchestrator.api import conditions, meta, selectors, status
from orchestrator.api.meta import Object
from orchestrator.api.resources import PODS, REPLICASETS, Resource
from orchestrator.client.cache import by_controller
from orchestrator.client.loop import Loop
from orchestrator.controllers import claim, pods
from orchestrator.controllers.context import Context
from orchestrator.controllers.expectations import RECHECK_S, Expectations
from orchestrator.controllers.fields import cleaned, replicas, spec, status_of, with_status
from orchestrator.controllers.pod_control import PodControl, is_terminating_namespace

BURST_MAX = 500


class Observed(Struct, frozen=True):
    wanted: int
    active: tuple[Object, ...]
    on_node: Mapping[str, int]  # active pods on each node of this ReplicaSet and its siblings in a Deployment
    now: float


class Plan(Struct, frozen=True):
    create: int = 0
    delete: tuple[Object, ...] = ()


def plan(seen: Observed) -> Plan:
    missing = seen.wanted - len(seen.active)
    if missing >= 0:
        return Plan(create=min(missing, BURST_MAX))

    def rank(pod: Object) -> tuple[Any, ...]:
        return pods.deletion_rank(pod, seen.on_node.get(pods.node_name(pod), 0), seen.now)

    surplus = sorted(seen.active, key=rank)[: min(-missing, BURST_MAX)]
    return Plan(delete=tuple(surplus))


def next_status(
    owner: Object, active: Sequence[Object], terminating: int, failure: str, failure_reason: str, now: float
) -> dict[str, Any]:
    """The status of what was seen. `failure` is the last error of creating or deleting a pod, "" if none."""
    template = selectors.from_labels(meta.labels(spec(owner).get("template") or {}))
    min_ready_s = spec(owner).get("minReadySeconds") or 0
    old = status_of(owner)
    kept = [condition for condition in old.get("conditions") or () if condition["type"] != "ReplicaFailure"]
    if failure:
        condition = {"type": "ReplicaFailure", "status": "True", "reason": failure_reason, "message": failure}
        existing = conditions.find(old.get("conditions"), "ReplicaFailure")
        kept = conditions.updated([*kept, existing] if existing else kept, condition, meta.format_time(now))
    counts = {
        "fullyLabeledReplicas": sum(template.matches(meta.labels(pod)) for pod in active),
        "readyReplicas": sum(pods.is_ready(pod) for pod in active),
        "availableReplicas": sum(pods.is_available(pod, min_ready_s, now) for pod in active),
        "observedGeneration": meta.generation(owner),
        "conditions": kept,
    }
    if owner.get("kind") == "ReplicaSet" and (terminating or "terminatingReplicas" in old):
        return {"replicas": len(active), **cleaned(counts), "terminatingReplicas": terminating}
    return {"replicas": len(active), **cleaned(counts)}


def selector_of(owner: Object) -> selectors.LabelSelector:
    selector = spec(owner).get("selector")
    if owner.get("kind") == "ReplicationController":
        return selectors.from_labels(selector) if selector else selectors.NOTHING
    return selectors.from_json(selector)


class ReplicaSetController:
    """Keeps the pods of ReplicaSets, or of ReplicationControllers."""

    def __init__(self, context: Context, resource: Resource = REPLICASETS) -> None:
        self._client = context.client
        self._clock = context.clock
        self._resource = resource
        name = "replicaset-controller" if resource is REPLICASETS else "replication-controller"
        self.loop = Loop(name, self.reconcile)
        self._owners = context.informers.informer(resource, indexers={"controller": by_controller})
        self._pods = context.informers.informer(PODS, indexers=claim.INDEXERS)
        self._expectations = Expectations(self._pods)
        self._control = PodControl(context.client, context.recorder(name), self._expectations)
        self._owners.add_handler(self._owner_changed)
        self._pods.add_handler(self._pod_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _owner_changed(self, old: Object | None, new: Object | None) -> None:
        changed = new or old or {}
        if new is None:
            self._expectations.forget(meta.key(changed))
        self.loop.queue.add(meta.key(changed))

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        for pod in (old, new):
            reference = meta.controller_of(pod) if pod else None
            if pod and reference and reference["kind"] == self._resource.kind:
                self.loop.queue.add(meta.join_key(meta.namespace(pod), reference["name"]))
        for key in claim.adopters(old, new, self._owners.cache.list(), selector_of):
            self.loop.queue.add(key)

    async def reconcile(self, key: str) -> None:
        owner = self._owners.cache.get(key)
        if owner is None:
            return
        if not self._expectations.are_met(key):
            self.loop.queue.add_after(key, RECHECK_S)
            return
        claimed = await claim.claim(self._client, self._resource, owner, selector_of(owner), self._pods)
        active = tuple(pod for pod in claimed if pods.is_active(pod))
        terminating = sum(meta.is_deleting(pod) and not pods.is_terminal(pod) for pod in claimed)
        failure: Exception | None = None
        reason = ""
        if not meta.is_deleting(owner):
            seen = Observed(replicas(owner), active, self._doubled_up(owner, active), self._clock.now())
            planned = plan(seen)
            try:
                await self._act(key, owner, planned)
            except (status.ApiError, ConnectionError) as error:
                failure, reason = error, "FailedCreate" if planned.create else "FailedDelete"
        await self._report(key, owner, active, terminating, failure, reason)
        if failure is not None and not (isinstance(failure, status.ApiError) and is_terminating_namespace(failure)):
            raise failure

    def _doubled_up(self, owner: Object, active: Sequence[Object]) -> dict[str, int]:
        """Active pods on each node, of all ReplicaSets that share this one's controller."""
        if len(active) <= replicas(owner):
            return {}
        reference = meta.controller_of(owner)
        siblings = self._owners.cache.by_index("controller", reference["uid"]) if reference else [owner]
        related = [pod for sibling in siblings for pod in self._pods.cache.by_index("controller", meta.uid(sibling))]
        return dict(Counter(pods.node_name(pod) for pod in related if pods.is_active(pod)))

    async def _act(self, key: str, owner: Object, planned: Plan) -> None:
        if planned.create:
            template = spec(owner).get("template") or {}
            made = [pods.from_template(template, owner) for _ in range(planned.create)]
            await self._control.create(key, owner, made)
        if planned.delete:
            await self._control.delete(key, owner, planned.delete)

    async def _report(
        self,
        key: str,
        owner: Object,
        active: Sequence[Object],
        terminating: int,
        failure: Exception | None,
        reason: str,
    ) -> None:
        now = self._clock.now()
        wanted = next_status(owner, active, terminating, str(failure) if failure else "", reason, now)
        if wanted != status_of(owner):
            await self._client.update(self._resource, with_status(owner, wanted), subresource="status")
        min_ready_s = spec(owner).get("minReadySeconds") or 0
        if min_ready_s:
            waits = [wait for pod in active if (wait := pods.available_in_s(pod, min_ready_s, now))]
            if waits:
                self.loop.queue.add_after(key, min(waits) + 0.01)
