"""CronJob: makes a Job at each time of its schedule.

A Job's name comes from the time it is for, so a time makes one Job, however often it is looked at. After a pause only
the latest missed time counts, and only within `startingDeadlineSeconds`. Forbid skips a time while a Job runs, Replace
deletes the running ones. Ended Jobs beyond the history limits are deleted.
Source: Concepts, CronJob; API reference batch/v1 CronJob.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec import Struct, field

from orchestrator.api import meta, status
from orchestrator.api.meta import Object
from orchestrator.api.resources import CRONJOBS, JOBS
from orchestrator.client.cache import by_controller
from orchestrator.client.loop import Loop
from orchestrator.controllers import cron
from orchestrator.controllers.context import Context
from orchestrator.controllers.fields import copied, spec, status_of, with_status
from orchestrator.controllers.job_plan import is_finished
from orchestrator.controllers.pod_control import is_terminating_namespace
from orchestrator.controllers.pods import created_at

SCHEDULED_AT = "batch.kubernetes.io/cronjob-scheduled-timestamp"
MISSED_MAX = 100
SUCCESSES_KEPT, FAILURES_KEPT = 3, 1


class Plan(Struct):
    status: dict[str, Any]
    create_for: float | None = None
    delete: list[Object] = field(default_factory=list)
    again_at: float | None = None
    events: list[tuple[str, str, str]] = field(default_factory=list)


class Timetable(Struct, frozen=True):
    schedule: cron.Schedule
    zone: tzinfo

    def latest(self, since: float, now: float) -> tuple[float | None, int]:
        """(the last time in (since, now], how many there were). Beyond MISSED_MAX the count is only "too many", and the
        search goes on from ever nearer to now."""
        latest, count = None, 0
        moment = self.schedule.next_after(since, self.zone, since)
        while moment is not None and moment <= now:
            latest, count = moment, count + 1
            start = moment if count <= MISSED_MAX else (moment + now) / 2
            moment = self.schedule.next_after(start, self.zone, since)
            if count > MISSED_MAX and (moment is None or moment > now):
                moment = self.schedule.next_after(latest, self.zone, since)  # the last ones one by one
        return latest, count


def timetable(cronjob: Object) -> Timetable:
    """ValueError where the schedule or its zone cannot be understood."""
    name = spec(cronjob).get("timeZone")
    try:
        zone: tzinfo = ZoneInfo(name) if name else UTC
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"unknown time zone {name}") from error
    return Timetable(cron.parse(spec(cronjob)["schedule"]), zone)


def plan(cronjob: Object, jobs: Sequence[Object], times: Timetable, now: float) -> Plan:
    planned = Plan(_status(cronjob, jobs))
    planned.events += _ended(cronjob, jobs)
    _retire(cronjob, jobs, planned)
    if spec(cronjob).get("suspend") or meta.is_deleting(cronjob):
        return planned
    last = status_of(cronjob).get("lastScheduleTime")
    since = meta.parse_time(last) if last else created_at(cronjob)
    deadline_s = spec(cronjob).get("startingDeadlineSeconds")
    if deadline_s is not None:
        since = max(since, now - deadline_s)
    due, missed = times.latest(since, now)
    planned.again_at = times.schedule.next_after(now, times.zone, since if due is None else due)
    if missed > MISSED_MAX:
        message = (
            f"too many missed start times: {missed}. Set or decrease .spec.startingDeadlineSeconds or check clock skew"
        )
        planned.events.append(("Warning", "TooManyMissedTimes", message))
    if due is None or any(meta.name(job) == job_name(cronjob, due) for job in jobs):
        return planned
    _start(cronjob, jobs, due, planned)
    return planned


def _ended(cronjob: Object, jobs: Sequence[Object]) -> Iterator[tuple[str, str, str]]:
    """What became of those that were running when last looked at: (type, reason, message) of an event each."""
    present = {meta.uid(job): job for job in jobs}
    for reference in status_of(cronjob).get("active") or ():
        job = present.get(reference.get("uid") or "")
        if job is None:
            yield "Normal", "MissingJob", f"Active job went missing: {reference['name']}"
        elif is_finished(job):
            kind = next((kind for kind in ("Complete", "Failed") if _ended_as(job, kind)), "")
            yield "Normal", "SawCompletedJob", f"Saw completed job: {meta.name(job)}, condition: {kind}"


def _start(cronjob: Object, jobs: Sequence[Object], due: float, planned: Plan) -> None:
    policy = spec(cronjob).get("concurrencyPolicy") or "Allow"
    active = [job for job in jobs if not is_finished(job)]
    if policy == "Forbid" and active:
        message = "Not starting job because prior execution is running and concurrency policy is Forbid"
        planned.events.append(("Normal", "JobAlreadyActive", message))
        return
    if policy == "Replace":
        planned.delete.extend(active)
    planned.create_for = due


def _retire(cronjob: Object, jobs: Sequence[Object], planned: Plan) -> None:
    limits = (
        ("Complete", "successfulJobsHistoryLimit", SUCCESSES_KEPT),
        ("Failed", "failedJobsHistoryLimit", FAILURES_KEPT),
    )
    for kind, limit_field, default in limits:
        limit = spec(cronjob).get(limit_field)
        kept = default if limit is None else int(limit)
        ended = sorted((job for job in jobs if _ended_as(job, kind)), key=lambda job: (created_at(job), meta.name(job)))
        planned.delete.extend(ended[: max(0, len(ended) - kept)])


def _ended_as(job: Object, kind: str) -> bool:
    found = status_of(job).get("conditions") or ()
    return any(condition["type"] == kind and condition["status"] == "True" for condition in found)


def job_name(cronjob: Object, due: float) -> str:
    return f"{meta.name(cronjob)}-{int(due) // 60}"


def job_for(cronjob: Object, due: float) -> Object:
    template = copied(spec(cronjob).get("jobTemplate") or {})
    described = meta.metadata(template)
    annotations = {**(described.get("annotations") or {}), SCHEDULED_AT: meta.format_time(due)}
    made: dict[str, Any] = {
        "name": job_name(cronjob, due),
        "namespace": meta.namespace(cronjob),
        "annotations": annotations,
        "ownerReferences": [meta.owner_reference(cronjob)],
    }
    if described.get("labels"):
        made["labels"] = described["labels"]
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": made, "spec": template.get("spec") or {}}


def _status(cronjob: Object, jobs: Iterable[Object]) -> dict[str, Any]:
    """The running Jobs, and the latest success."""
    before = status_of(cronjob)
    status = {name: before[name] for name in ("lastScheduleTime", "lastSuccessfulTime") if before.get(name)}
    active = []
    for job in sorted(jobs, key=meta.name):
        if not is_finished(job):
            active.append(
                {
                    "apiVersion": "batch/v1",
                    "kind": "Job",
                    "name": meta.name(job),
                    "namespace": meta.namespace(job),
                    "uid": meta.uid(job),
                    "resourceVersion": meta.resource_version(job),
                }
            )
        done = status_of(job).get("completionTime")
        if done and done > status.get("lastSuccessfulTime", ""):
            status["lastSuccessfulTime"] = done
    return {"active": active, **status} if active else status


class CronJobController:
    """Starts Jobs on time."""

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._clock = context.clock
        self._recorder = context.recorder("cronjob-controller")
        self.loop = Loop("cronjob", self.reconcile)
        self._cronjobs = context.informers.informer(CRONJOBS)
        self._jobs = context.informers.informer(JOBS, indexers={"controller": by_controller})
        self._cronjobs.add_handler(lambda old, new: self.loop.queue.add(meta.key(new)) if new else None)
        self._jobs.add_handler(self._job_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _job_changed(self, old: Object | None, new: Object | None) -> None:
        job = new or old or {}
        reference = meta.controller_of(job)
        if reference and reference["kind"] == "CronJob":
            self.loop.queue.add(meta.join_key(meta.namespace(job), reference["name"]))

    async def reconcile(self, key: str) -> None:
        cronjob = self._cronjobs.cache.get(key)
        if cronjob is None:
            return
        try:
            times = timetable(cronjob)
        except ValueError as error:
            reason = "UnknownTimeZone" if "zone" in str(error) else "UnparseableSchedule"
            self._recorder.event(cronjob, "Warning", reason, str(error))
            return
        now = self._clock.now()
        jobs = self._jobs.cache.by_index("controller", meta.uid(cronjob))
        planned = plan(cronjob, jobs, times, now)
        for kind, reason, message in planned.events:
            self._recorder.event(cronjob, kind, reason, message)
        await self._delete(cronjob, planned.delete)
        if planned.create_for is not None:
            await self._start(cronjob, planned, planned.create_for)
        if _differs(planned.status, status_of(cronjob)):
            await self._client.update(CRONJOBS, with_status(cronjob, planned.status), subresource="status")
        if planned.again_at is not None:
            self.loop.queue.add_after(key, planned.again_at - now + 0.001)

    async def _start(self, cronjob: Object, planned: Plan, due: float) -> None:
        try:
            created = await self._client.create(JOBS, job_for(cronjob, due))
            self._recorder.event(cronjob, "Normal", "SuccessfulCreate", f"Created job {meta.name(created)}")
        except status.AlreadyExists:
            pass  # made in a pass whose end was lost
        except status.ApiError as error:
            if not is_terminating_namespace(error):
                self._recorder.event(cronjob, "Warning", "FailedCreate", f"Error creating job: {error}")
            raise
        planned.status["lastScheduleTime"] = meta.format_time(due)

    async def _delete(self, cronjob: Object, jobs: Iterable[Object]) -> None:
        for job in jobs:
            try:
                await self._client.delete(
                    JOBS, meta.name(job), meta.namespace(job), propagation="Background", uid=meta.uid(job)
                )
            except (status.NotFound, status.Conflict):
                continue
            self._recorder.event(cronjob, "Normal", "SuccessfulDelete", f"Deleted job {meta.name(job)}")


def _differs(wanted: dict[str, Any], seen: dict[str, Any]) -> bool:
    """Revisions of running Jobs alone are no news."""

    def shown(found: dict[str, Any]) -> dict[str, Any]:
        return {**found, "active": [each.get("uid") for each in found.get("active") or ()]}

    return shown(wanted) != shown(seen)
