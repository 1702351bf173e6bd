"""DaemonSet: one pod on each node that the template may be on. Pure.

A pod is made for its node by a required affinity to the node's name; the scheduler binds it. Daemons tolerate what
ordinary pods do not: nodes that are not ready, unreachable, under pressure or cordoned. A pod that a node no longer
takes is deleted; so is an ended one, which is then made again. A rolling update replaces at most `maxUnavailable` pods
at a time, those that are not available first and without counting; with `maxSurge` the new pod comes first.
Source: Concepts, DaemonSet; API reference apps/v1 DaemonSet; KEP-1591 surge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.controllers import pods
from orchestrator.controllers.fields import cleaned, copied, scaled, spec, status_of
from orchestrator.controllers.history import REVISION_LABEL
from orchestrator.controllers.node_selection import is_selected, is_tolerated

TOLERATIONS = (
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
)
NETWORK_UNAVAILABLE = ("node.kubernetes.io/network-unavailable", "NoSchedule")  # for daemons of the host network
GENERATION_LABEL = "pod-template-generation"
BURST_MAX = 250


class Observed(Struct, frozen=True):
    owner: Object
    nodes: tuple[Object, ...]
    pods: tuple[Object, ...]
    revision: str  # the hash that pods of the present template carry
    now: float


class Plan(Struct, frozen=True):
    create_on: tuple[str, ...] = ()
    delete: tuple[Object, ...] = ()
    failed: tuple[Object, ...] = ()  # of the deleted ones, those that ended by themselves


class Placement(Struct, frozen=True):
    should_run: bool
    should_stay: bool


def place(owner: Object, node: Object) -> Placement:
    template = (spec(owner).get("template") or {}).get("spec") or {}
    tolerations = with_daemon_tolerations(template)
    selected = is_selected(template, node) and template.get("nodeName") in (None, "", meta.name(node))
    return Placement(
        selected and is_tolerated(tolerations, node, ("NoSchedule", "NoExecute")),
        selected and is_tolerated(tolerations, node, ("NoExecute",)),
    )


def with_daemon_tolerations(pod_spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = list(pod_spec.get("tolerations") or ())
    wanted = [*TOLERATIONS, *([NETWORK_UNAVAILABLE] if pod_spec.get("hostNetwork") else [])]
    for key, effect in wanted:
        toleration = {"key": key, "operator": "Exists", "effect": effect}
        if toleration not in found:
            found.append(toleration)
    return found


def node_of(pod: Object) -> str:
    """The node that a daemon is on or made for."""
    if pods.node_name(pod):
        return pods.node_name(pod)
    affinity = (spec(pod).get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    for term in required.get("nodeSelectorTerms") or ():
        for each in term.get("matchFields") or ():
            if each.get("key") == "metadata.name" and each.get("values"):
                return str(each["values"][0])
    return ""


def by_node(owned: Sequence[Object]) -> dict[str, list[Object]]:
    found: dict[str, list[Object]] = {}
    for pod in owned:
        found.setdefault(node_of(pod), []).append(pod)
    return found


def plan(seen: Observed) -> Plan:
    if meta.is_deleting(seen.owner):
        return Plan()
    create, delete, failed = _presence(seen)
    if not create and not delete:
        create, delete = _update(seen)
    return Plan(tuple(create[:BURST_MAX]), tuple(delete[:BURST_MAX]), tuple(failed))


def _presence(seen: Observed) -> tuple[list[str], list[Object], list[Object]]:
    """A pod where one should be, none elsewhere, and not two of one revision."""
    create: list[str] = []
    delete: list[Object] = []
    failed: list[Object] = []
    placed = by_node(seen.pods)
    known = {meta.name(node) for node in seen.nodes}
    surges = _bounds(seen)[0] > 0
    for node in seen.nodes:
        placement, here = place(seen.owner, node), placed.get(meta.name(node), [])
        if not placement.should_stay:
            delete.extend(pod for pod in here if not meta.is_deleting(pod))
            continue
        alive = []
        for pod in here:
            if meta.is_deleting(pod):
                continue
            if pods.is_terminal(pod):
                delete.append(pod)
                failed.append(pod)
            else:
                alive.append(pod)
        if not here and placement.should_run:
            create.append(meta.name(node))
        delete.extend(_duplicates(seen, alive, surges))
    for name, here in placed.items():
        if name not in known:
            delete.extend(pod for pod in here if not meta.is_deleting(pod))
    return create, delete, failed


def _duplicates(seen: Observed, alive: Sequence[Object], surges: bool) -> list[Object]:
    """All but the oldest, a bound one first; while an update surges, one of each revision."""
    ordered = sorted(alive, key=lambda pod: (not pods.node_name(pod), pods.created_at(pod), meta.name(pod)))
    if not surges:
        return ordered[1:]
    new = [pod for pod in ordered if _is_new(seen, pod)]
    old = [pod for pod in ordered if not _is_new(seen, pod)]
    return [*new[1:], *old[1:]]


def _is_new(seen: Observed, pod: Object) -> bool:
    return meta.labels(pod).get(REVISION_LABEL) == seen.revision


def _is_available(seen: Observed, pod: Object) -> bool:
    min_ready_s = spec(seen.owner).get("minReadySeconds") or 0
    return not meta.is_deleting(pod) and pods.is_available(pod, min_ready_s, seen.now)


def desired(seen: Observed) -> list[Object]:
    return [node for node in seen.nodes if place(seen.owner, node).should_run]


def _bounds(seen: Observed) -> tuple[int, int]:
    """(maxSurge, maxUnavailable) as pods; both zero would never move."""
    rolling = (spec(seen.owner).get("updateStrategy") or {}).get("rollingUpdate") or {}
    count = len(desired(seen))
    surge = scaled(rolling.get("maxSurge", 0), count, round_up=True)
    unavailable = scaled(rolling.get("maxUnavailable", 1), count, round_up=True)
    return surge, unavailable if surge or unavailable else 1


def _update(seen: Observed) -> tuple[list[str], list[Object]]:
    strategy = (spec(seen.owner).get("updateStrategy") or {}).get("type") or "RollingUpdate"
    if strategy != "RollingUpdate":
        return [], []
    surge, unavailable_max = _bounds(seen)
    placed = by_node(seen.pods)
    wanted = {meta.name(node) for node in desired(seen)}
    pairs = {
        name: (
            next((pod for pod in here if _is_new(seen, pod)), None),
            next((pod for pod in here if not _is_new(seen, pod)), None),
        )
        for name, here in sorted(placed.items())
    }
    if surge:
        return _surge(seen, pairs, wanted, surge, unavailable_max)
    return [], _replace(seen, pairs, wanted, unavailable_max)


Pairs = Mapping[str, tuple[Object | None, Object | None]]


def _replace(seen: Observed, pairs: Pairs, wanted: set[str], unavailable_max: int) -> list[Object]:
    unavailable = len(wanted - set(pairs))
    at_once: list[Object] = []
    candidates: list[Object] = []
    for name, (new, old) in pairs.items():
        if new is not None:
            unavailable += name in wanted and not _is_available(seen, new)
        elif old is not None and not _is_available(seen, old):
            unavailable += name in wanted
            if not meta.is_deleting(old):
                at_once.append(old)
        elif old is not None:
            candidates.append(old)
    return [*at_once, *candidates[: max(0, unavailable_max - unavailable)]]


def _surge(
    seen: Observed, pairs: Pairs, wanted: set[str], surge_max: int, unavailable_max: int
) -> tuple[list[str], list[Object]]:
    create: list[str] = []
    candidates: list[str] = []
    delete: list[Object] = []
    surging = unavailable = 0
    for name, (new, old) in pairs.items():
        if old is None:
            unavailable += name in wanted and new is not None and not _is_available(seen, new)
        elif new is None:
            if meta.is_deleting(old):
                continue
            if _is_available(seen, old):
                candidates.append(name)
            else:
                create.append(name)  # nothing to lose
        elif _is_available(seen, new):
            if not meta.is_deleting(old):
                delete.append(old)
        else:
            surging += 1
            if not _is_available(seen, old) and not meta.is_deleting(old) and unavailable < unavailable_max:
                delete.append(old)
    room = max(0, surge_max - surging - len(create))
    return [*create, *candidates[:room]], delete


def pod_for(owner: Object, node: str, revision: str) -> Object:
    """The daemon of one node: it can be nowhere else."""
    pod = pods.from_template(spec(owner).get("template") or {}, owner)
    labels = pod["metadata"].setdefault("labels", {})
    labels[REVISION_LABEL] = revision
    if generation := meta.annotations(owner).get("deprecated.daemonset.template.generation"):
        labels[GENERATION_LABEL] = generation
    described = pod["spec"]
    described["tolerations"] = with_daemon_tolerations(described)
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    affinity = described.setdefault("affinity", {}).setdefault("nodeAffinity", {})
    required = copied(affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {})
    terms = required.get("nodeSelectorTerms") or [{}]
    # The name replaces other requirements on fields; those on labels stay, as each term must hold by itself.
    required["nodeSelectorTerms"] = [{**each, **term} for each in terms]
    affinity["requiredDuringSchedulingIgnoredDuringExecution"] = required
    return pod


def next_status(seen: Observed) -> dict[str, Any]:
    placed = by_node(seen.pods)
    counts = dict.fromkeys(("scheduled", "misscheduled", "desired", "ready", "available", "updated"), 0)
    for node in seen.nodes:
        here = [pod for pod in placed.get(meta.name(node), []) if not pods.is_terminal(pod)]
        placement = place(seen.owner, node)
        if not placement.should_run:
            counts["misscheduled"] += bool(here) and not placement.should_stay
            continue
        counts["desired"] += 1
        if not here:
            continue
        counts["scheduled"] += 1
        ordered = sorted(here, key=lambda pod: (not _is_available(seen, pod), not pods.is_ready(pod), meta.name(pod)))
        first = ordered[0]
        counts["ready"] += pods.is_ready(first)
        counts["available"] += pods.is_ready(first) and _is_available(seen, first)
        counts["updated"] += any(_is_new(seen, pod) for pod in here)
    optional = {
        "observedGeneration": meta.generation(seen.owner),
        "updatedNumberScheduled": counts["updated"],
        "numberAvailable": counts["available"],
        "numberUnavailable": counts["desired"] - counts["available"],
        "collisionCount": status_of(seen.owner).get("collisionCount"),
    }
    return {
        "currentNumberScheduled": counts["scheduled"],
        "numberMisscheduled": counts["misscheduled"],
        "desiredNumberScheduled": counts["desired"],
        "numberReady": counts["ready"],
        **cleaned(optional),
    }
