"""Job: carries out what `job_plan.py` decides.

The status with the list of ended pods is written before their finalizers are removed: that order is what makes the
counts exact. After failures new pods wait, 10 s doubled for each, at most 10 minutes. Finalizers of pods whose Job is
gone, or that no Job controls any more, are removed, or they would stay for ever. Source: Concepts, Jobs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from orchestrator.api import meta, selectors, status
from orchestrator.api.meta import Object
from orchestrator.api.resources import JOBS, PODS
from orchestrator.api.selectors import LabelSelector
from orchestrator.client.loop import Loop
from orchestrator.controllers import claim, job_plan, job_policies, pods
from orchestrator.controllers.context import Context
from orchestrator.controllers.expectations import RECHECK_S, Expectations
from orchestrator.controllers.fields import spec, status_of, with_status
from orchestrator.controllers.job_plan import FINALIZER, Observed, Plan
from orchestrator.controllers.pod_control import PodControl, is_terminating_namespace

CONTROLLER = "kubernetes.io/job-controller"  # what spec.managedBy names this one by
BACKOFF_FIRST_S, BACKOFF_MAX_S = 10.0, 600.0
BURST_MAX = 500


def by_job(pod: Object) -> Iterable[str]:
    reference = meta.controller_of(pod)
    if reference is None or reference["kind"] != "Job":
        return ()
    return (meta.join_key(meta.namespace(pod), reference["name"]),)


def selector_of(job: Object) -> LabelSelector:
    return selectors.from_json(spec(job).get("selector"))


def is_orphan(pod: Object) -> bool:
    """Held for a Job, and controlled by nobody."""
    return FINALIZER in meta.finalizers(pod) and meta.controller_of(pod) is None


class JobController:
    """Runs Jobs to their end."""

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._clock = context.clock
        self._recorder = context.recorder("job-controller")
        self.loop = Loop("job", self.reconcile)
        self._orphans = Loop("job orphans", self.release_orphan)
        self._jobs = context.informers.informer(JOBS)
        self._pods = context.informers.informer(PODS, indexers={**claim.INDEXERS, "job": by_job})
        self._expectations = Expectations(self._pods)
        self._own_writes = Expectations(self._jobs)  # a pod that was counted must not be missed for want of the count
        self._control = PodControl(context.client, self._recorder, self._expectations)
        self._failures: dict[str, tuple[int, float]] = {}  # key → failures in a row, when the last was
        self._jobs.add_handler(lambda old, new: self.loop.queue.add(meta.key(new or old or {})))
        self._pods.add_handler(self._pod_changed)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.loop.run())
            tasks.create_task(self._orphans.run())

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        for pod in (old, new):
            for key in by_job(pod) if pod else ():
                self.loop.queue.add(key)
        for key in claim.adopters(old, new, self._jobs.cache.list(), selector_of):
            self.loop.queue.add(key)
        if new is not None and is_orphan(new):
            self._orphans.queue.add(meta.key(new))

    async def release_orphan(self, key: str) -> None:
        """A pod that was a Job's; the Job that adopts it again holds it again."""
        pod = self._pods.cache.get(key)
        if pod is not None and is_orphan(pod):
            await self._let_finalizer_go(pod)

    async def reconcile(self, key: str) -> None:
        job = self._jobs.cache.get(key)
        await self._let_go(key, job)
        if job is None or meta.is_deleting(job):
            self._expectations.forget(key)
            self._own_writes.forget(key)
            self._failures.pop(key, None)
            return
        if spec(job).get("managedBy", CONTROLLER) != CONTROLLER:
            return  # somebody else's to carry out
        if not (self._expectations.are_met(key) and self._own_writes.are_met(key)):
            self.loop.queue.add_after(key, RECHECK_S)
            return
        owned = await claim.claim(self._client, JOBS, job, selector_of(job), self._pods, FINALIZER)
        now = self._clock.now()
        planned = job_plan.plan(Observed(job, tuple(owned), now, self._may_create_at(key)))
        self._note_failures(key, job, planned, now)
        if planned.status != status_of(job):
            written = await self._client.update(JOBS, with_status(job, planned.status), subresource="status")
            self._own_writes.written(key, written)
        for kind, reason, message in planned.events:
            self._recorder.event(job, kind, reason, message)
        await self._act(key, job, planned)
        if planned.again_in_s is not None:
            self.loop.queue.add_after(key, planned.again_in_s + 0.01)

    def _may_create_at(self, key: str) -> float:
        count, at = self._failures.get(key, (0, 0.0))
        return at + min(BACKOFF_FIRST_S * 2 ** min(count - 1, 16), BACKOFF_MAX_S) if count else 0.0

    def _note_failures(self, key: str, job: Object, planned: Plan, now: float) -> None:
        """Counts pods that are newly listed as failed; a success starts the count over."""
        before = status_of(job).get("uncountedTerminatedPods") or {}
        after = planned.status.get("uncountedTerminatedPods") or {}
        new_failures = set(after.get("failed") or ()) - set(before.get("failed") or ())
        new_successes = set(after.get("succeeded") or ()) - set(before.get("succeeded") or ())
        if new_successes:
            self._failures.pop(key, None)
        if new_failures:
            count, _ = self._failures.get(key, (0, 0.0))
            self._failures[key] = (count + len(new_failures), now)
            if planned.create and spec(job).get("backoffLimitPerIndex") is None:
                planned.create = []
                planned.again_in_s = self._may_create_at(key) - now

    async def _act(self, key: str, job: Object, planned: Plan) -> None:
        await self._remove_finalizers(key, [*planned.uncount, *planned.dismiss])
        if planned.delete or planned.dismiss:
            await self._control.delete(key, job, [*planned.delete, *planned.dismiss])
        if planned.create:
            made = [pod_for(job, index, failures) for index, failures in planned.create[:BURST_MAX]]
            try:
                await self._control.create(key, job, made)
            except status.ApiError as error:
                if not is_terminating_namespace(error):
                    raise

    async def _let_go(self, key: str, job: Object | None) -> None:
        """Pods of a Job that is gone, going, or was replaced by another of its name."""
        is_going = job is None or meta.is_deleting(job)
        left = [
            pod
            for pod in self._pods.cache.by_index("job", key)
            if FINALIZER in meta.finalizers(pod) and (is_going or job is None or not meta.is_controlled_by(pod, job))
        ]
        await self._remove_finalizers(key, left)

    async def _remove_finalizers(self, key: str, held: list[Object]) -> None:
        results = await asyncio.gather(*(self._remove_finalizer(key, pod) for pod in held), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _remove_finalizer(self, key: str, pod: Object) -> None:
        patched = await self._let_finalizer_go(pod)
        if patched is not None:
            self._expectations.written(key, patched)

    async def _let_finalizer_go(self, pod: Object) -> Object | None:
        kept = [name for name in meta.finalizers(pod) if name != FINALIZER]
        described = {"uid": meta.uid(pod), "resourceVersion": meta.resource_version(pod), "finalizers": kept or None}
        try:
            return await self._client.patch(PODS, meta.name(pod), meta.namespace(pod), {"metadata": described})
        except status.NotFound:
            return None


def pod_for(job: Object, index: int, failures: int) -> Object:
    """A pod of the Job; an indexed one knows its index by label, annotation, host name and environment."""
    template = spec(job).get("template") or {}
    if index < 0:
        pod = pods.from_template(template, job)
    else:
        pod = pods.from_template(template, job, prefix=f"{meta.name(job)}-{index}-")
        _give_index(pod, job, index)
        if spec(job).get("backoffLimitPerIndex") is not None:
            pod["metadata"]["annotations"][job_policies.INDEX_FAILURES] = str(failures)
    pod["metadata"].setdefault("finalizers", []).append(FINALIZER)
    return pod


def _give_index(pod: Object, job: Object, index: int) -> None:
    described = pod["metadata"]
    described.setdefault("annotations", {})[job_policies.INDEX] = str(index)
    described.setdefault("labels", {})[job_policies.INDEX] = str(index)
    pod["spec"].setdefault("hostname", f"{meta.name(job)}-{index}")
    source = {"fieldRef": {"fieldPath": f"metadata.annotations['{job_policies.INDEX}']"}}
    for container in [*(pod["spec"].get("initContainers") or ()), *(pod["spec"].get("containers") or ())]:
        environment = container.setdefault("env", [])
        if all(variable["name"] != "JOB_COMPLETION_INDEX" for variable in environment):
            environment.append({"name": "JOB_COMPLETION_INDEX", "valueFrom": source})
