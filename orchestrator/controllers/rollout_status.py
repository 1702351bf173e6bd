"""The status of a Deployment: counts, and the conditions that `kubectl rollout status` and `kubectl wait` read.

    Progressing  True     NewReplicaSetCreated, FoundNewReplicaSet, ReplicaSetUpdated, NewReplicaSetAvailable
                 Unknown  DeploymentPaused, DeploymentResumed
                 False    ProgressDeadlineExceeded, ReplicaSetCreateError
    Available    True     MinimumReplicasAvailable        False  MinimumReplicasUnavailable
    ReplicaFailure        as a ReplicaSet reports it

Progress is any pod more that is updated, ready or available, or any old pod less; without it for
`progressDeadlineSeconds` the rollout is reported as stuck, and goes on all the same. A condition is written anew only
if its status or reason changes, or if there was progress. Source: Concepts, Deployment, "Deployment status".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.api import conditions, meta
from orchestrator.api.conditions import Condition
from orchestrator.api.meta import Object
from orchestrator.controllers.fields import cleaned, replicas, spec, status_of
from orchestrator.controllers.rollout import bounds, is_complete

NO_DEADLINE = 2**31 - 1


def next_status(
    deployment: Object, new: Object | None, old: Sequence[Object], now: float, *, created: str = "", failure: str = ""
) -> dict[str, Any]:
    """The status of what was seen. `created` names a ReplicaSet made just now, `failure` why one could not be."""
    everything = [*old, *([new] if new else [])]
    counts = _counts(everything, new)
    status = {
        "observedGeneration": meta.generation(deployment),
        **counts,
        "collisionCount": status_of(deployment).get("collisionCount"),
    }
    found = list(status_of(deployment).get("conditions") or ())
    found = _set(found, _availability(deployment, counts["availableReplicas"]), now)
    if deadline_s(deployment) is not None:
        found = _progress(deployment, counts, everything, new, found, now, created, failure)
    found = _failures(found, [*([new] if new else []), *old], now, failure)
    terminating = sum(status_of(each).get("terminatingReplicas") or 0 for each in everything)
    if terminating or "terminatingReplicas" in status_of(deployment):
        return {**cleaned(status), "terminatingReplicas": terminating, "conditions": found}
    return {**cleaned(status), "conditions": found}


def deadline_s(deployment: Object) -> int | None:
    seconds = spec(deployment).get("progressDeadlineSeconds", 600)
    return None if seconds is None or seconds >= NO_DEADLINE else int(seconds)


def stuck_in_s(deployment: Object, status: dict[str, Any], now: float) -> float | None:
    """When to look again whether the deadline has passed; None where nothing is in progress."""
    limit = deadline_s(deployment)
    condition = conditions.find(status.get("conditions"), "Progressing")
    if limit is None or condition is None or condition.get("status") != "True":
        return None
    if condition.get("reason") == "NewReplicaSetAvailable":
        return None
    return max(0.0, meta.parse_time(condition["lastUpdateTime"]) + limit - now) + 1


def _counts(everything: Sequence[Object], new: Object | None) -> dict[str, int]:
    def total(field: str) -> int:
        return sum(status_of(each).get(field) or 0 for each in everything)

    available, present = total("availableReplicas"), total("replicas")
    return {
        "replicas": present,
        "updatedReplicas": (status_of(new).get("replicas") or 0) if new else 0,
        "readyReplicas": total("readyReplicas"),
        "availableReplicas": available,
        "unavailableReplicas": max(0, sum(replicas(each) for each in everything) - available),
    }


def _availability(deployment: Object, available: int) -> Condition:
    _, unavailable_max = bounds(deployment)
    if available >= replicas(deployment) - unavailable_max:
        return _condition("Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    message = "Deployment does not have minimum availability."
    return _condition("Available", "False", "MinimumReplicasUnavailable", message)


def _progress(
    deployment: Object,
    counts: dict[str, int],
    everything: Sequence[Object],
    new: Object | None,
    found: list[Condition],
    now: float,
    created: str,
    failure: str,
) -> list[Condition]:
    current = conditions.find(found, "Progressing")
    reason = current.get("reason") if current else ""
    if failure:
        return _set(found, _condition("Progressing", "False", "ReplicaSetCreateError", failure), now)
    if spec(deployment).get("paused"):
        return _set(found, _condition("Progressing", "Unknown", "DeploymentPaused", "Deployment is paused"), now)
    if reason == "DeploymentPaused":
        found = _set(found, _condition("Progressing", "Unknown", "DeploymentResumed", "Deployment is resumed"), now)
        current = conditions.find(found, "Progressing")
    if created:
        message = f'Created new replica set "{created}"'
        return _set(found, _condition("Progressing", "True", "NewReplicaSetCreated", message), now)
    subject = f'ReplicaSet "{meta.name(new)}"' if new else f'Deployment "{meta.name(deployment)}"'
    if is_complete(deployment, everything, new):
        done = _condition("Progressing", "True", "NewReplicaSetAvailable", f"{subject} has successfully progressed.")
        return _set(found, done, now)
    if reason == "NewReplicaSetAvailable" and counts["replicas"] == counts["updatedReplicas"]:
        return found  # complete before: pods that come and go now, or a change of size, are no rollout
    if _has_progressed(status_of(deployment), counts):
        moving = _condition("Progressing", "True", "ReplicaSetUpdated", f"{subject} is progressing.")
        return _set(found, moving, now, always=True)
    if current is None and new is not None:
        message = f'Found new replica set "{meta.name(new)}"'
        return _set(found, _condition("Progressing", "True", "FoundNewReplicaSet", message), now)
    if _is_late(deployment, current, now):
        late = _condition("Progressing", "False", "ProgressDeadlineExceeded", f"{subject} has timed out progressing.")
        return _set(found, late, now)
    return found


def _has_progressed(before: dict[str, Any], counts: dict[str, int]) -> bool:
    old_before = (before.get("replicas") or 0) - (before.get("updatedReplicas") or 0)
    return (
        counts["updatedReplicas"] > (before.get("updatedReplicas") or 0)
        or counts["replicas"] - counts["updatedReplicas"] < old_before
        or counts["readyReplicas"] > (before.get("readyReplicas") or 0)
        or counts["availableReplicas"] > (before.get("availableReplicas") or 0)
    )


def _is_late(deployment: Object, current: Condition | None, now: float) -> bool:
    limit = deadline_s(deployment)
    if current is None or limit is None or not current.get("lastUpdateTime"):
        return False
    if current.get("reason") in ("NewReplicaSetAvailable", "DeploymentPaused"):
        return False
    if current.get("reason") == "ProgressDeadlineExceeded":
        return True
    return meta.parse_time(current["lastUpdateTime"]) + limit < now


def _failures(found: list[Condition], by_rank: Sequence[Object], now: float, failure: str) -> list[Condition]:
    """A failure to create pods is the ReplicaSet's to report; the newest one's counts."""
    for each in by_rank:
        condition = conditions.find(status_of(each).get("conditions"), "ReplicaFailure")
        if condition is not None:
            shown = _condition("ReplicaFailure", condition["status"], condition["reason"], condition["message"])
            return _set(found, shown, now)
    return [condition for condition in found if condition["type"] != "ReplicaFailure"]


def _condition(kind: str, status: str, reason: str, message: str) -> Condition:
    return {"type": kind, "status": status, "reason": reason, "message": message}


def _set(found: list[Condition], new: Condition, now: float, *, always: bool = False) -> list[Condition]:
    current = conditions.find(found, new["type"])
    if current and not always and (current["status"], current.get("reason")) == (new["status"], new["reason"]):
        return found
    at = meta.format_time(now)
    return conditions.updated(found, {**new, "lastUpdateTime": at}, at)
