"""TTL after finished: deletes a Job `ttlSecondsAfterFinished` after its end, with its pods.

Before it deletes, it reads the Job from the server: its time may have been extended.
Source: Concepts, "Automatic Cleanup for Finished Jobs".
"""

from __future__ import annotations

from orchestrator.api import meta, status
from orchestrator.api.meta import Object
from orchestrator.api.resources import JOBS
from orchestrator.client.loop import Loop
from orchestrator.controllers.context import Context
from orchestrator.controllers.fields import spec, status_of


def expires_at(job: Object) -> float | None:
    """When the Job is to be deleted; None while it runs or where no time is set."""
    ttl_s = spec(job).get("ttlSecondsAfterFinished")
    if ttl_s is None or meta.is_deleting(job):
        return None
    for condition in status_of(job).get("conditions") or ():
        if condition["type"] in ("Complete", "Failed") and condition["status"] == "True":
            return meta.parse_time(condition["lastTransitionTime"]) + float(ttl_s)
    return None


class TtlAfterFinishedController:
    """Deletes Jobs whose time is over."""

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._clock = context.clock
        self.loop = Loop("ttl-after-finished", self.reconcile, workers=1)
        self._jobs = context.informers.informer(JOBS)
        self._jobs.add_handler(lambda old, new: self._job_changed(new))

    async def run(self) -> None:
        await self.loop.run()

    def _job_changed(self, job: Object | None) -> None:
        if job is not None and expires_at(job) is not None:
            self.loop.queue.add(meta.key(job))

    async def reconcile(self, key: str) -> None:
        job = self._jobs.cache.get(key)
        if job is None or self._must_wait(key, job):
            return
        try:
            live = await self._client.get(JOBS, meta.name(job), meta.namespace(job))
            if meta.uid(live) != meta.uid(job) or self._must_wait(key, live):
                return
            await self._client.delete(
                JOBS,
                meta.name(live),
                meta.namespace(live),
                propagation="Foreground",
                uid=meta.uid(live),
                resource_version=meta.resource_version(live),
            )
        except status.NotFound:
            return

    def _must_wait(self, key: str, job: Object) -> bool:
        due = expires_at(job)
        now = self._clock.now()
        if due is not None and due > now:
            self.loop.queue.add_after(key, due - now)
        return due is None or due > now
