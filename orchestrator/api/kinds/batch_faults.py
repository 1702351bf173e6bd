"""What can be wrong with a Job or CronJob, and what an update may change of a Job that runs.

Source: batch/v1 API reference.
"""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Mapping
from typing import Any

from orchestrator.api import conditions, meta
from orchestrator.api.kinds import cron, faults, formats, pod_faults, podspec
from orchestrator.api.kinds.values import is_readable, label_selector, nonnegative, one_of, selects
from orchestrator.api.meta import Object
from orchestrator.api.status import Cause

Json = Mapping[str, Any]

UID_LABEL, NAME_LABEL = "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name"
OLD_UID_LABEL, OLD_NAME_LABEL = "controller-uid", "job-name"
INDEXED_MAX = 100_000
CRON_NAME_MAX = 52


def _spec(obj: Json) -> dict[str, Any]:
    return obj.get("spec") or {}


def job(obj: Object) -> list[Cause]:
    spec = _spec(obj)
    causes: list[Cause] = []
    if not spec.get("manualSelector"):
        causes += _generated_selector(obj)
    causes += job_spec(spec, "spec")
    selector = spec.get("selector")
    if selector is None:
        causes.append(faults.required("spec.selector"))
    else:
        causes += label_selector(selector, "spec.selector")
    labels = meta.metadata(spec.get("template") or {}).get("labels")
    if is_readable(selector) and not selects(selector, labels):
        detail = "`selector` does not match template `labels`"
        causes.append(faults.invalid("spec.template.metadata.labels", labels, detail))
    completions = spec.get("completions") or 0
    if spec.get("completionMode") == "Indexed" and completions > 0:
        for complaint in formats.dns_label(f"{meta.name(obj)}-{completions - 1}"):
            detail = f"will not able to create pod with invalid DNS label: {meta.name(obj)}-{completions - 1}"
            causes.append(faults.invalid("metadata.name", meta.name(obj), detail if complaint else ""))
    return causes


def _generated_selector(obj: Object) -> list[Cause]:
    spec = _spec(obj)
    if spec.get("selector") is None:
        return []  # told as required
    labels = meta.labels(spec.get("template") or {})
    path = "spec.template.metadata.labels"
    causes: list[Cause] = []
    for key, expected in (
        (OLD_UID_LABEL, meta.uid(obj)),
        (OLD_NAME_LABEL, meta.name(obj)),
        (UID_LABEL, meta.uid(obj)),
        (NAME_LABEL, meta.name(obj)),
    ):
        if key not in labels:
            causes.append(faults.required(f"{path}[{key}]", f"must be '{expected}'"))
        elif labels[key] != expected:
            causes.append(faults.invalid(f"{path}[{key}]", labels, f"must be '{expected}'"))
    known = {OLD_UID_LABEL: meta.uid(obj), UID_LABEL: meta.uid(obj)}
    known |= {OLD_NAME_LABEL: meta.name(obj), NAME_LABEL: meta.name(obj)}
    if not selects(spec["selector"], known):
        causes.append(faults.invalid("spec.selector", spec["selector"], "`selector` not auto-generated"))
    return causes


def job_spec(spec: Json, path: str) -> list[Cause]:
    causes = nonnegative(
        spec, path, "parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished",
        "backoffLimitPerIndex", "maxFailedIndexes",
    )  # fmt: skip
    if spec.get("maxFailedIndexes") is not None and spec.get("backoffLimitPerIndex") is None:
        causes.append(faults.required(f"{path}.backoffLimitPerIndex", "when maxFailedIndexes is specified"))
    causes += _completion_mode(spec, path)
    if (policy := spec.get("podFailurePolicy")) is not None:
        causes += _failure_policy(spec, policy, f"{path}.podFailurePolicy")
    if (success := spec.get("successPolicy")) is not None:
        causes += _success_policy(spec, success, f"{path}.successPolicy")
    replacement = spec.get("podReplacementPolicy")
    supported = ("Failed",) if spec.get("podFailurePolicy") is not None else ("Failed", "TerminatingOrFailed")
    if replacement is not None and replacement not in supported:
        causes.append(faults.not_supported(f"{path}.podReplacementPolicy", replacement, supported))
    causes += pod_faults.template(spec.get("template"), f"{path}.template")
    return causes + _restart_policy(spec, f"{path}.template.spec.restartPolicy")


