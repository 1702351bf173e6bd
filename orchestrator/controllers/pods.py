"""Facts about pods that controllers decide by: active, ready, available, and which to delete first.

Source: API reference, Pod v1; Concepts, "Pod Lifecycle"; the deletion order is the ReplicaSet controller's (Concepts,
ReplicaSet, "Scaling a ReplicaSet").
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from orchestrator.api import conditions, meta
from orchestrator.api.meta import Object
from orchestrator.controllers.fields import copied, spec, status_of

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
_PHASE_RANK = {"Pending": 0, "": 0, "Unknown": 1, "Running": 2}


def phase(pod: Object) -> str:
    return status_of(pod).get("phase") or ""


def node_name(pod: Object) -> str:
    return spec(pod).get("nodeName") or ""


def is_terminal(pod: Object) -> bool:
    return phase(pod) in ("Succeeded", "Failed")


def is_active(pod: Object) -> bool:
    """Counts towards its controller's replicas: neither ended nor being deleted."""
    return not is_terminal(pod) and not meta.is_deleting(pod)


def is_ready(pod: Object) -> bool:
    return conditions.is_true(pod, "Ready")


def ready_since(pod: Object) -> float | None:
    condition = conditions.find(status_of(pod).get("conditions"), "Ready")
    if condition is None or condition.get("status") != "True" or not condition.get("lastTransitionTime"):
        return None
    return meta.parse_time(condition["lastTransitionTime"])


def available_in_s(pod: Object, min_ready_s: int, now: float) -> float | None:
    """0 if the pod is available, the seconds until it will be if it stays ready, None while it is not ready."""
    if not is_ready(pod):
        return None
    if not min_ready_s:
        return 0.0
    since = ready_since(pod)
    return None if since is None else max(0.0, since + min_ready_s - now)


def is_available(pod: Object, min_ready_s: int, now: float) -> bool:
    return available_in_s(pod, min_ready_s, now) == 0


def restarts(pod: Object) -> int:
    return max((status.get("restartCount", 0) for status in status_of(pod).get("containerStatuses") or ()), default=0)


def created_at(obj: Object) -> float:
    text = meta.metadata(obj).get("creationTimestamp")
    return meta.parse_time(text) if text else 0.0


def deletion_cost(pod: Object) -> int:
    try:
        return int(meta.annotations(pod).get(DELETION_COST, "0"))
    except ValueError:
        return 0


def deletion_rank(pod: Object, on_same_node: int, now: float) -> tuple[Any, ...]:
    """Pods sorted by this are deleted from the front: unassigned, pending, not ready, cheap, doubled up on a node,
    ready only lately, restarted often, young. Ages are compared by their logarithm, so that among pods of like age the
    uid decides, not the last one started."""
    is_ready_pod = is_ready(pod)
    return (
        bool(node_name(pod)),
        _PHASE_RANK.get(phase(pod), 0),
        is_ready_pod,
        deletion_cost(pod),
        -on_same_node,
        _log_age(ready_since(pod), now) if is_ready_pod else 0,
        -restarts(pod),
        _log_age(created_at(pod), now),
        meta.uid(pod),
    )


def _log_age(since: float | None, now: float) -> int:
    age = now - since if since is not None else 0
    return int(math.log2(age)) if age >= 1 else -1


def from_template(template: Mapping[str, Any], owner: Object, *, name: str = "", prefix: str = "") -> Object:
    """The pod that a controller creates from its template, owned by the controller."""
    described = meta.metadata(template)
    made: dict[str, Any] = {"namespace": meta.namespace(owner), "ownerReferences": [meta.owner_reference(owner)]}
    if name:
        made["name"] = name
    else:
        made["generateName"] = prefix or f"{meta.name(owner)}-"
    for part in ("labels", "annotations"):
        if described.get(part):
            made[part] = dict(described[part])
    if described.get("finalizers"):
        made["finalizers"] = list(described["finalizers"])
    return {"apiVersion": "v1", "kind": "Pod", "metadata": made, "spec": copied(template.get("spec") or {})}
