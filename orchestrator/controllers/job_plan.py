"""Job: runs pods until enough of them have succeeded. Pure.

Every pod carries a finalizer until it is counted, so that none is lost however it is deleted:

    ended, with finalizer → its uid in status.uncountedTerminatedPods → finalizer removed → counted, uid leaves the list

A crash between any two steps repeats the last one; nothing is counted twice. An Indexed Job counts completed indexes
instead of pods. A Job first *will* end (FailureTarget, SuccessCriteriaMet): its pods are stopped; it *has* ended
(Failed, Complete) when none runs and all are counted. A suspended Job has no pods.
Source: Concepts, Jobs; API reference batch/v1 Job; KEP-2307 job tracking.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct, field

from orchestrator.api import conditions, meta
from orchestrator.api.conditions import Condition
from orchestrator.api.meta import Object
from orchestrator.controllers import indexes, job_policies, pods
from orchestrator.controllers.fields import spec, status_of
from orchestrator.controllers.job_policies import index_of

FINALIZER = "batch.kubernetes.io/job-tracking"
BACKOFF_LIMIT = 6
UNCOUNTED_MAX = 500  # at a time: the list is in the status


class Observed(Struct, frozen=True):
    job: Object
    pods: tuple[Object, ...]
    now: float
    may_create_at: float = 0.0  # back-off after failures


class Plan(Struct):
    """The status to write first; then finalizers to remove, pods to delete, to dismiss (delete without counting them as
    failed) and to create (index or -1, failures before)."""

    status: dict[str, Any]
    uncount: list[Object] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)
    dismiss: list[Object] = field(default_factory=list)
    create: list[tuple[int, int]] = field(default_factory=list)
    again_in_s: float | None = None
    events: list[tuple[str, str, str]] = field(default_factory=list)  # type, reason, message


def is_indexed(job: Object) -> bool:
    return spec(job).get("completionMode") == "Indexed"


def is_finished(job: Object) -> bool:
    return conditions.is_true(job, "Complete") or conditions.is_true(job, "Failed")


def parallelism(job: Object) -> int:
    found = spec(job).get("parallelism")
    return 1 if found is None else int(found)


def replaces_failed_only(job: Object) -> bool:
    policy = spec(job).get("podReplacementPolicy")
    return policy == "Failed" or bool(spec(job).get("podFailurePolicy"))


def has_failed(job: Object, pod: Object) -> bool:
    """A pod that is being deleted counts as failed at once, unless only really ended ones are to be replaced."""
    if pods.phase(pod) == "Failed":
        return True
    return meta.is_deleting(pod) and pods.phase(pod) != "Succeeded" and not replaces_failed_only(job)


class Tally:
    """The pods of a Job, sorted by what they count as, and the counts that follow."""

    def __init__(self, seen: Observed) -> None:
        job, self.job = seen.job, seen.job
        status = status_of(job)
        listed = status.get("uncountedTerminatedPods") or {}
        self.succeeded_uids: list[str] = list(listed.get("succeeded") or ())
        self.failed_uids: list[str] = list(listed.get("failed") or ())
        self.succeeded = int(status.get("succeeded") or 0)
        self.failed = int(status.get("failed") or 0)
        self.completed = indexes.parse(status.get("completedIndexes"))
        self.failed_indexes = indexes.parse(status.get("failedIndexes"))
        self.active = [pod for pod in seen.pods if pods.is_active(pod)]
        self.terminating = [pod for pod in seen.pods if meta.is_deleting(pod) and not pods.is_terminal(pod)]
        self.failure: str = ""  # why a failed pod fails the whole Job
        self.uncount: list[Object] = []
        self.has_new_failure = self.has_new_success = False
        self.index_failures: dict[int, int] = {}
        self._settle(seen.pods)
        for pod in sorted(seen.pods, key=meta.name):
            self._count(pod)

    def _settle(self, owned: Sequence[Object]) -> None:
        """Listed pods whose finalizer is gone are counted for good."""
        held = {meta.uid(pod) for pod in owned if FINALIZER in meta.finalizers(pod)}
        done = [uid for uid in self.succeeded_uids if uid not in held]
        if not is_indexed(self.job):
            self.succeeded += len(done)
        self.failed += sum(uid not in held for uid in self.failed_uids)
        self.succeeded_uids = [uid for uid in self.succeeded_uids if uid in held]
        self.failed_uids = [uid for uid in self.failed_uids if uid in held]

    def _count(self, pod: Object) -> None:
        uid, index = meta.uid(pod), index_of(pod)
        failed = has_failed(self.job, pod)
        if failed and (pods.phase(pod) == "Failed" or FINALIZER in meta.finalizers(pod)):
            count = job_policies.index_failures(pod) + 1
            self.index_failures[index] = max(self.index_failures.get(index, 0), count)
        if FINALIZER not in meta.finalizers(pod) or not (failed or pods.phase(pod) == "Succeeded"):
            return
        self.uncount.append(pod)
        if uid in self.succeeded_uids or uid in self.failed_uids:
            return
        if len(self.succeeded_uids) + len(self.failed_uids) >= UNCOUNTED_MAX:
            self.uncount.pop()
            return
        if not failed:
            self._succeed(uid, index)
            return
        verdict = job_policies.judge_failure(self.job, pod)
        if verdict.action == "Ignore":
            self.index_failures[index] -= 1
            return
        self.failed_uids.append(uid)
        self.has_new_failure = True
        if verdict.action == "FailJob":
            self.failure = self.failure or verdict.message
        limit = spec(self.job).get("backoffLimitPerIndex")
        if index >= 0 and (
            verdict.action == "FailIndex" or (limit is not None and job_policies.index_failures(pod) >= limit)
        ):
            self.failed_indexes.add(index)

    def _succeed(self, uid: str, index: int) -> None:
        self.succeeded_uids.append(uid)
        self.has_new_success = True
        if is_indexed(self.job) and 0 <= index < (spec(self.job).get("completions") or 0):
            self.completed.add(index)
            self.failed_indexes.discard(index)

    @property
    def all_succeeded(self) -> int:
        return len(self.completed) if is_indexed(self.job) else self.succeeded + len(self.succeeded_uids)

    @property
    def all_failed(self) -> int:
        return self.failed + len(self.failed_uids)

    @property
    def is_all_counted(self) -> bool:
        return not (self.uncount or self.succeeded_uids or self.failed_uids)


def plan(seen: Observed) -> Plan:
    job = seen.job
    tally = Tally(seen)
    found = list(status_of(job).get("conditions") or ())
    if is_finished(job):
        return Plan(_status(seen, tally, found), uncount=tally.uncount)
    planned = Plan({})
    failing = _failing(seen, tally, found)
    succeeding = None if failing else _succeeding(job, tally, found)
    is_suspended = bool(spec(job).get("suspend"))
    if failing or succeeding:
        planned.delete = tally.active
        found = _ending(seen, tally, found, failing, succeeding, planned)
    else:
        if is_suspended:
            planned.dismiss = tally.active
        else:
            _manage(seen, tally, planned)
        found = _suspension(seen, found, planned)
        limit = spec(job).get("activeDeadlineSeconds")
        if limit is not None and not is_suspended:
            left = _started_at(seen) + limit - seen.now
            planned.again_in_s = min(left, planned.again_in_s) if planned.again_in_s is not None else left
    planned.status = _status(seen, tally, found)
    planned.uncount = tally.uncount
    return planned


def _started_at(seen: Observed) -> float:
    text = status_of(seen.job).get("startTime")
    return meta.parse_time(text) if text else seen.now


Reason = tuple[str, str]


def _failing(seen: Observed, tally: Tally, found: Sequence[Condition]) -> Reason | None:
    """Why the Job fails: as decided before, or for the first rule that is broken now."""
    job = seen.job
    if (decided := conditions.find(found, "FailureTarget")) and decided["status"] == "True":
        return decided["reason"], decided["message"]
    if (decided := conditions.find(found, "SuccessCriteriaMet")) and decided["status"] == "True":
        return None
    if tally.failure:
        return "PodFailurePolicy", tally.failure
    limit = spec(job).get("backoffLimit")
    limit = BACKOFF_LIMIT if limit is None else limit
    if tally.all_failed > limit or _restarted_too_often(job, tally.active, limit):
        return "BackoffLimitExceeded", "Job has reached the specified backoff limit"
    deadline = spec(job).get("activeDeadlineSeconds")
    if deadline is not None and not spec(job).get("suspend") and seen.now - _started_at(seen) >= deadline:
        return "DeadlineExceeded", "Job was active longer than specified deadline"
    if spec(job).get("backoffLimitPerIndex") is not None:
        return _failing_indexes(job, tally)
    return None


def _restarted_too_often(job: Object, active: Sequence[Object], limit: int) -> bool:
    template = (spec(job).get("template") or {}).get("spec") or {}
    if template.get("restartPolicy") != "OnFailure":
        return False
    total = 0
    for pod in active:
        seen = status_of(pod)
        statuses = [*(seen.get("initContainerStatuses") or ()), *(seen.get("containerStatuses") or ())]
        total += sum(each.get("restartCount") or 0 for each in statuses)
    return total > 0 if limit == 0 else total >= limit


def _failing_indexes(job: Object, tally: Tally) -> Reason | None:
    limit = spec(job).get("maxFailedIndexes")
    if limit is not None and len(tally.failed_indexes) > limit:
        return "MaxFailedIndexesExceeded", "Job has exceeded the specified maximal number of failed indexes"
    wanted = spec(job).get("completions") or 0
    if tally.failed_indexes and len(tally.failed_indexes | tally.completed) >= wanted:
        return "FailedIndexes", "Job has failed indexes"
    return None


def _succeeding(job: Object, tally: Tally, found: Sequence[Condition]) -> Reason | None:
    if (decided := conditions.find(found, "SuccessCriteriaMet")) and decided["status"] == "True":
        return decided["reason"], decided["message"]
    if (number := job_policies.success_rule(job, tally.completed)) is not None:
        return "SuccessPolicy", f"Matched rules at index {number}"
    wanted = spec(job).get("completions")
    # A work queue has no number: one pod that succeeded says that the work is done, when the others have ended.
    enough = tally.all_succeeded > 0 and not tally.active
    is_done = enough if wanted is None else tally.all_succeeded >= wanted
    return ("CompletionsReached", "Reached expected number of succeeded pods") if is_done else None


def _ending(
    seen: Observed,
    tally: Tally,
    found: list[Condition],
    failing: Reason | None,
    succeeding: Reason | None,
    planned: Plan,
) -> list[Condition]:
    """First the intent, then, when nothing runs and all is counted, the end."""
    intent, end, verb = (
        ("FailureTarget", "Failed", failing) if failing else ("SuccessCriteriaMet", "Complete", succeeding)
    )
    assert verb is not None
    reason, message = verb
    found = _set(found, intent, "True", reason, message, seen.now)
    if tally.active or tally.terminating or not tally.is_all_counted:
        return found
    if end == "Complete":
        planned.events.append(("Normal", "Completed", "Job completed"))
    else:
        planned.events.append(("Warning", reason, message))
    return _set(found, end, "True", reason, message, seen.now)


def _manage(seen: Observed, tally: Tally, planned: Plan) -> None:
    """Pods to create, or to delete because there are too many."""
    job = seen.job
    wanted = _wanted_active(job, tally)
    present = len(tally.active) + (len(tally.terminating) if replaces_failed_only(job) else 0)
    if len(tally.active) > wanted:
        ordered = sorted(tally.active, key=lambda pod: pods.deletion_rank(pod, 0, seen.now))
        planned.dismiss = ordered[: len(tally.active) - wanted]
        return
    if is_indexed(job):
        planned.dismiss = _surplus_indexes(job, tally)
    missing = wanted - present
    if missing <= 0:
        return
    if seen.may_create_at > seen.now:
        planned.again_in_s = seen.may_create_at - seen.now
        return
    planned.create = _free_indexes(job, tally, missing) if is_indexed(job) else [(-1, 0)] * missing


def _wanted_active(job: Object, tally: Tally) -> int:
    completions = spec(job).get("completions")
    if completions is None:
        return len(tally.active) if tally.all_succeeded > 0 else parallelism(job)
    left = completions - tally.all_succeeded - len(tally.failed_indexes)
    return max(0, min(parallelism(job), left))


def _surplus_indexes(job: Object, tally: Tally) -> list[Object]:
    """Pods whose index is out of range, done, or has another pod already."""
    seen: set[int] = set()
    surplus = []
    for pod in sorted(tally.active, key=lambda pod: (pods.created_at(pod), meta.name(pod))):
        index = index_of(pod)
        if index in seen or index in tally.completed or not 0 <= index < (spec(job).get("completions") or 0):
            surplus.append(pod)
        seen.add(index)
    return surplus


def _free_indexes(job: Object, tally: Tally, count: int) -> list[tuple[int, int]]:
    busy = {index_of(pod) for pod in tally.active} | tally.completed | tally.failed_indexes
    if replaces_failed_only(job):
        busy |= {index_of(pod) for pod in tally.terminating}
    free = (index for index in range(spec(job).get("completions") or 0) if index not in busy)
    return [(index, tally.index_failures.get(index, 0)) for index, _ in zip(free, range(count), strict=False)]


def _suspension(seen: Observed, found: list[Condition], planned: Plan) -> list[Condition]:
    current = conditions.find(found, "Suspended")
    if spec(seen.job).get("suspend"):
        if current is None or current["status"] != "True":
            planned.events.append(("Normal", "Suspended", "Job suspended"))
        return _set(found, "Suspended", "True", "JobSuspended", "Job suspended", seen.now)
    if current is not None and current["status"] == "True":
        planned.events.append(("Normal", "Resumed", "Job resumed"))
        return _set(found, "Suspended", "False", "JobResumed", "Job resumed", seen.now)
    return found


def _set(found: Sequence[Condition], kind: str, status: str, reason: str, message: str, now: float) -> list[Condition]:
    current = conditions.find(found, kind)
    if current and (current["status"], current.get("reason")) == (status, reason):
        return list(found)
    at = meta.format_time(now)
    condition = {"type": kind, "status": status, "reason": reason, "message": message, "lastProbeTime": at}
    return conditions.updated(found, condition, at)


def _status(seen: Observed, tally: Tally, found: list[Condition]) -> dict[str, Any]:
    job, before = seen.job, status_of(seen.job)
    status: dict[str, Any] = {}
    if found:
        status["conditions"] = found
    is_suspended = bool(spec(job).get("suspend"))
    was_suspended = any(
        each["type"] == "Suspended" and each["status"] == "True" for each in before.get("conditions") or ()
    )
    if before.get("startTime") and (is_finished(job) or not (is_suspended or was_suspended)):
        status["startTime"] = before["startTime"]
    elif not is_suspended:
        status["startTime"] = meta.format_time(seen.now)
    if before.get("completionTime"):
        status["completionTime"] = before["completionTime"]
    elif any(each["type"] == "Complete" and each["status"] == "True" for each in found):
        status["completionTime"] = meta.format_time(seen.now)
    succeeded = len(tally.completed) if is_indexed(job) else tally.succeeded
    optional = {"active": len(tally.active), "succeeded": succeeded, "failed": tally.failed}
    status |= {name: value for name, value in optional.items() if value}
    if is_indexed(job):
        status |= {"completedIndexes": indexes.show(tally.completed)} if tally.completed else {}
        if spec(job).get("backoffLimitPerIndex") is not None:
            status["failedIndexes"] = indexes.show(tally.failed_indexes)
    uncounted = {"succeeded": tally.succeeded_uids, "failed": tally.failed_uids}
    status["uncountedTerminatedPods"] = {name: uids for name, uids in uncounted.items() if uids}
    status["ready"] = sum(pods.is_ready(pod) for pod in tally.active)
    status["terminating"] = len(tally.terminating)
    return status
