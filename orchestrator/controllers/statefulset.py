"""StatefulSet: carries out what `statefulset_plan.py` decides; keeps revisions and the claims of its pods.

Names are fixed, so creating a pod or claim twice is harmless: AlreadyExists means that the cache is behind.
Source: Concepts, StatefulSets.
"""

from __future__ import annotations

import asyncio

from orchestrator.api import meta, selectors, status
from orchestrator.api.meta import Object
from orchestrator.api.resources import CONTROLLERREVISIONS, PERSISTENTVOLUMECLAIMS, PODS, STATEFULSETS
from orchestrator.client.loop import Loop
from orchestrator.controllers import claim, history, pods, statefulset_plan
from orchestrator.controllers.context import Context
from orchestrator.controllers.expectations import RECHECK_S, Expectations
from orchestrator.controllers.fields import spec, status_of, with_status
from orchestrator.controllers.pod_control import is_terminating_namespace
from orchestrator.controllers.statefulset_plan import CreatePod, DeletePod, Observed, Revision


class StatefulSetController:
    """Moves StatefulSets step by step."""

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._clock = context.clock
        self._recorder = context.recorder("statefulset-controller")
        self.loop = Loop("statefulset", self.reconcile)
        self._sets = context.informers.informer(STATEFULSETS)
        self._pods = context.informers.informer(PODS, indexers=claim.INDEXERS)
        self._revisions = context.informers.informer(CONTROLLERREVISIONS, indexers=claim.INDEXERS)
        self._claims = context.informers.informer(PERSISTENTVOLUMECLAIMS)
        self._pod_expectations = Expectations(self._pods)
        self._revision_expectations = Expectations(self._revisions)
        self._sets.add_handler(lambda old, new: self.loop.queue.add(meta.key(new or old or {})))
        self._pods.add_handler(self._pod_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        for pod in (old, new):
            reference = meta.controller_of(pod) if pod else None
            if pod and reference and reference["kind"] == "StatefulSet":
                self.loop.queue.add(meta.join_key(meta.namespace(pod), reference["name"]))
        if new is not None and not meta.controller_of(new):
            for owner in self._sets.cache.list():
                if meta.namespace(owner) == meta.namespace(new) and _selector(owner).matches(meta.labels(new)):
                    self.loop.queue.add(meta.key(owner))

    async def reconcile(self, key: str) -> None:
        owner = self._sets.cache.get(key)
        if owner is None:
            self._pod_expectations.forget(key)
            self._revision_expectations.forget(key)
            return
        if not (self._pod_expectations.are_met(key) and self._revision_expectations.are_met(key)):
            self.loop.queue.add_after(key, RECHECK_S)
            return
        owned = await claim.claim(self._client, STATEFULSETS, owner, _selector(owner), self._pods)
        owned = [pod for pod in owned if statefulset_plan.ordinal_of(owner, pod) >= 0]
        if meta.is_deleting(owner):
            return
        revisions = await claim.claim(self._client, STATEFULSETS, owner, _selector(owner), self._revisions)
        update, is_new = await self._revision(key, owner, revisions)
        now = self._clock.now()
        seen = Observed(owner, tuple(owned), _current(owner, revisions, update), _revision(update), now)
        actions = statefulset_plan.plan(seen)
        for pod in owned:
            await self._settle_claims(owner, pod)
        try:
            results = await asyncio.gather(
                *(self._act(key, owner, action) for action in actions), return_exceptions=True
            )
            for result in results:
                if isinstance(result, BaseException):
                    raise result
        finally:
            wanted = statefulset_plan.next_status(seen, actions)
            if wanted != status_of(owner):
                await self._client.update(STATEFULSETS, with_status(owner, wanted), subresource="status")
        if not is_new:
            await self._truncate(owner, revisions, owned, seen)
        self._look_again(key, owner, owned, now)

    async def _revision(self, key: str, owner: Object, revisions: list[Object]) -> tuple[Object, bool]:
        update, is_new = await history.ensure(self._client, owner, revisions)
        if is_new:
            self._revision_expectations.written(key, update)
        return update, is_new

    def _look_again(self, key: str, owner: Object, owned: list[Object], now: float) -> None:
        """A pod becomes available by time alone."""
        min_ready_s = spec(owner).get("minReadySeconds") or 0
        waits = [wait for pod in owned if (wait := pods.available_in_s(pod, min_ready_s, now))]
        if waits:
            self.loop.queue.add_after(key, min(waits) + 0.01)

    async def _truncate(self, owner: Object, revisions: list[Object], owned: list[Object], seen: Observed) -> None:
        in_use = {statefulset_plan.revision_of(pod) for pod in owned} | {seen.current.name, seen.update.name}
        for each in history.surplus(owner, revisions, in_use):
            try:
                await self._client.delete(CONTROLLERREVISIONS, meta.name(each), meta.namespace(each))
            except status.NotFound:
                continue

    async def _act(self, key: str, owner: Object, action: statefulset_plan.Action) -> None:
        match action:
            case CreatePod(pod, claims):
                for wanted in claims:
                    await self._create_claim(owner, pod, wanted)
                await self._create_pod(key, owner, pod)
            case DeletePod(pod):
                await self._delete_pod(key, owner, pod)

    async def _create_pod(self, key: str, owner: Object, pod: Object) -> None:
        name = meta.name(pod)
        try:
            created = await self._client.create(PODS, pod)
        except status.ApiError as error:
            if not (isinstance(error, status.AlreadyExists) or is_terminating_namespace(error)):
                message = f"create Pod {name} in StatefulSet {meta.name(owner)} failed error: {error}"
                self._recorder.event(owner, "Warning", "FailedCreate", message)
            raise
        self._pod_expectations.written(key, created)
        message = f"create Pod {name} in StatefulSet {meta.name(owner)} successful"
        self._recorder.event(owner, "Normal", "SuccessfulCreate", message)

    async def _create_claim(self, owner: Object, pod: Object, wanted: Object) -> None:
        if meta.key(wanted) in self._claims.cache:
            return
        try:
            await self._client.create(PERSISTENTVOLUMECLAIMS, wanted)
        except status.AlreadyExists:
            return
        message = f"create Claim {meta.name(wanted)} Pod {meta.name(pod)} in StatefulSet {meta.name(owner)} success"
        self._recorder.event(owner, "Normal", "SuccessfulCreate", message)

    async def _delete_pod(self, key: str, owner: Object, pod: Object) -> None:
        self._pod_expectations.deleting(key, [pod])
        try:
            await self._client.delete(PODS, meta.name(pod), meta.namespace(pod), uid=meta.uid(pod))
        except status.NotFound:
            return
        except (status.ApiError, ConnectionError):
            self._pod_expectations.not_deleted(key, pod)
            raise
        message = f"delete Pod {meta.name(pod)} in StatefulSet {meta.name(owner)} successful"
        self._recorder.event(owner, "Normal", "SuccessfulDelete", message)

    async def _settle_claims(self, owner: Object, pod: Object) -> None:
        """Has a pod's claims owned as the set's policy wants it, before anything is deleted."""
        for wanted in statefulset_plan.claims_of(owner, statefulset_plan.ordinal_of(owner, pod)):
            existing = self._claims.cache.get(meta.key(wanted))
            if existing is None:
                continue
            references = statefulset_plan.owners_of_claim(owner, pod, existing)
            if references is not None:
                changed = {**existing, "metadata": {**meta.metadata(existing), "ownerReferences": references}}
                await self._client.update(PERSISTENTVOLUMECLAIMS, changed)


def _selector(owner: Object) -> selectors.LabelSelector:
    return selectors.from_json(spec(owner).get("selector"))


def _revision(revision: Object) -> Revision:
    return Revision(meta.name(revision), history.template_of(revision))


def _current(owner: Object, revisions: list[Object], update: Object) -> Revision:
    name = status_of(owner).get("currentRevision")
    return _revision(next((each for each in revisions if meta.name(each) == name), update))
