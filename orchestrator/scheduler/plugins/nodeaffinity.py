"""NodeAffinity: spec.nodeSelector and required node affinity must match the node; preferred terms add their weight.

`added` is an affinity that the profile requires of all its Pods (NodeAffinityArgs.addedAffinity).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from orchestrator.api.selectors import Requirement
from orchestrator.scheduler import terms
from orchestrator.scheduler.changes import Change
from orchestrator.scheduler.columns import Mask, Numbers
from orchestrator.scheduler.framework import Cycle, Plugin, Rejection, normalized
from orchestrator.scheduler.pod import Pod
from orchestrator.scheduler.snapshot import Snapshot
from orchestrator.scheduler.terms import NAME_FIELD, NodeSelector, NodeTerm


class NodeAffinity(Plugin):
    name = "NodeAffinity"
    for_nodes_alone = True

    def __init__(self, args: Mapping[str, Any] | None = None) -> None:
        added = {"affinity": {"nodeAffinity": (args or {}).get("addedAffinity") or {}}}
        self._added = terms.pod_node_selector(added)
        self._added_preferred = terms.preferred_node_terms(added)

    def rejects(self, cycle: Cycle) -> str | None:
        names = _named_nodes(cycle.demand.node_selector)
        return "pod affinity terms conflict" if names is not None and not names else None

    def narrows(self, cycle: Cycle) -> Mask | None:
        names = _named_nodes(cycle.demand.node_selector)
        if not names:
            return None
        mask: Mask = np.zeros(cycle.snapshot.capacity, np.bool_)
        mask[[cycle.snapshot.row_of[name] for name in names if name in cycle.snapshot.row_of]] = True
        return mask

    def filter(self, cycle: Cycle) -> Mask | None:
        masks = [
            matching_nodes(cycle.snapshot, selector)
            for selector in (self._added, cycle.demand.node_selector)
            if not selector.is_everything
        ]
        return np.logical_and.reduce(masks) if masks else None

    def explain(self, cycle: Cycle, rejected: Mask) -> Sequence[Rejection]:
        enforced = np.zeros_like(rejected)
        if not self._added.is_everything:
            enforced = rejected & ~matching_nodes(cycle.snapshot, self._added)
        reasons = (
            (enforced, "node(s) didn't match scheduler-enforced node affinity"),
            (rejected & ~enforced, "node(s) didn't match Pod's node affinity/selector"),
        )
        return [Rejection(nodes, reason, is_resolvable=False) for nodes, reason in reasons if nodes.any()]

    def score(self, cycle: Cycle, feasible: Mask) -> Numbers | None:
        preferred = self._added_preferred + cycle.demand.preferred_nodes
        if not preferred:
            return None
        key = (self.name, "score", cycle.demand)
        weights = cycle.snapshot.node_answers.get(key)
        if weights is None:
            weights = np.zeros(cycle.snapshot.capacity)
            for term in preferred:
                weights += term.weight * _term_matches(cycle.snapshot, term.term)
            cycle.snapshot.remember(key, weights)
        return normalized(weights, feasible)

    def helps(self, change: Change, pod: Pod) -> bool:
        node = change.better_node
        if node is None:
            return False
        return all(selector.matches(node.name, node.labels) for selector in (self._added, pod.demand.node_selector))


def _named_nodes(selector: NodeSelector) -> frozenset[str] | None:
    """The nodes that the terms ask for by name, as a DaemonSet's Pods do; None where some term asks by labels alone."""
    names: frozenset[str] = frozenset()
    for term in selector.terms or ():
        asked = [one.values for one in term.fields if one.key == NAME_FIELD and one.operator == "In"]
        if not asked:
            return None
        names |= frozenset.intersection(*asked)
    return names if selector.terms else None


def matching_nodes(snapshot: Snapshot, selector: NodeSelector) -> Mask:
    """The nodes that match; kept by the snapshot, for Pods of many demands share their selectors."""
    key = ("matching", selector)
    found: Mask | None = snapshot.node_answers.get(key)
    if found is None:
        found = snapshot.alive.copy()
        for one in selector.selector:
            found &= _matches(snapshot, one)
        if selector.terms is not None:
            matches = [_term_matches(snapshot, term) for term in selector.terms]
            found &= np.logical_or.reduce(matches) if matches else False
        snapshot.remember(key, found)
    return found


def _term_matches(snapshot: Snapshot, term: NodeTerm) -> Mask:
    if not term.labels and not term.fields:
        return np.zeros(snapshot.capacity, np.bool_)
    mask = snapshot.alive.copy()
    for one in term.labels:
        mask &= _matches(snapshot, one)
    for one in term.fields:
        mask &= _name_matches(snapshot, one)
    return mask


def _matches(snapshot: Snapshot, one: Requirement) -> Mask:
    return snapshot.label(one.key).where(lambda value: one.matches({} if value is None else {one.key: value}))


def _name_matches(snapshot: Snapshot, one: Requirement) -> Mask:
    """Of matchFields, in which only metadata.name may stand, with In or NotIn."""
    named: Mask = np.zeros(snapshot.capacity, np.bool_)
    if one.key != NAME_FIELD:
        return named
    rows = [snapshot.row_of[name] for name in one.values if name in snapshot.row_of]
    named[rows] = True
    return named if one.operator == "In" else snapshot.alive & ~named
