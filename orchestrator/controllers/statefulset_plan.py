"""StatefulSet: pods with stable names, in order. Pure.

Pods are `<set>-<ordinal>` from the start ordinal on. OrderedReady goes one step at a time: a pod is created only when
all before it are running, ready and available, and scaled down from the end, one by one. Parallel does not wait.
A rolling update goes from the last ordinal down to the partition, waiting for each; a pod below the partition is made
from the current revision, any other from the update revision. Ended pods are deleted and made again.
Invariant: a name is given to a new pod only after the old pod of that name is gone from the API.
Source: Concepts, StatefulSets; API reference apps/v1 StatefulSet.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.controllers import pods
from orchestrator.controllers.fields import cleaned, copied, replicas, scaled, spec, status_of
from orchestrator.controllers.history import REVISION_LABEL

POD_NAME = "statefulset.kubernetes.io/pod-name"
POD_INDEX = "apps.kubernetes.io/pod-index"


class Revision(Struct, frozen=True):
    name: str
    template: Mapping[str, Any]


class Observed(Struct, frozen=True):
    owner: Object
    pods: tuple[Object, ...]
    current: Revision
    update: Revision
    now: float


class CreatePod(Struct, frozen=True):
    """Its claims come first."""

    pod: Object
    claims: tuple[Object, ...]


class DeletePod(Struct, frozen=True):
    pod: Object


Action = CreatePod | DeletePod


def plan(seen: Observed) -> list[Action]:
    owner = seen.owner
    if meta.is_deleting(owner):
        return []
    wanted, condemned = split(owner, seen.pods)
    ordered = (spec(owner).get("podManagementPolicy") or "OrderedReady") == "OrderedReady"
    actions: list[Action] = []
    for ordinal, pod in wanted.items():
        if pod is None:
            actions.append(_creation(seen, ordinal))
            step_taken = True
        elif pods.is_terminal(pod) and not meta.is_deleting(pod):
            actions.append(DeletePod(pod))
            step_taken = True
        else:
            step_taken = False
        if ordered and (step_taken or pod is None or not is_healthy(owner, pod, seen.now)):
            return actions
    scaling = _scale_down(seen, condemned, ordered)
    if scaling is None:
        return actions
    actions.extend(scaling)
    if actions and ordered:
        return actions
    return actions or _update(seen, [pod for pod in wanted.values() if pod is not None])


def _scale_down(seen: Observed, condemned: Sequence[Object], ordered: bool) -> list[Action] | None:
    """From the highest ordinal; None where it has to wait. In order a pod that is not available goes only when it is
    the first of those: what lies before it is well, and nothing is lost by its going."""
    owner, now = seen.owner, seen.now
    first = next((pod for pod in reversed(condemned) if not is_healthy(owner, pod, now)), None)
    actions: list[Action] = []
    for pod in condemned:
        if meta.is_deleting(pod):
            if ordered:
                return None
            continue
        if ordered and pod is not first and not is_healthy(owner, pod, now):
            return None
        actions.append(DeletePod(pod))
        if ordered:
            return actions
    return actions


def _update(seen: Observed, current: Sequence[Object]) -> list[Action]:
    strategy = spec(seen.owner).get("updateStrategy") or {}
    if (strategy.get("type") or "RollingUpdate") != "RollingUpdate":
        return []
    rolling = strategy.get("rollingUpdate") or {}
    unavailable_max = max(1, scaled(rolling.get("maxUnavailable", 1), replicas(seen.owner), round_up=True))
    unavailable = 0
    actions: list[Action] = []
    first = start_ordinal(seen.owner) + (rolling.get("partition") or 0)
    for pod in reversed(current):
        if ordinal_of(seen.owner, pod) < first or unavailable >= unavailable_max:
            break
        if revision_of(pod) != seen.update.name and not meta.is_deleting(pod):
            actions.append(DeletePod(pod))
            unavailable += 1
        elif not is_healthy(seen.owner, pod, seen.now):
            unavailable += 1
    return actions


def split(owner: Object, owned: Sequence[Object]) -> tuple[dict[int, Object | None], list[Object]]:
    """(ordinal → its pod or None, for each ordinal that should be; the others, highest ordinal first)."""
    start = start_ordinal(owner)
    wanted: dict[int, Object | None] = {start + index: None for index in range(replicas(owner))}
    condemned = []
    for pod in owned:
        ordinal = ordinal_of(owner, pod)
        if ordinal in wanted:
            wanted[ordinal] = pod
        elif ordinal >= 0:
            condemned.append(pod)
    return wanted, sorted(condemned, key=lambda pod: -ordinal_of(owner, pod))


def start_ordinal(owner: Object) -> int:
    return int((spec(owner).get("ordinals") or {}).get("start") or 0)


def ordinal_of(owner: Object, pod: Object) -> int:
    """-1 for a pod that is not named like the set's."""
    match = re.fullmatch(rf"{re.escape(meta.name(owner))}-(0|[1-9][0-9]*)", meta.name(pod))
    return int(match.group(1)) if match else -1


def revision_of(pod: Object) -> str:
    return meta.labels(pod).get(REVISION_LABEL, "")


def is_running_and_ready(pod: Object) -> bool:
    return pods.phase(pod) == "Running" and pods.is_ready(pod)


def is_healthy(owner: Object, pod: Object, now: float) -> bool:
    """Running, ready for `minReadySeconds`, and staying."""
    min_ready_s = spec(owner).get("minReadySeconds") or 0
    return is_running_and_ready(pod) and not meta.is_deleting(pod) and pods.is_available(pod, min_ready_s, now)