def _restart_policy(spec: Json, path: str) -> list[Cause]:
    policy = ((spec.get("template") or {}).get("spec") or {}).get("restartPolicy") or ""
    if policy in ("", "Always"):
        return [faults.required(path, 'valid values: "OnFailure", "Never"')]
    if policy not in ("OnFailure", "Never"):
        return [faults.not_supported(path, policy, ("OnFailure", "Never"))]
    if spec.get("podFailurePolicy") is not None and policy != "Never":
        return [faults.invalid(path, policy, 'only "Never" is supported when podFailurePolicy is specified')]
    return []


def _completion_mode(spec: Json, path: str) -> list[Cause]:
    mode = spec.get("completionMode") or "NonIndexed"
    causes: list[Cause] = []
    if mode not in ("NonIndexed", "Indexed"):
        causes.append(faults.not_supported(f"{path}.completionMode", mode, ("NonIndexed", "Indexed")))
    if mode == "Indexed":
        completions, failed = spec.get("completions"), spec.get("maxFailedIndexes")
        if completions is None:
            causes.append(faults.required(f"{path}.completions", "when completion mode is Indexed"))
        if (spec.get("parallelism") or 0) > INDEXED_MAX:
            detail = f"must be less than or equal to {INDEXED_MAX} when completion mode is Indexed"
            causes.append(faults.invalid(f"{path}.parallelism", spec["parallelism"], detail))
        if completions is not None and failed is not None and failed > completions:
            detail = "must be less than or equal to completions"
            causes.append(faults.invalid(f"{path}.maxFailedIndexes", failed, detail))
        return causes
    for name in ("backoffLimitPerIndex", "maxFailedIndexes"):
        if spec.get(name) is not None:
            causes.append(faults.invalid(f"{path}.{name}", spec[name], "requires indexed completion mode"))
    return causes


def _failure_policy(spec: Json, policy: Json, path: str) -> list[Cause]:
    actions = ("Count", "FailIndex", "FailJob", "Ignore")
    pod = (spec.get("template") or {}).get("spec") or {}
    names = {container.get("name") for container in podspec.containers(pod)}
    causes: list[Cause] = []
    for index, rule in enumerate(policy.get("rules") or ()):
        at, action = f"{path}.rules[{index}]", rule.get("action") or ""
        if not action:
            shown = " ".join(f'"{name}"' for name in actions)
            causes.append(faults.required(f"{at}.action", f"valid values: [{shown}]"))
        elif action == "FailIndex" and spec.get("backoffLimitPerIndex") is None:
            causes.append(faults.invalid(f"{at}.action", action, "requires the backoffLimitPerIndex to be set"))
        elif action not in actions:
            causes.append(faults.not_supported(f"{at}.action", action, actions))
        codes, patterns = rule.get("onExitCodes"), rule.get("onPodConditions")
        if codes is not None:
            causes += _exit_codes(codes, f"{at}.onExitCodes", names)
        for number, pattern in enumerate(patterns or ()):
            where, kind = f"{at}.onPodConditions[{number}]", pattern.get("type") or ""
            causes += faults.each(f"{where}.type", kind, formats.qualified_name(kind))
            causes += one_of(pattern.get("status"), f"{where}.status", ("False", "True", "Unknown"))
        if codes is not None and patterns:
            detail = "Invalid value: specifying both OnExitCodes and OnPodConditions is not supported"
            causes.append(Cause(at, "FieldValueInvalid", detail))
        elif codes is None and not patterns:
            detail = "Invalid value: specifying one of OnExitCodes and OnPodConditions is required"
            causes.append(Cause(at, "FieldValueInvalid", detail))
    return causes


