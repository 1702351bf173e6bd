"""NodeResourcesFit: what the Pod asks must be free on the node; nodes are scored by what is then used.

Strategies: LeastAllocated spreads load, MostAllocated packs it, RequestedToCapacityRatio follows a given shape. Scores
count CPU and memory with defaults for containers that ask nothing; other resources as they are requested. A score is
rounded down for each resource and again for their weighted mean, as kube-scheduler's integers are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from msgspec import Struct

from orchestrator.scheduler.changes import NODE_CHANGES, Change, ChangeKind
from orchestrator.scheduler.columns import Mask, Numbers
from orchestrator.scheduler.framework import SCORE_MAX, Cycle, Plugin, Rejection
from orchestrator.scheduler.pod import Pod
from orchestrator.scheduler.resources import CPU, MEMORY, PODS
from orchestrator.scheduler.snapshot import Some

LEAST, MOST, RATIO = "LeastAllocated", "MostAllocated", "RequestedToCapacityRatio"
DEFAULT_RESOURCES: tuple[Mapping[str, Any], ...] = ({"name": CPU, "weight": 1}, {"name": MEMORY, "weight": 1})
_SHAPE_SCORE_MAX = 10  # of a RequestedToCapacityRatio shape


class NodeResourcesFit(Plugin):
    name = "NodeResourcesFit"
    hears = NODE_CHANGES | {ChangeKind.POD_DELETED, ChangeKind.POD_UPDATED}

    def __init__(self, args: Mapping[str, Any] | None = None) -> None:
        args = args or {}
        strategy = args.get("scoringStrategy") or {}
        self._strategy = strategy.get("type") or LEAST
        self._weights = resource_weights(strategy.get("resources"))
        self._ignored = frozenset(args.get("ignoredResources") or ())
        self._ignored_groups = frozenset(args.get("ignoredResourceGroups") or ())
        shape = (strategy.get("requestedToCapacityRatio") or {}).get("shape") or ()
        self._utilization = [float(point["utilization"]) for point in shape]
        self._scores = [float(point["score"]) * SCORE_MAX / _SHAPE_SCORE_MAX for point in shape]

    def filter(self, cycle: Cycle) -> Mask | None:
        demanded = self._demanded(cycle)

        def fits(rows: Some) -> Mask:
            mask: Mask = cycle.snapshot.free[demanded[0][0]][rows] >= demanded[0][1]
            for index, value in demanded[1:]:
                mask &= cycle.snapshot.free[index][rows] >= value
            return mask

        return cycle.snapshot.by_row((self, "fits", cycle.demand), fits)

    def _demanded(self, cycle: Cycle) -> tuple[tuple[int, float], ...]:
        demanded = cycle.snapshot.demanded(cycle.demand)
        if not self._ignored and not self._ignored_groups:
            return demanded
        ignored = {
            index
            for resource, index in cycle.snapshot.resource_index.items()
            if resource in self._ignored or resource.partition("/")[0] in self._ignored_groups
        }
        return tuple(pair for pair in demanded if pair[0] not in ignored)

    def explain(self, cycle: Cycle, rejected: Mask) -> Sequence[Rejection]:
        """Every resource that is short counts; a request above the node's whole capacity no preemption can help."""
        snapshot = cycle.snapshot
        names = {index: resource for resource, index in snapshot.resource_index.items()}
        rejections = []
        for index, value in self._demanded(cycle):
            short = rejected & (snapshot.free[index] < value)
            hopeless = short & (snapshot.allocatable[index] < value)
            reason = "Too many pods" if names[index] == PODS else f"Insufficient {names[index]}"
            for nodes, is_resolvable in ((hopeless, False), (short & ~hopeless, True)):
                if nodes.any():
                    rejections.append(Rejection(nodes, reason, is_resolvable))
        return rejections

    def score(self, cycle: Cycle, feasible: Mask) -> Numbers | None:
        return cycle.snapshot.by_row((self, "score", cycle.demand), lambda rows: self._scores_of(cycle, rows))

    def _scores_of(self, cycle: Cycle, rows: Some) -> Numbers:
        weighted, weights = np.zeros(cycle.snapshot.capacity)[rows], np.zeros(1)
        for resource, weight in self._weights:
            use = use_with(cycle, resource, rows)
            if use is None:
                continue
            scores = self._score(use) * weight
            weighted += scores if use.has_some is None else scores * use.has_some
            weights = weights + (weight if use.has_some is None else weight * use.has_some)
        return np.floor(weighted / np.maximum(weights, 1.0))

    def _score(self, use: Use) -> Numbers:
        if self._strategy == LEAST:
            scores = np.floor((use.capacity - use.used) * SCORE_MAX / use.capacity)
            return np.maximum(scores, 0.0, out=scores)
        utilization = np.minimum(np.floor(use.used * SCORE_MAX / use.capacity), SCORE_MAX)
        if self._strategy == MOST:
            return utilization
        return np.floor(np.interp(utilization, self._utilization, self._scores))

    def helps(self, change: Change, pod: Pod) -> bool:
        if change.kind is ChangeKind.POD_DELETED and change.pod is not None:
            return True  # at least one Pod fewer, and what it asked
        if change.kind is ChangeKind.POD_UPDATED and change.pod is not None and change.old_pod is not None:
            return _has_shrunk(change.old_pod, change.pod)
        node, old = change.better_node, change.old_node
        if node is None:
            return False
        fits = all(node.allocatable.get(resource, 0) >= value for resource, value in pod.demand.requests)
        has_grown = old is None or any(value > old.allocatable.get(name, 0) for name, value in node.allocatable.items())
        return fits and has_grown


def resource_weights(resources: Sequence[Mapping[str, Any]] | None) -> tuple[tuple[str, float], ...]:
    return tuple((one["name"], float(one.get("weight") or 1)) for one in resources or DEFAULT_RESOURCES)


class Use(Struct, frozen=True):
    """Of one resource by row: what there is (1 where there is none), what would be used with this Pod, and which
    nodes have it at all (None for all)."""

    capacity: Numbers
    used: Numbers
    has_some: Mask | None


def use_with(cycle: Cycle, resource: str, rows: Some, *, with_defaults: bool = True) -> Use | None:
    """None where the Pod does not ask for the resource and it is neither CPU nor memory: it says nothing then."""
    snapshot = cycle.snapshot
    index = snapshot.resource_index.get(resource)
    if index is None:
        return None
    if with_defaults and resource in (CPU, MEMORY):
        asked = cycle.demand.scored_cpu_millis if resource == CPU else cycle.demand.scored_memory_bytes
        used = snapshot.scored[index][rows] + asked
    else:
        asked = next((value for name, value in cycle.demand.requests if name == resource), 0)
        if not asked and resource not in (CPU, MEMORY):
            return None
        used = snapshot.requested[index][rows] + asked
    capacity, has_some = snapshot.divisor(index)
    return Use(capacity[rows], used, None if has_some is None else has_some[rows])


def _has_shrunk(old: Pod, new: Pod) -> bool:
    now = dict(new.demand.requests)
    return any(now.get(resource, 0) < value for resource, value in old.demand.requests)
