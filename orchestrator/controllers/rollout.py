"""Rollout: how a Deployment moves its replicas from old ReplicaSets to the new one. Pure; nothing is read or written.

The *new* ReplicaSet is the one whose template is the Deployment's; every other is *old*. RollingUpdate keeps between
`replicas - maxUnavailable` available pods and `replicas + maxSurge` pods in all; old ReplicaSets lose their unhealthy
pods first. Recreate waits until no old pod runs. A change of `spec.replicas` in the middle is spread over all
ReplicaSets in proportion to their sizes; they remember the Deployment's size in annotations, which is how a change is
noticed. One pass decides one step; the events of its effects bring the next.
Source: Concepts, Deployment; API reference apps/v1 Deployment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.controllers import pods
from orchestrator.controllers.fields import copied, replicas, scaled, spec, status_of
from orchestrator.controllers.template_hash import template_hash

HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MAXIMUM = "deployment.kubernetes.io/max-replicas"
NOT_COPIED = {
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED,
    MAXIMUM,
    "deprecated.deployment.rollback.to",
}
REVISION_HISTORY_LIMIT = 10


class Observed(Struct, frozen=True):
    deployment: Object
    replica_sets: tuple[Object, ...]
    running: Mapping[str, int]  # uid of a ReplicaSet → pods of it that have not ended


class CreateReplicaSet(Struct, frozen=True):
    replica_set: Object


class ScaleReplicaSet(Struct, frozen=True):
    """To `replicas`; the annotations are set with it."""

    replica_set: Object
    replicas: int
    annotations: Mapping[str, str]


class UpdateReplicaSet(Struct, frozen=True):
    """Annotations and minReadySeconds follow the Deployment's."""

    replica_set: Object
    annotations: Mapping[str, str]
    min_ready_s: int


class DeleteReplicaSet(Struct, frozen=True):
    replica_set: Object


class SetRevision(Struct, frozen=True):
    """The Deployment's own revision annotation."""

    revision: str


Action = CreateReplicaSet | ScaleReplicaSet | UpdateReplicaSet | DeleteReplicaSet | SetRevision


def plan(seen: Observed) -> list[Action]:
    deployment = seen.deployment
    if meta.is_deleting(deployment):
        return []
    new, old = split(deployment, seen.replica_sets)
    if spec(deployment).get("paused") or is_scaling(deployment, seen.replica_sets):
        actions = _follow(deployment, new, old) if new else []
        actions = actions or _spread(deployment, new, old)
        if actions or spec(deployment).get("paused"):
            return actions or _clean_up(deployment, old)
    if strategy(deployment) == "Recreate":
        return _recreate(deployment, new, old, seen.running)
    return _roll(deployment, new, old)


# What the Deployment says


def strategy(deployment: Object) -> str:
    return (spec(deployment).get("strategy") or {}).get("type") or "RollingUpdate"