def _exit_codes(codes: Json, path: str, names: set[Any]) -> list[Cause]:
    operator, values = codes.get("operator") or "", codes.get("values") or []
    causes: list[Cause] = []
    if not operator:
        causes.append(faults.required(f"{path}.operator", 'valid values: ["In" "NotIn"]'))
    elif operator not in ("In", "NotIn"):
        causes.append(faults.not_supported(f"{path}.operator", operator, ("In", "NotIn")))
    name = codes.get("containerName")
    if name is not None and name not in names:
        detail = "must be one of the container or initContainer names in the pod template"
        causes.append(faults.invalid(f"{path}.containerName", name, detail))
    if not values:
        causes.append(faults.invalid(f"{path}.values", None, "at least one value is required"))
    for index, value in enumerate(values):
        if operator == "In" and value == 0:
            causes.append(faults.invalid(f"{path}.values[{index}]", value, "must not be 0 for the In operator"))
        if value in values[:index]:
            causes.append(faults.duplicate(f"{path}.values[{index}]", value))
    if values != sorted(values):
        causes.append(faults.invalid(f"{path}.values", values, "must be ordered"))
    return causes


def _success_policy(spec: Json, policy: Json, path: str) -> list[Cause]:
    if spec.get("completionMode") != "Indexed":
        return [faults.invalid(path, policy, "requires indexed completion mode")]
    rules, causes = policy.get("rules") or (), []
    if not rules:
        detail = "at least one rules must be specified when the successPolicy is specified"
        causes.append(faults.required(f"{path}.rules", detail))
    for index, rule in enumerate(rules):
        at, count = f"{path}.rules[{index}]", rule.get("succeededCount")
        if count is None and rule.get("succeededIndexes") is None:
            detail = "at least one of succeededCount or succeededIndexes must be specified"
            causes.append(faults.required(at, detail))
        total, what, text = spec.get("completions") or 0, "specified completions", rule.get("succeededIndexes")
        if text is not None:
            try:
                parts = intervals(text, total)
            except ValueError as error:
                causes.append(
                    faults.invalid(f"{at}.succeededIndexes", text, f"error parsing succeededIndexes: {error}")
                )
                continue
            total = sum(last - first + 1 for first, last in parts)
            what = "indexes in the specified succeededIndexes field"
        causes += nonnegative(rule, at, "succeededCount")
        if count is not None and count > total:
            detail = f"must be less than or equal to {total} (the number of {what})"
            causes.append(faults.invalid(f"{at}.succeededCount", count, detail))
    return causes


JOB_FIXED = ("selector", "completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy")
# What may change of the pods while a Job is at rest, beside node affinity and what its containers need.
SCHEDULING = ("nodeSelector", "tolerations", "schedulingGates")


def job_update(new: Object, old: Object) -> list[Cause]:
    spec, before = _spec(new), _spec(old)
    causes = job(new) if meta.uid(new) else []
    causes += _completions(spec, before)
    for name in JOB_FIXED:
        causes += faults.immutable(f"spec.{name}", spec.get(name), before.get(name))
    if _is_at_rest(old):
        was = before.get("template") or {}
        pod = _without_changeable((spec.get("template") or {}).get("spec") or {}, was.get("spec") or {})
        return causes + faults.immutable("spec.template.spec", pod, was.get("spec"))
    return causes + faults.immutable("spec.template", spec.get("template"), before.get("template"))


def _is_at_rest(job: Object) -> bool:
    """Suspended, and without pods: it has not begun, or they are gone."""
    status = job.get("status") or {}
    if not _spec(job).get("suspend"):
        return False
    return status.get("startTime") is None or (conditions.is_true(job, "Suspended") and not status.get("active"))


def _completions(spec: Json, before: Json) -> list[Cause]:
    """Those of an Indexed Job may change to what its parallelism is; that they are missing is told of every Job."""
    now, was = spec.get("completions"), before.get("completions")
    if spec.get("completionMode") != "Indexed":
        return faults.immutable("spec.completions", now, was)
    if now in (was, None) or now == spec.get("parallelism"):
        return []
    return [faults.invalid("spec.completions", now, "can only be modified in tandem with spec.parallelism")]


