"""Job and CronJob. A Job selects its pods by its own uid, unless it says `manualSelector`.

So `on_create` needs the uid: the API server gives it to a new object before the rules prepare it.
Source: batch/v1 API reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.api import conditions, meta
from orchestrator.api.kinds import batch_faults, pod_warnings, podspec, table
from orchestrator.api.kinds.batch_faults import NAME_LABEL, OLD_NAME_LABEL, OLD_UID_LABEL, UID_LABEL
from orchestrator.api.kinds.rules import KindRules
from orchestrator.api.kinds.table import AGE, NAME, Cells, Column, age, duration, integer, since, wide
from orchestrator.api.meta import Object
from orchestrator.api.resources import CRONJOBS, JOBS

Json = Mapping[str, Any]

BACKOFF_UNLIMITED = 2**31 - 1
WIDE = (wide("Containers"), wide("Images"), wide("Selector"))


def _spec(obj: Json) -> dict[str, Any]:
    return obj.get("spec") or {}


# -- defaults and preparation ------------------------------------------------------------------------------------------


def default_job_spec(spec: dict[str, Any]) -> None:
    if spec.get("completions") is None and spec.get("parallelism") is None:
        spec["completions"] = 1
    spec.setdefault("parallelism", 1)
    if spec.get("backoffLimit") is None:
        spec["backoffLimit"] = BACKOFF_UNLIMITED if spec.get("backoffLimitPerIndex") is not None else 6
    spec.setdefault("completionMode", "NonIndexed")
    spec.setdefault("suspend", False)
    policy = spec.get("podFailurePolicy")
    spec.setdefault("podReplacementPolicy", "Failed" if policy is not None else "TerminatingOrFailed")
    spec.setdefault("manualSelector", False)
    for rule in (policy or {}).get("rules") or ():
        for pattern in rule.get("onPodConditions") or ():
            pattern["status"] = pattern.get("status") or "True"


def default_job(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    podspec.default_template(spec)
    default_job_spec(spec)
    labels = meta.labels(spec.get("template") or {})
    if labels and not meta.labels(obj):
        obj.setdefault("metadata", {})["labels"] = labels  # the very same, until `_own_labels`


def default_cron_job(obj: Object) -> None:
    """The job template gets pod defaults; what a Job itself defaults is left to the Jobs made from it."""
    spec = obj.setdefault("spec", {})
    podspec.default_template((spec.get("jobTemplate") or {}).get("spec"))
    if not spec.get("concurrencyPolicy"):
        spec["concurrencyPolicy"] = "Allow"
    spec.setdefault("suspend", False)
    spec.setdefault("successfulJobsHistoryLimit", 3)
    spec.setdefault("failedJobsHistoryLimit", 1)


def _own_labels(job: Object) -> None:
    if labels := meta.labels(job):
        job["metadata"]["labels"] = dict(labels)


def create_job(obj: Object) -> None:
    """A Job that has its labels of its template has those too that its pods are found by, as with kube-apiserver."""
    spec = obj.setdefault("spec", {})
    if not spec.get("manualSelector"):
        _label_pods(obj, spec)
    _own_labels(obj)


def _label_pods(obj: Object, spec: dict[str, Any]) -> None:
    uid = meta.uid(obj)
    labels = spec.setdefault("template", {}).setdefault("metadata", {}).setdefault("labels", {})
    for key, value in (
        (OLD_NAME_LABEL, meta.name(obj)),
        (NAME_LABEL, meta.name(obj)),
        (OLD_UID_LABEL, uid),
        (UID_LABEL, uid),
    ):
        labels.setdefault(key, value)
    selector = spec.setdefault("selector", {})
    selector.setdefault("matchLabels", {}).setdefault(UID_LABEL, uid)


# -- tables ------------------------------------------------------------------------------------------------------------


def _job_state(obj: Object) -> str:
    for condition, shown in (("Complete", "Complete"), ("Failed", "Failed")):
        if conditions.is_true(obj, condition):
            return shown
    if meta.is_deleting(obj):
        return "Terminating"
    for condition, shown in (("Suspended", "Suspended"), ("FailureTarget", "FailureTarget"),
                             ("SuccessCriteriaMet", "SuccessCriteriaMet")):  # fmt: skip
        if conditions.is_true(obj, condition):
            return shown
    return "Running"


def _job_cells(obj: Object, now: float) -> Cells:
    spec, status = _spec(obj), obj.get("status") or {}
    done = status.get("succeeded", 0)
    if spec.get("completions") is not None:
        completions = f"{done}/{spec['completions']}"
    else:
        parallelism = spec.get("parallelism") or 0
        completions = f"{done}/1 of {parallelism}" if parallelism > 1 else f"{done}/1"
    took = ""
    if status.get("startTime"):
        end = meta.parse_time(status["completionTime"]) if status.get("completionTime") else now
        took = duration(end - meta.parse_time(status["startTime"]))
    names, images = table.images((spec.get("template") or {}).get("spec") or {})
    selector = table.selector_text(spec.get("selector"))
    return [meta.name(obj), _job_state(obj), completions, took, age(obj, now), names, images, selector]


def _cron_cells(obj: Object, now: float) -> Cells:
    spec, status = _spec(obj), obj.get("status") or {}
    template = _spec(spec.get("jobTemplate") or {})
    last = since(status["lastScheduleTime"], now) if status.get("lastScheduleTime") else "<none>"
    suspended = "<unset>" if spec.get("suspend") is None else str(spec["suspend"])
    return [
        meta.name(obj),
        spec.get("schedule") or "",
        spec.get("timeZone") or "<none>",
        suspended,
        len(status.get("active") or ()),
        last,
        age(obj, now),
        *table.images((template.get("template") or {}).get("spec") or {}),
        table.selector_text(template.get("selector")),
    ]


RULES = (
    KindRules(
        resource=JOBS,
        has_generation=True,
        default=default_job,
        on_create=create_job,
        on_update=lambda new, old: _own_labels(new),
        faults=batch_faults.job,
        update_faults=batch_faults.job_update,
        status_faults=batch_faults.job_status,
        warnings=pod_warnings.of_template,
        update_warnings=pod_warnings.of_changed_template,
        columns=(NAME, *table.texts("Status", "Completions", "Duration"), AGE, *WIDE),
        cells=_job_cells,
    ),
    KindRules(
        resource=CRONJOBS,
        has_generation=True,
        default=default_cron_job,
        faults=batch_faults.cron_job,
        update_faults=lambda new, old: batch_faults.cron_job(new),
        warnings=pod_warnings.of_job_template,
        update_warnings=pod_warnings.of_changed_job_template,
        columns=(
            NAME,
            *table.texts("Schedule", "Timezone"),
            Column("Suspend", "boolean"),
            integer("Active"),
            *table.texts("Last Schedule"),
            AGE,
            *WIDE,
        ),
        cells=_cron_cells,
    ),
)
