"""What a Job's own rules make of its pods: the pod failure policy, the success policy, failures of single indexes.

Source: API reference batch/v1 PodFailurePolicy, SuccessPolicy; KEP-3329, KEP-3850, KEP-3998.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from orchestrator.api import conditions, meta
from orchestrator.api.meta import Object
from orchestrator.controllers import indexes
from orchestrator.controllers.fields import spec, status_of

INDEX = "batch.kubernetes.io/job-completion-index"
INDEX_FAILURES = "batch.kubernetes.io/job-index-failure-count"


class Verdict(Struct, frozen=True):
    """What a failed pod means: FailJob, FailIndex, Ignore or Count, and why."""

    action: str
    message: str = ""


def judge_failure(job: Object, pod: Object) -> Verdict:
    """The first rule that matches decides; a failure that no rule matches counts."""
    for number, rule in enumerate((spec(job).get("podFailurePolicy") or {}).get("rules") or ()):
        why = _matching(rule, pod, number)
        if why:
            return Verdict(rule["action"], why)
    return Verdict("Count")


def _matching(rule: Mapping[str, Any], pod: Object, number: int) -> str:
    place = f"matching {rule['action']} rule at index {number}"
    if wanted := rule.get("onExitCodes"):
        for container, code in exit_codes(pod):
            if wanted.get("containerName") not in (None, container):
                continue
            is_listed = code in (wanted.get("values") or ())
            if code != 0 and is_listed == (wanted.get("operator") == "In"):
                return f"Container {container} for pod {meta.key(pod)} failed with exit code {code} {place}"
    for wanted in rule.get("onPodConditions") or ():
        found = conditions.find(status_of(pod).get("conditions"), wanted["type"])
        if found and found.get("status") == (wanted.get("status") or "True"):
            return f"Pod {meta.key(pod)} has condition {wanted['type']} {place}"
    return ""


def exit_codes(pod: Object) -> Iterable[tuple[str, int]]:
    seen = status_of(pod)
    for status in [*(seen.get("initContainerStatuses") or ()), *(seen.get("containerStatuses") or ())]:
        terminated = (status.get("state") or {}).get("terminated")
        if terminated is not None:
            yield status["name"], int(terminated.get("exitCode") or 0)


def index_of(pod: Object) -> int:
    """The completion index that a pod works on, -1 if none."""
    text = meta.annotations(pod).get(INDEX, "")
    return int(text) if text.isdecimal() else -1


def index_failures(pod: Object) -> int:
    """How many pods of this index had failed before this one."""
    text = meta.annotations(pod).get(INDEX_FAILURES, "")
    return int(text) if text.isdecimal() else 0


def success_rule(job: Object, completed: set[int]) -> int | None:
    """The number of the success rule that the completed indexes satisfy."""
    for number, rule in enumerate((spec(job).get("successPolicy") or {}).get("rules") or ()):
        listed = indexes.parse(rule["succeededIndexes"]) if rule.get("succeededIndexes") else None
        counted = completed if listed is None else completed & listed
        wanted = rule.get("succeededCount")
        if wanted is None:
            wanted = len(listed) if listed is not None else None
        if wanted is not None and len(counted) >= wanted:
            return number
    return None