def _without_changeable(pod: Json, old: Json) -> Json:
    """`pod` with where it is to run and what its containers need as they were."""
    kept = dict(pod)
    for name in SCHEDULING:
        kept.pop(name, None)
        if name in old:
            kept[name] = old[name]
    node = (old.get("affinity") or {}).get("nodeAffinity")
    affinity = {name: value for name, value in (pod.get("affinity") or {}).items() if name != "nodeAffinity"}
    if node is not None:
        affinity["nodeAffinity"] = node
    if affinity or (pod.get("affinity") is not None and old.get("affinity") is not None):
        kept["affinity"] = affinity
    else:
        kept.pop("affinity", None)
    for field in ("containers", "initContainers"):
        if len(pod.get(field) or ()) == len(old.get(field) or ()) and pod.get(field):
            pairs = zip(pod[field], old[field], strict=True)
            kept[field] = [_with_resources(container, before) for container, before in pairs]
    return kept


def _with_resources(container: Json, old: Json) -> Json:
    found = {name: value for name, value in container.items() if name != "resources"}
    return {**found, "resources": old["resources"]} if "resources" in old else found


def job_status(new: Object, old: Object) -> list[Cause]:
    """What a status says must fit together; what no write has changed since is let be."""
    return _job_status(new, old) + _job_status_update(new, old)


def _omitted(path: str, detail: str) -> Cause:
    return Cause(path, "FieldValueInvalid", f"Invalid value: {detail}")


def _moved(new: Object, old: Object, *names: str) -> bool:
    """Whether a status changed in one of these fields, or conditions."""
    now, before = new.get("status") or {}, old.get("status") or {}
    return any(
        conditions.is_true(new, name) != conditions.is_true(old, name)
        if name[0].isupper()
        else now.get(name) != before.get(name)
        for name in names
    )


def _job_status(new: Object, old: Object) -> list[Cause]:
    status, spec = new.get("status") or {}, _spec(new)
    causes = nonnegative(status, "status", "active", "succeeded", "failed", "ready", "terminating")
    complete, failed = conditions.is_true(new, "Complete"), conditions.is_true(new, "Failed")
    target, met = conditions.is_true(new, "FailureTarget"), conditions.is_true(new, "SuccessCriteriaMet")
    finished, path = complete or failed, "status.conditions"
    ended, began = status.get("completionTime"), status.get("startTime")
    uncounted = status.get("uncountedTerminatedPods") or {}
    causes += _uncounted(uncounted)
    if complete and failed and _moved(new, old, "Complete", "Failed"):
        causes.append(_omitted(path, "cannot set Complete=True and Failed=true conditions"))
    if complete and target and _moved(new, old, "Complete", "FailureTarget"):
        causes.append(_omitted(path, "cannot set Complete=True and FailureTarget=true conditions"))
    if _moved(new, old, "Complete", "completionTime"):
        if ended and not complete:
            detail = "cannot set completionTime when there is no Complete=True condition"
            causes.append(faults.invalid("status.completionTime", ended, detail))
        if complete and not ended:
            causes.append(faults.required("status.completionTime", "completionTime is required for Complete jobs"))
    if began and ended and ended < began and _moved(new, old, "startTime", "completionTime"):
        causes.append(faults.invalid("status.completionTime", ended, "must be equal to or after `startTime`"))
    if failed and not target and _moved(new, old, "Failed", "failedIndexes"):
        causes.append(_omitted(path, "cannot set Failed=True condition without the FailureTarget=true condition"))
    if complete and not met and _moved(new, old, "Complete", "SuccessCriteriaMet"):
        detail = "cannot set Complete=True condition without the SuccessCriteriaMet=true condition"
        causes.append(_omitted(path, detail))
    turned = _moved(new, old, "Complete", "Failed")
    if finished and status.get("active", 0) > 0 and (turned or _moved(new, old, "active")):
        causes.append(faults.invalid("status.active", status["active"], "active>0 is invalid for finished job"))
    nothing_to_do = spec.get("suspend") and spec.get("completions") == 0
    if finished and not began and (turned or _moved(new, old, "startTime")) and not nothing_to_do:
        causes.append(faults.required("status.startTime", "startTime is required for finished job"))
    if finished and any(uncounted.values()) and (turned or _moved(new, old, "uncountedTerminatedPods")):
        causes.append(faults.invalid("status.uncountedTerminatedPods", uncounted, "must be empty for finished job"))
    if finished and status.get("terminating", 0) > 0 and (turned or _moved(new, old, "terminating")):
        detail = "terminating>0 is invalid for finished job"
        causes.append(faults.invalid("status.terminating", status["terminating"], detail))
    if status.get("ready", 0) > status.get("active", 0) and _moved(new, old, "ready", "active"):
        causes.append(faults.invalid("status.ready", status["ready"], "cannot set more ready pods than active"))
    causes += _indexes(new, old)
    if met and failed:
        causes.append(_omitted(path, "cannot set SuccessCriteriaMet=True and Failed=true conditions"))
    if met and target:
        causes.append(_omitted(path, "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions"))
    if spec.get("successPolicy") is not None and complete and not met:
        detail = "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True"
        causes.append(_omitted(path, detail))
    return causes