def next_status(seen: Observed, actions: Sequence[Action] = ()) -> dict[str, Any]:
    """Counts of what was seen; the update revision becomes the current one when all pods are of it and ready."""
    owner = seen.owner
    min_ready_s = spec(owner).get("minReadySeconds") or 0
    wanted = replicas(owner)
    staying = [pod for pod in seen.pods if not meta.is_deleting(pod)]
    counts = {
        "replicas": len(seen.pods),
        "readyReplicas": sum(is_running_and_ready(pod) for pod in seen.pods),
        "availableReplicas": sum(
            is_running_and_ready(pod) and pods.is_available(pod, min_ready_s, seen.now) for pod in seen.pods
        ),
        "currentReplicas": sum(revision_of(pod) == seen.current.name for pod in staying),
        "updatedReplicas": sum(revision_of(pod) == seen.update.name for pod in staying),
    }
    current = seen.current.name
    strategy = (spec(owner).get("updateStrategy") or {}).get("type") or "RollingUpdate"
    is_updated = counts["updatedReplicas"] == counts["replicas"] == counts["readyReplicas"] == wanted
    if strategy == "RollingUpdate" and is_updated and not actions:
        current, counts["currentReplicas"] = seen.update.name, counts["updatedReplicas"]
    rest = cleaned({name: value for name, value in counts.items() if name not in ("replicas", "availableReplicas")})
    return {
        "observedGeneration": meta.generation(owner),
        "replicas": counts["replicas"],
        "availableReplicas": counts["availableReplicas"],
        **rest,
        "currentRevision": current,
        "updateRevision": seen.update.name,
        "collisionCount": status_of(owner).get("collisionCount") or 0,
    }


# What is created


def _creation(seen: Observed, ordinal: int) -> Action:
    owner = seen.owner
    strategy = spec(owner).get("updateStrategy") or {}
    partition = (strategy.get("rollingUpdate") or {}).get("partition") or 0
    is_rolling = (strategy.get("type") or "RollingUpdate") == "RollingUpdate"
    is_old = is_rolling and ordinal - start_ordinal(owner) < partition
    revision = seen.current if is_old else seen.update
    pod = pods.from_template(revision.template, owner, name=f"{meta.name(owner)}-{ordinal}")
    labels = pod["metadata"].setdefault("labels", {})
    labels |= {REVISION_LABEL: revision.name, POD_NAME: meta.name(pod), POD_INDEX: str(ordinal)}
    described = pod["spec"]
    described["hostname"] = meta.name(pod)
    if spec(owner).get("serviceName"):
        described["subdomain"] = spec(owner)["serviceName"]
    claims = claims_of(owner, ordinal)
    if claims:
        templates = {meta.name(template) for template in spec(owner).get("volumeClaimTemplates") or ()}
        kept = [volume for volume in described.get("volumes") or () if volume["name"] not in templates]
        described["volumes"] = kept + [
            {"name": template, "persistentVolumeClaim": {"claimName": claim_name(owner, template, ordinal)}}
            for template in sorted(templates)
        ]
    return CreatePod(pod, tuple(claims))


def claim_name(owner: Object, template: str, ordinal: int) -> str:
    return f"{template}-{meta.name(owner)}-{ordinal}"


def owners_of_claim(owner: Object, pod: Object, claim: Object) -> list[Object] | None:
    """The owner references that the set's policy wants of a claim of one of its pods; None where it has them.

    With `whenDeleted: Delete` the set owns it, with `whenScaled: Delete` a pod that scaling takes away. A claim that
    has another controller, or is of an earlier set or pod of that name, is left to the garbage collector. KEP-1847.
    """
    references = meta.owner_references(claim)
    own = [ref for ref in references for holder in (owner, pod) if _is_named(ref, holder)]
    if any(ref.get("uid") not in (meta.uid(owner), meta.uid(pod)) for ref in own):
        return None
    policy = spec(owner).get("persistentVolumeClaimRetentionPolicy") or {}
    with_set, with_pod = policy.get("whenDeleted") == "Delete", policy.get("whenScaled") == "Delete"
    made = [ref for ref in references if ref not in own]
    is_leaving = not 0 <= ordinal_of(owner, pod) - start_ordinal(owner) < int(spec(owner).get("replicas") or 0)
    if not ((with_set or with_pod) and any(ref.get("controller") for ref in made)):
        if with_pod and is_leaving:
            made.append(meta.owner_reference(pod))
        elif with_set:
            made.append(meta.owner_reference(owner))
    return made if made != references else None


def _is_named(reference: Object, holder: Object) -> bool:
    named = (reference.get("apiVersion"), reference.get("kind"), reference.get("name"))
    return named == (holder["apiVersion"], holder["kind"], meta.name(holder))


def claims_of(owner: Object, ordinal: int) -> list[Object]:
    """The PersistentVolumeClaims of one ordinal; they outlive pods, and the set unless its policy says otherwise."""
    policy = spec(owner).get("persistentVolumeClaimRetentionPolicy") or {}
    found = []
    for template in spec(owner).get("volumeClaimTemplates") or ():
        claim = copied(template)
        labels = (spec(owner).get("selector") or {}).get("matchLabels") or {}
        described = {
            **meta.metadata(claim),
            "name": claim_name(owner, meta.name(template), ordinal),
            "namespace": meta.namespace(owner),
            "labels": {**meta.labels(claim), **labels},
        }
        if policy.get("whenDeleted") == "Delete":
            described["ownerReferences"] = [meta.owner_reference(owner)]
        claim |= {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": described}
        claim.pop("status", None)
        found.append(claim)
    return found
