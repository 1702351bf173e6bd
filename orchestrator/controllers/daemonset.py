"""DaemonSet: carries out what `daemonset_plan.py` decides, as nodes, pods and the template change.

A daemon that keeps failing is made again with back-off, not at once. Source: Concepts, DaemonSet.
"""

from __future__ import annotations

from orchestrator.api import meta, selectors, status
from orchestrator.api.meta import Object
from orchestrator.api.resources import CONTROLLERREVISIONS, DAEMONSETS, NODES, PODS
from orchestrator.client.loop import Loop
from orchestrator.controllers import claim, daemonset_plan, history, pods
from orchestrator.controllers.context import Context
from orchestrator.controllers.daemonset_plan import Observed, Plan
from orchestrator.controllers.expectations import RECHECK_S, Expectations
from orchestrator.controllers.fields import spec, status_of, with_status
from orchestrator.controllers.pod_control import PodControl, is_terminating_namespace

BACKOFF_FIRST_S, BACKOFF_MAX_S = 1.0, 900.0


class DaemonSetController:
    """Keeps daemons on nodes."""

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._clock = context.clock
        self._recorder = context.recorder("daemonset-controller")
        self.loop = Loop("daemonset", self.reconcile)
        self._sets = context.informers.informer(DAEMONSETS)
        self._nodes = context.informers.informer(NODES)
        self._pods = context.informers.informer(PODS, indexers=claim.INDEXERS)
        self._revisions = context.informers.informer(CONTROLLERREVISIONS, indexers=claim.INDEXERS)
        self._pod_expectations = Expectations(self._pods)
        self._revision_expectations = Expectations(self._revisions)
        self._control = PodControl(context.client, self._recorder, self._pod_expectations)
        self._failures: dict[tuple[str, str], tuple[int, float]] = {}  # (set, node) → failures, when the last was
        self._sets.add_handler(lambda old, new: self.loop.queue.add(meta.key(new or old or {})))
        self._pods.add_handler(self._pod_changed)
        self._nodes.add_handler(self._node_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        for pod in (old, new):
            reference = meta.controller_of(pod) if pod else None
            if pod and reference and reference["kind"] == "DaemonSet":
                self.loop.queue.add(meta.join_key(meta.namespace(pod), reference["name"]))
        if new is not None and not meta.controller_of(new):
            for owner in self._sets.cache.list():
                if meta.namespace(owner) == meta.namespace(new) and _selector(owner).matches(meta.labels(new)):
                    self.loop.queue.add(meta.key(owner))

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        """Only labels and taints say where daemons go; heartbeats do not concern them."""
        if old is not None and new is not None:
            same_labels = meta.labels(old) == meta.labels(new)
            if same_labels and spec(old).get("taints") == spec(new).get("taints"):
                return
        for owner in self._sets.cache.list():
            before = daemonset_plan.place(owner, old) if old is not None else None
            after = daemonset_plan.place(owner, new) if new is not None else None
            if before != after:
                self.loop.queue.add(meta.key(owner))

    async def reconcile(self, key: str) -> None:
        owner = self._sets.cache.get(key)
        if owner is None or meta.is_deleting(owner):
            self._pod_expectations.forget(key)
            return
        if not (self._pod_expectations.are_met(key) and self._revision_expectations.are_met(key)):
            self.loop.queue.add_after(key, RECHECK_S)
            return
        if _selector(owner).is_everything:
            message = "This daemon set is selecting all pods. A non-empty selector is required."
            self._recorder.event(owner, "Warning", "SelectingAll", message)
            return
        owned = await claim.claim(self._client, DAEMONSETS, owner, _selector(owner), self._pods)
        revisions = await claim.claim(self._client, DAEMONSETS, owner, _selector(owner), self._revisions)
        revision, is_new = await history.ensure(self._client, owner, revisions, history.REVISION_LABEL)
        if is_new:
            self._revision_expectations.written(key, revision)
        now = self._clock.now()
        hashed = history.hash_of(revision, history.REVISION_LABEL)
        seen = Observed(owner, tuple(self._nodes.cache.list()), tuple(owned), hashed, now)
        planned = self._backed_off(key, owner, daemonset_plan.plan(seen), now)
        failure: status.ApiError | None = None
        try:
            await self._act(key, owner, planned, hashed)
        except status.ApiError as error:
            failure = error
        await self._report(key, seen)
        if failure is not None and not is_terminating_namespace(failure):
            raise failure
        if not is_new:
            await self._truncate(owner, revisions, owned, hashed)

    def _backed_off(self, key: str, owner: Object, planned: Plan, now: float) -> Plan:
        """Leaves out ended daemons whose time to be made again has not come."""
        waiting = []
        for pod in planned.failed:
            place = (key, daemonset_plan.node_of(pod))
            count, at = self._failures.get(place, (0, 0.0))
            delay = min(BACKOFF_FIRST_S * 2 ** min(count, 16), BACKOFF_MAX_S) if count else 0.0
            if now < at + delay:
                waiting.append(meta.uid(pod))
                self.loop.queue.add_after(key, at + delay - now)
                continue
            self._failures[place] = (0 if now > at + 2 * BACKOFF_MAX_S else count + 1, now)
            message = f"Found failed daemon pod {meta.key(pod)} on node {place[1]}, will try to kill it"
            self._recorder.event(owner, "Warning", "FailedDaemonPod", message)
        if not waiting:
            return planned
        return Plan(planned.create_on, tuple(pod for pod in planned.delete if meta.uid(pod) not in waiting))

    async def _act(self, key: str, owner: Object, planned: Plan, hashed: str) -> None:
        if planned.delete:
            await self._control.delete(key, owner, planned.delete)
        if planned.create_on:
            made = [daemonset_plan.pod_for(owner, node, hashed) for node in planned.create_on]
            await self._control.create(key, owner, made)

    async def _report(self, key: str, seen: Observed) -> None:
        wanted = daemonset_plan.next_status(seen)
        if wanted != status_of(seen.owner):
            await self._client.update(DAEMONSETS, with_status(seen.owner, wanted), subresource="status")
        min_ready_s = spec(seen.owner).get("minReadySeconds") or 0
        waits = [wait for pod in seen.pods if (wait := pods.available_in_s(pod, min_ready_s, seen.now))]
        if waits:
            self.loop.queue.add_after(key, min(waits) + 0.01)

    async def _truncate(self, owner: Object, revisions: list[Object], owned: list[Object], hashed: str) -> None:
        hashes = {meta.labels(pod).get(history.REVISION_LABEL) for pod in owned} | {hashed}
        in_use = {meta.name(each) for each in revisions if history.hash_of(each, history.REVISION_LABEL) in hashes}
        for each in history.surplus(owner, revisions, in_use):
            try:
                await self._client.delete(CONTROLLERREVISIONS, meta.name(each), meta.namespace(each))
            except status.NotFound:
                continue


def _selector(owner: Object) -> selectors.LabelSelector:
    return selectors.from_json(spec(owner).get("selector"))