def _uncounted(uncounted: Json) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[str] = set()
    for name in ("succeeded", "failed"):
        for index, uid in enumerate(uncounted.get(name) or ()):
            path = f"status.uncountedTerminatedPods.{name}[{index}]"
            if not uid:
                causes.append(faults.invalid(path, uid, "must not be empty"))
            elif uid in seen:
                causes.append(faults.duplicate(path, uid))
            seen.add(uid)
    return causes


def _indexes(new: Object, old: Object) -> list[Cause]:
    status, spec = new.get("status") or {}, _spec(new)
    done, failed = status.get("completedIndexes") or "", status.get("failedIndexes")
    causes: list[Cause] = []
    if done and spec.get("completionMode") != "Indexed" and _moved(new, old, "completedIndexes"):
        detail = "cannot set non-empty completedIndexes when non-indexed completion mode"
        causes.append(faults.invalid("status.completedIndexes", done, detail))
    if failed is not None and spec.get("backoffLimitPerIndex") is None and _moved(new, old, "failedIndexes"):
        detail = "cannot set non-null failedIndexes when backoffLimitPerIndex is null"
        causes.append(faults.invalid("status.failedIndexes", failed, detail))
    if causes or spec.get("completionMode") != "Indexed" or spec.get("completions") is None:
        return causes
    found: list[list[tuple[int, int]]] = []
    for name, text in (("completedIndexes", done), ("failedIndexes", failed or "")):
        try:
            found.append(intervals(text, spec["completions"]))
        except ValueError as error:
            if _moved(new, old, name):
                causes.append(faults.invalid(f"status.{name}", text, f"error parsing {name}: {error}"))
    if len(found) == 2 and _moved(new, old, "completedIndexes", "failedIndexes"):
        both = [max(left[0], right[0]) for left in found[0] for right in found[1] if _meet(left, right)]
        if both:
            detail = f"failedIndexes and completedIndexes overlap at index: {min(both)}"
            causes.append(faults.invalid("status.failedIndexes", failed, detail))
    return causes


def _meet(left: tuple[int, int], right: tuple[int, int]) -> bool:
    return left[0] <= right[1] and right[0] <= left[1]


def intervals(text: str, completions: int) -> list[tuple[int, int]]:
    """The first and last of each part of `1,3-5`. Errors: ValueError, in kube-apiserver's words."""
    found: list[tuple[int, int]] = []
    last: int | None = None
    for fragment in text.split(",") if text else ():
        limits = fragment.split("-")
        if len(limits) > 2:
            raise ValueError(
                f"the fragment {faults.shown(fragment)} violates the requirement that an index interval can have at "
                "most two parts separated by '-'"
            )
        ends = []
        for limit in limits:
            number = _index(limit, completions)
            if last is not None and number <= last:
                raise ValueError(f"non-increasing order, previous: {last}, current: {number}")
            last = number
            ends.append(number)
        found.append((ends[0], ends[-1]))
    return found


