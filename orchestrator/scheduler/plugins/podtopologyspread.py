"""PodTopologySpread: Pods of a kind spread over the domains of a topology key (zones, hosts).

A hard constraint (DoNotSchedule) keeps every domain within `maxSkew` of the emptiest; a soft one (ScheduleAnyway) makes
fuller domains less welcome. Counted are Pods of the same namespace that the constraint's selector matches, on nodes
that the Pod could use (node affinity is honoured, taints if asked for) and that carry all the keys.
Pods without constraints of their own get the cluster's: by default soft ones over hosts and zones for Pods of one
Service or workload, which ask no node to have the keys.
Source: core/v1 TopologySpreadConstraint; KEP-895, KEP-3022 (minDomains), KEP-3094 (inclusion policies), KEP-3243
(matchLabelKeys).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from orchestrator.scheduler.changes import NODE_CHANGES, POD_CHANGES, Change, ChangeKind
from orchestrator.scheduler.columns import Mask, Numbers, Rows
from orchestrator.scheduler.framework import SCORE_MAX, Cycle, Plugin, Rejection
from orchestrator.scheduler.plugins.nodeaffinity import matching_nodes
from orchestrator.scheduler.plugins.tainttoleration import tolerates
from orchestrator.scheduler.pod import Pod
from orchestrator.scheduler.podcounts import Group
from orchestrator.scheduler.snapshot import Snapshot
from orchestrator.scheduler.terms import SpreadConstraint, spread_constraint

HOSTNAME = "kubernetes.io/hostname"
ZONE = "topology.kubernetes.io/zone"
SYSTEM_DEFAULTS: tuple[Mapping[str, Any], ...] = (
    {"maxSkew": 3, "topologyKey": HOSTNAME, "whenUnsatisfiable": "ScheduleAnyway"},
    {"maxSkew": 5, "topologyKey": ZONE, "whenUnsatisfiable": "ScheduleAnyway"},
)
_PREFIX = "node(s) didn't match pod topology spread constraints"


class _Constraints(Struct, frozen=True):
    """`needs_keys`: only nodes with every key take part."""

    constraints: tuple[SpreadConstraint, ...]
    needs_keys: bool


class PodTopologySpread(Plugin):
    name = "PodTopologySpread"
    hears = NODE_CHANGES | POD_CHANGES | {ChangeKind.NODE_DELETED}

    def __init__(self, args: Mapping[str, Any] | None = None) -> None:
        args = args or {}
        self._is_system_default = args.get("defaultingType", "System") == "System"
        defaults = SYSTEM_DEFAULTS if self._is_system_default else args.get("defaultConstraints") or ()
        self._defaults = tuple(spread_constraint(constraint) for constraint in defaults)

    def _constraints(self, cycle: Cycle, *, hard: bool) -> _Constraints | None:
        own = cycle.demand.spread
        if own:
            chosen = tuple(one.for_labels(cycle.pod.labels) for one in own if one.is_hard is hard)
            return _Constraints(chosen, needs_keys=True) if chosen else None
        defaults = [one for one in self._defaults if one.is_hard is hard]
        if not defaults:
            return None
        selector = cycle.listers.owner_selector(cycle.pod)
        if selector is None:
            return None
        chosen = tuple(replace(one, selector=selector) for one in defaults)
        return _Constraints(chosen, needs_keys=hard or not self._is_system_default)

    def filter(self, cycle: Cycle) -> Mask | None:
        hard = self._constraints(cycle, hard=True)
        if hard is None:
            return None
        allowed = _with_keys(cycle.snapshot, hard.constraints)
        for constraint in hard.constraints:
            allowed = allowed & _within_skew(cycle, constraint, hard)
        return allowed

    def explain(self, cycle: Cycle, rejected: Mask) -> Sequence[Rejection]:
        hard = self._constraints(cycle, hard=True)
        assert hard is not None
        lacking = rejected & ~_with_keys(cycle.snapshot, hard.constraints)
        skewed = rejected & ~lacking
        found = (
            [Rejection(lacking, f"{_PREFIX} (missing required label)", is_resolvable=False)] if lacking.any() else []
        )
        return [*found, Rejection(skewed, _PREFIX)] if skewed.any() else found

    def score(self, cycle: Cycle, feasible: Mask) -> Numbers | None:
        soft = self._constraints(cycle, hard=False)
        if soft is None:
            return None
        scored = feasible & _with_keys(cycle.snapshot, soft.constraints) if soft.needs_keys else feasible
        count = int(np.count_nonzero(scored))
        if not count:
            return None
        total = np.zeros(cycle.snapshot.capacity)
        for constraint in soft.constraints:
            total += _crowding(cycle, constraint, soft, scored, count)
        return _inverted(np.rint(total), scored)

    def helps(self, change: Change, pod: Pod) -> bool:
        constraints = pod.demand.spread or self._defaults
        if change.kind is ChangeKind.NODE_DELETED:
            return True  # the emptiest domain may be gone
        if (node := change.better_node) is not None:
            old = change.old_node
            return any(
                one.topology_key in node.labels
                and (old is None or old.labels.get(one.topology_key) != node.labels[one.topology_key])
                for one in constraints
            ) or (old is not None and old.taints != node.taints)
        if change.pod is None or change.pod.namespace != pod.namespace:
            return False
        moved = [one.labels for one in (change.old_pod, change.pod) if one is not None]
        return any(one.for_labels(pod.labels).selector.matches(labels) for one in constraints for labels in moved)


def _with_keys(snapshot: Snapshot, constraints: Sequence[SpreadConstraint]) -> Mask:
    keys = tuple(dict.fromkeys(constraint.topology_key for constraint in constraints))
    found: Mask | None = snapshot.node_answers.get(("keys", keys))
    if found is None:
        found = snapshot.alive.copy()
        for key in keys:
            found &= snapshot.label(key).codes > 0
        snapshot.remember(("keys", keys), found)
    return found


def _eligible_key(cycle: Cycle, constraint: SpreadConstraint, among: _Constraints) -> tuple[object, ...]:
    keys = tuple(one.topology_key for one in among.constraints) if among.needs_keys else ()
    return cycle.demand, keys, constraint.honors_affinity, constraint.honors_taints


def _eligible(cycle: Cycle, constraint: SpreadConstraint, among: _Constraints) -> Mask:
    """The nodes whose Pods count: with the keys, and usable by the Pod as the inclusion policies say."""
    snapshot, demand = cycle.snapshot, cycle.demand
    cache_key = ("eligible", *_eligible_key(cycle, constraint, among))
    found: Mask | None = snapshot.node_answers.get(cache_key)
    if found is None:
        found = _with_keys(snapshot, among.constraints).copy() if among.needs_keys else snapshot.alive.copy()
        if constraint.honors_affinity and not demand.node_selector.is_everything:
            found &= matching_nodes(snapshot, demand.node_selector)
        if constraint.honors_taints:
            found &= snapshot.taints.where(lambda taints: tolerates(demand, taints))
        snapshot.remember(cache_key, found)
    return found


def _group(cycle: Cycle, constraint: SpreadConstraint) -> Numbers:
    group = Group(frozenset((cycle.pod.namespace,)), (constraint.selector,), counts_terminating=False)
    return cycle.snapshot.pod_count(group)


def _within_skew(cycle: Cycle, constraint: SpreadConstraint, among: _Constraints) -> Mask:
    column = cycle.snapshot.label(constraint.topology_key)
    eligible = _eligible(cycle, constraint, among)
    counts = np.bincount(column.codes, _group(cycle, constraint) * eligible, len(column.values))
    domains = _domains(cycle, constraint, among)
    fewest = counts[domains].min() if len(domains) >= max(1, constraint.min_domains) else 0.0
    itself = 1 if constraint.selector.matches(cycle.pod.labels) else 0
    return (counts + itself - fewest <= constraint.max_skew)[column.codes]


def _domains(cycle: Cycle, constraint: SpreadConstraint, among: _Constraints) -> Rows:
    """The codes of the domains that the Pod could be in."""
    key = ("domains", constraint.topology_key, *_eligible_key(cycle, constraint, among))
    found: Rows | None = cycle.snapshot.node_answers.get(key)
    if found is None:
        column = cycle.snapshot.label(constraint.topology_key)
        found = np.unique(column.codes[_eligible(cycle, constraint, among)])
        cycle.snapshot.remember(key, found)
    return found


def _crowding(
    cycle: Cycle, constraint: SpreadConstraint, among: _Constraints, scored: Mask, scored_count: int
) -> Numbers:
    """Matching Pods in each node's domain, weighed up the more the more domains there are."""
    column = cycle.snapshot.label(constraint.topology_key)
    counts = _group(cycle, constraint)
    if constraint.topology_key == HOSTNAME:
        size = scored_count
    else:
        is_domain = np.zeros(len(column.values), np.bool_)
        is_domain[column.codes[scored]] = True
        size = int(np.count_nonzero(is_domain))
        counts = column.sums(counts * _eligible(cycle, constraint, among))
    crowding = counts * math.log(size + 2) + float(constraint.max_skew - 1)
    return np.where(column.codes > 0, crowding, 0.0)


def _inverted(crowding: Numbers, scored: Mask) -> Numbers | None:
    """100 × (max + min - own) / max: the emptiest gets most. Nodes that are not scored get 0."""
    among = crowding[scored]
    largest, smallest = among.max(), among.min()
    if not largest:
        return None if scored.all() else np.where(scored, SCORE_MAX, 0.0)
    return np.where(scored, np.floor(SCORE_MAX * (largest + smallest - crowding) / largest), 0.0)