def bounds(deployment: Object) -> tuple[int, int]:
    """(maxSurge, maxUnavailable) as pods; both zero would never move, so one may then be unavailable."""
    if strategy(deployment) == "Recreate":
        return 0, 0
    rolling = (spec(deployment).get("strategy") or {}).get("rollingUpdate") or {}
    wanted = replicas(deployment)
    surge = scaled(rolling.get("maxSurge", "25%"), wanted, round_up=True)
    unavailable = scaled(rolling.get("maxUnavailable", "25%"), wanted, round_up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return surge, min(unavailable, wanted)


def split(deployment: Object, replica_sets: Sequence[Object]) -> tuple[Object | None, list[Object]]:
    """(new, old ones by age). Of several with the Deployment's template the oldest is the new one."""
    ordered = sorted(replica_sets, key=_age)
    template = _comparable(spec(deployment).get("template") or {})
    new = next((each for each in ordered if _comparable(spec(each).get("template") or {}) == template), None)
    return new, [each for each in ordered if each is not new]


def _age(replica_set: Object) -> tuple[float, str]:
    return pods.created_at(replica_set), meta.name(replica_set)


def _comparable(template: Mapping[str, Any]) -> dict[str, Any]:
    described = {name: value for name, value in (template.get("metadata") or {}).items() if value}
    if HASH_LABEL in (described.get("labels") or {}):
        labels = {name: value for name, value in described["labels"].items() if name != HASH_LABEL}
        described = {**described, "labels": labels}
        if not labels:
            del described["labels"]
    return {"metadata": described, "spec": template.get("spec") or {}}


def is_scaling(deployment: Object, replica_sets: Sequence[Object]) -> bool:
    """Whether `spec.replicas` is another than the ReplicaSets with pods were made for."""
    wanted = str(replicas(deployment))
    active = (each for each in replica_sets if replicas(each) > 0)
    return any(meta.annotations(each).get(DESIRED, wanted) != wanted for each in active)


def sizes(deployment: Object) -> dict[str, str]:
    """What a ReplicaSet remembers of the Deployment's size."""
    surge, _ = bounds(deployment)
    wanted = replicas(deployment)
    return {DESIRED: str(wanted), MAXIMUM: str(wanted + surge if wanted else 0)}


def revision(obj: Object) -> int:
    text = meta.annotations(obj).get(REVISION, "")
    return int(text) if text.isdecimal() else 0


# Steps


def _roll(deployment: Object, new: Object | None, old: Sequence[Object]) -> list[Action]:
    if new is None:
        return [_creation(deployment, old)]
    actions = _follow(deployment, new, old)
    if actions:
        return actions
    wanted = replicas(deployment)
    everything = [*old, new]
    if replicas(new) != wanted:
        target = wanted if replicas(new) > wanted else replicas(new) + _room(deployment, new, everything)
        if target != replicas(new):
            return [_scale(deployment, new, target)]
    return _shrink_old(deployment, new, old) or _finish(deployment, new, old)


def _room(deployment: Object, new: Object | None, everything: Sequence[Object]) -> int:
    """How many pods the new ReplicaSet may get now."""
    surge, _ = bounds(deployment)
    wanted = replicas(deployment)
    total = sum(replicas(each) for each in everything)
    return max(0, min(wanted + surge - total, wanted - (replicas(new) if new else 0)))


def _shrink_old(deployment: Object, new: Object, old: Sequence[Object]) -> list[Action]:
    """First what is not available anyway, then what can be spared of the available."""
    active = [each for each in old if replicas(each) > 0]
    _, unavailable_max = bounds(deployment)
    available_min = replicas(deployment) - unavailable_max
    total = sum(replicas(each) for each in [*active, new])
    spare = total - available_min - (replicas(new) - _lasting(new))
    if spare <= 0:
        return []
    size = {meta.uid(each): replicas(each) for each in active}
    for each in active:
        taken = min(spare, max(0, replicas(each) - _lasting(each)))
        size[meta.uid(each)] -= taken
        spare -= taken
    can_go = sum(_lasting(each) for each in [*active, new]) - available_min
    for each in active:
        taken = max(0, min(can_go, size[meta.uid(each)]))
        size[meta.uid(each)] -= taken
        can_go -= taken
    return [_scale(deployment, each, size[meta.uid(each)]) for each in active if size[meta.uid(each)] != replicas(each)]


def _lasting(replica_set: Object) -> int:
    """Available pods that the ReplicaSet will not delete itself: it may have more than it wants, for a moment."""
    return min(_available(replica_set), replicas(replica_set))


def _available(replica_set: Object) -> int:
    return status_of(replica_set).get("availableReplicas") or 0


def _recreate(
    deployment: Object, new: Object | None, old: Sequence[Object], running: Mapping[str, int]
) -> list[Action]:
    shrinking: list[Action] = [_scale(deployment, each, 0) for each in old if replicas(each) > 0]
    if shrinking:
        return shrinking
    if any(running.get(meta.uid(each)) for each in old):
        return []
    if new is None:
        return [_creation(deployment, old)]
    actions = _follow(deployment, new, old)
    if not actions and replicas(new) != replicas(deployment):
        actions = [_scale(deployment, new, replicas(deployment))]
    return actions or _finish(deployment, new, old)


def _finish(deployment: Object, new: Object, old: Sequence[Object]) -> list[Action]:
    return _clean_up(deployment, old) if is_complete(deployment, [*old, new], new) else []


def is_complete(deployment: Object, everything: Sequence[Object], new: Object | None) -> bool:
    """All replicas are of the new template and available, and no old pod is left."""
    wanted = replicas(deployment)
    updated = (status_of(new).get("replicas") or 0) if new else 0
    total = sum(status_of(each).get("replicas") or 0 for each in everything)
    available = sum(_available(each) for each in everything)
    return updated == total == available == wanted


def _spread(deployment: Object, new: Object | None, old: Sequence[Object]) -> list[Action]:
    """A change of size while paused or in the middle of a rollout."""
    wanted = replicas(deployment)
    everything = [*old, *([new] if new else [])]
    active = [each for each in everything if replicas(each) > 0]
    if len(active) <= 1:
        latest = active[0] if active else new or (old[-1] if old else None)
        if latest is None:
            return []
        stale = any(meta.annotations(latest).get(name) != value for name, value in sizes(deployment).items())
        return [_scale(deployment, latest, wanted)] if replicas(latest) != wanted or stale else []
    if new is not None and replicas(new) == wanted and _available(new) == wanted:
        return [_scale(deployment, each, 0) for each in old if replicas(each) > 0]  # saturated: old ones are surplus
    if strategy(deployment) == "Recreate":
        return []
    return _in_proportion(deployment, active)


def _in_proportion(deployment: Object, active: Sequence[Object]) -> list[Action]:
    surge, _ = bounds(deployment)
    wanted = replicas(deployment)
    allowed = wanted + surge if wanted else 0
    to_add = allowed - sum(replicas(each) for each in active)
    # The largest first; among equals the newer grow and the older shrink first. What rounding leaves, the first takes.
    newer_first = sorted(active, key=_age, reverse=to_add > 0)
    ordered = sorted(newer_first, key=replicas, reverse=True)
    size: dict[str, int] = {}
    added = 0
    for each in ordered:
        share = _share(deployment, each, surge) if to_add else 0
        left = to_add - added
        share = max(0, min(share, left)) if to_add > 0 else min(0, max(share, left))
        size[meta.uid(each)] = replicas(each) + share
        added += share
    if ordered:
        first = meta.uid(ordered[0])
        size[first] = max(0, size[first] + to_add - added)
    return [_scale(deployment, each, size[meta.uid(each)]) for each in ordered]


def _share(deployment: Object, replica_set: Object, surge: int) -> int:
    wanted = replicas(deployment)
    if wanted == 0:
        return -replicas(replica_set)
    text = meta.annotations(replica_set).get(MAXIMUM, "")
    before = int(text) if text.isdecimal() else status_of(deployment).get("replicas") or 0
    if not before:
        return 0
    exact = replicas(replica_set) * (wanted + surge) / before
    return int(exact + 0.5) - replicas(replica_set)  # half up, for sizes are never negative


def _clean_up(deployment: Object, old: Sequence[Object]) -> list[Action]:
    """The oldest revisions beyond the limit, of ReplicaSets that are empty and have said so."""
    limit = spec(deployment).get("revisionHistoryLimit")
    limit = REVISION_HISTORY_LIMIT if limit is None else limit
    alive = [each for each in old if not meta.is_deleting(each)]
    surplus = sorted(alive, key=lambda each: (revision(each), _age(each)))[: max(0, len(alive) - limit)]
    return [DeleteReplicaSet(each) for each in surplus if _is_empty(each)]


def _is_empty(replica_set: Object) -> bool:
    seen = status_of(replica_set)
    return (
        replicas(replica_set) == 0
        and not seen.get("replicas")
        and meta.generation(replica_set) <= (seen.get("observedGeneration") or 0)
    )


# Actions


def _scale(deployment: Object, replica_set: Object, target: int) -> Action:
    return ScaleReplicaSet(replica_set, target, sizes(deployment))


def _inherited(deployment: Object) -> dict[str, str]:
    return {name: value for name, value in meta.annotations(deployment).items() if name not in NOT_COPIED}


def _creation(deployment: Object, old: Sequence[Object]) -> Action:
    wanted_spec = spec(deployment)
    template = copied(wanted_spec.get("template") or {})
    hashed = template_hash(template, status_of(deployment).get("collisionCount") or 0)
    labels = {**(template.setdefault("metadata", {}).get("labels") or {}), HASH_LABEL: hashed}
    template["metadata"]["labels"] = labels
    selector = copied(wanted_spec.get("selector") or {})
    selector["matchLabels"] = {**(selector.get("matchLabels") or {}), HASH_LABEL: hashed}
    number = max((revision(each) for each in old), default=0) + 1
    made: Object = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{meta.name(deployment)}-{hashed}",
            "namespace": meta.namespace(deployment),
            "ownerReferences": [meta.owner_reference(deployment)],
            "labels": labels,
            "annotations": {**_inherited(deployment), **sizes(deployment), REVISION: str(number)},
        },
        "spec": {"replicas": 0, "selector": selector, "template": template},
    }
    if wanted_spec.get("minReadySeconds"):
        made["spec"]["minReadySeconds"] = wanted_spec["minReadySeconds"]
    made["spec"]["replicas"] = (
        replicas(deployment) if strategy(deployment) == "Recreate" else _room(deployment, None, old)
    )
    return CreateReplicaSet(made)


def _follow(deployment: Object, new: Object, old: Sequence[Object]) -> list[Action]:
    """The new ReplicaSet's annotations, revision and minReadySeconds, and the Deployment's revision."""
    current = meta.annotations(new)
    number = max((revision(each) for each in old), default=0) + 1
    wanted = dict(_inherited(deployment))
    if revision(new) < number:
        wanted[REVISION] = str(number)
        if REVISION in current:  # an old revision that became the new one again
            earlier = current.get(REVISION_HISTORY, "")
            wanted[REVISION_HISTORY] = f"{earlier},{current[REVISION]}" if earlier else current[REVISION]
    changes = {name: value for name, value in wanted.items() if current.get(name) != value}
    min_ready_s = spec(deployment).get("minReadySeconds") or 0
    if changes or min_ready_s != (spec(new).get("minReadySeconds") or 0):
        return [UpdateReplicaSet(new, changes, min_ready_s)]
    if meta.annotations(deployment).get(REVISION) != current.get(REVISION):
        return [SetRevision(current.get(REVISION, ""))]
    return []