def _index(text: str, completions: int) -> int:
    if not re.fullmatch("[-+]?[0-9]{1,20}", text) or not -(2**31) <= int(text) < 2**31:
        raise ValueError(f"cannot convert string to integer for index: {faults.shown(text)}")
    if int(text) >= completions:
        raise ValueError(f"too large index: {faults.shown(text)}")
    return int(text)


def _job_status_update(new: Object, old: Object) -> list[Cause]:
    status, before, spec = new.get("status") or {}, old.get("status") or {}, _spec(new)
    causes = [
        _omitted("status.conditions", f"cannot disable the terminal {name}=True condition")
        for name in ("Failed", "Complete", "FailureTarget")
        if conditions.is_true(old, name) and not conditions.is_true(new, name)
    ]
    if status.get("failed", 0) < before.get("failed", 0):
        causes.append(faults.invalid("status.failed", status.get("failed", 0), "cannot decrease the failed counter"))
    scalable = spec.get("completionMode") == "Indexed" and spec.get("completions") == spec.get("parallelism")
    if not scalable and status.get("succeeded", 0) < before.get("succeeded", 0):
        detail = "cannot decrease the succeeded counter"
        causes.append(faults.invalid("status.succeeded", status.get("succeeded", 0), detail))
    ended, began = status.get("completionTime"), status.get("startTime")
    if ended and before.get("completionTime") and ended != before["completionTime"]:
        causes.append(faults.invalid("status.completionTime", ended, faults.IMMUTABLE))
    is_suspended, was_suspended = bool(spec.get("suspend")), bool(_spec(old).get("suspend"))
    is_resuming = not is_suspended and was_suspended
    if before.get("startTime") and began != before["startTime"] and not is_suspended and not is_resuming:
        detail = "field is immutable for unsuspended job once set"
        causes.append(faults.invalid("status.startTime", began, detail))
    was_met, is_met = (conditions.is_true(one, "SuccessCriteriaMet") for one in (old, new))
    if was_met and not is_met:
        causes.append(_omitted("status.conditions", "cannot disable the SuccessCriteriaMet=True condition"))
    if conditions.is_true(old, "Complete") and not was_met and is_met:
        detail = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions"
        causes.append(_omitted("status.conditions", detail))
    return causes


def cron_job(obj: Object) -> list[Cause]:
    spec = _spec(obj)
    causes: list[Cause] = []
    schedule = spec.get("schedule") or ""
    if not schedule:
        causes.append(faults.required("spec.schedule"))
    elif complaint := cron.fault(schedule):
        causes.append(faults.invalid("spec.schedule", schedule, complaint))
    if "TZ" in schedule:
        detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
        causes.append(faults.invalid("spec.schedule", schedule, detail))
    causes += _time_zone(spec.get("timeZone"))
    causes += nonnegative(spec, "spec", "startingDeadlineSeconds")
    causes += one_of(spec.get("concurrencyPolicy"), "spec.concurrencyPolicy", ("Allow", "Forbid", "Replace"))
    template = _spec(spec.get("jobTemplate") or {})
    path = "spec.jobTemplate.spec"
    if template.get("manualSelector"):
        causes.append(faults.not_supported(f"{path}.manualSelector", True, ("nil", "false")))
    causes += job_spec(template, path)
    causes += nonnegative(spec, "spec", "successfulJobsHistoryLimit", "failedJobsHistoryLimit")
    if len(meta.name(obj)) > CRON_NAME_MAX:
        detail = f"must be no more than {CRON_NAME_MAX} characters"
        causes.append(faults.invalid("metadata.name", meta.name(obj), detail))
    return causes


def _time_zone(zone: str | None) -> list[Cause]:
    if zone is None:
        return []
    if not zone:
        return [faults.invalid("spec.timeZone", zone, "timeZone must be nil or non-empty string")]
    if zone.lower() == "local":
        return [faults.invalid("spec.timeZone", zone, "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones")]  # fmt: skip  # noqa: E501
    try:
        zoneinfo.ZoneInfo(zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return [faults.invalid("spec.timeZone", zone, f"unknown time zone {zone}")]
    return []
