"""InterPodAffinity: Pods that want to be near, or far from, other Pods, in domains of a topology key.

Required: every affinity term needs a matching Pod in the node's domain, no anti-affinity term may have one, and no Pod
that is there already may have an anti-affinity term that matches this one. A Pod that matches its own affinity terms
may be the first of its kind. Preferred terms add their weight for each matching Pod of the domain, those of the Pods
that are there count towards this one too, and their required affinity with `hardPodAffinityWeight`.
Source: core/v1 PodAffinity, PodAntiAffinity; KEP-2249 (namespaceSelector), KEP-3633 (matchLabelKeys).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from orchestrator.api import meta
from orchestrator.scheduler.changes import NODE_CHANGES, POD_CHANGES, Change
from orchestrator.scheduler.columns import Mask, Numbers
from orchestrator.scheduler.framework import SCORE_MAX, Cycle, Plugin, Rejection
from orchestrator.scheduler.pod import Pod
from orchestrator.scheduler.podcounts import Group, HeldTerm, TermKind
from orchestrator.scheduler.terms import PodTerm


class InterPodAffinity(Plugin):
    name = "InterPodAffinity"
    hears = NODE_CHANGES | POD_CHANGES

    def __init__(self, args: Mapping[str, Any] | None = None) -> None:
        args = args or {}
        self._hard_weight = float(args.get("hardPodAffinityWeight", 1))
        self._ignores_existing = bool(args.get("ignorePreferredTermsOfExistingPods"))

    def filter(self, cycle: Cycle) -> Mask | None:
        masks = [mask for mask in (_affine(cycle), _not_repelled(cycle), _not_repelling(cycle)) if mask is not None]
        if not masks:
            return None
        return masks[0] if len(masks) == 1 else np.logical_and.reduce(masks)

    def explain(self, cycle: Cycle, rejected: Mask) -> Sequence[Rejection]:
        """In kube-scheduler's order: a node counts for the first rule that it breaks."""
        rules = (
            (_affine(cycle), "node(s) didn't match pod affinity rules", False),
            (_not_repelled(cycle), "node(s) didn't match pod anti-affinity rules", True),
            (_not_repelling(cycle), "node(s) didn't satisfy existing pods anti-affinity rules", True),
        )
        found = []
        for mask, reason, is_resolvable in rules:
            if mask is not None and (nodes := rejected & ~mask).any():
                found.append(Rejection(nodes, reason, is_resolvable))
                rejected = rejected & mask
        return found

    def score(self, cycle: Cycle, feasible: Mask) -> Numbers | None:
        total: Numbers | None = None
        for own in cycle.demand.affinity.preferred:
            attraction = own.weight * _domain_sums(cycle, own.term, _count(cycle, (own.term,)))
            total = attraction if total is None else total + attraction
        for held, counts in _held(cycle):
            weight = self._weight(held, bool(cycle.demand.affinity.preferred))
            if weight:
                attraction = weight * _domain_sums(cycle, held.term, counts)
                total = attraction if total is None else total + attraction
        if total is None:
            return None
        among = total[feasible]
        smallest, largest = min(0.0, among.min()), max(0.0, among.max())
        return np.floor(SCORE_MAX * (total - smallest) / (largest - smallest)) if largest > smallest else None

    def _weight(self, held: HeldTerm, has_own: bool) -> float:
        if held.kind is TermKind.REQUIRED:
            return self._hard_weight
        if held.kind is TermKind.REQUIRED_ANTI or (self._ignores_existing and not has_own):
            return 0.0
        return held.weight

    def helps(self, change: Change, pod: Pod) -> bool:
        affinity = pod.demand.affinity
        own = affinity.required + affinity.required_anti
        if (node := change.better_node) is not None:
            old = change.old_node
            changed = old is None or old.labels != node.labels
            return changed and (not own or any(term.topology_key in node.labels for term in own))
        if change.pod is None:
            return False
        if any(_may_match(term, one) for term in own for one in (change.pod, change.old_pod) if one is not None):
            return True
        gone = change.old_pod or change.pod
        return any(_may_match(term, pod) for term in gone.demand.affinity.required_anti)


def _may_match(term: PodTerm, pod: Pod) -> bool:
    """Without the labels of namespaces, which hints do not see: a selector of namespaces counts as matching."""
    in_namespace = pod.namespace in term.namespaces or not term.namespace_selector.nothing
    return in_namespace and term.selector.matches(pod.labels)


def _namespaces(cycle: Cycle, term: PodTerm) -> frozenset[str]:
    if term.namespace_selector.nothing:
        return term.namespaces
    selected = (
        meta.name(namespace)
        for namespace in cycle.listers.namespaces.list()
        if term.namespace_selector.matches(meta.labels(namespace))
    )
    return term.namespaces | frozenset(selected)


def _count(cycle: Cycle, terms: Sequence[PodTerm]) -> Numbers:
    """By row, the Pods that match all of the terms."""
    namespaces = frozenset.intersection(*(_namespaces(cycle, term) for term in terms))
    selectors = tuple(dict.fromkeys(term.selector for term in terms))
    return cycle.snapshot.pod_count(Group(namespaces, selectors))


def _domain_sums(cycle: Cycle, term: PodTerm, counts: Numbers) -> Numbers:
    return cycle.snapshot.label(term.topology_key).sums(counts)


def _affine(cycle: Cycle) -> Mask | None:
    """Nodes whose domains hold Pods that match all the required terms. Where there are none anywhere, a Pod that
    matches its own terms goes to any node that has the keys."""
    terms = cycle.demand.affinity.required
    if not terms:
        return None
    counts = _count(cycle, terms)
    sums = [_domain_sums(cycle, term, counts) for term in terms]
    if not any(one.any() for one in sums) and _matches_itself(cycle, terms):
        masks = [cycle.snapshot.label(term.topology_key).codes > 0 for term in terms]
    else:
        masks = [one > 0 for one in sums]
    return np.logical_and.reduce(masks)


def _matches_itself(cycle: Cycle, terms: Sequence[PodTerm]) -> bool:
    pod = cycle.pod
    labels = cycle.listers.namespace_labels(pod.namespace)
    return all(term.matches(pod.namespace, labels, pod.labels) for term in terms)


def _not_repelled(cycle: Cycle) -> Mask | None:
    """Nodes in whose domains no Pod matches this Pod's anti-affinity."""
    terms = cycle.demand.affinity.required_anti
    if not terms:
        return None
    return np.logical_and.reduce([_domain_sums(cycle, term, _count(cycle, (term,))) <= 0 for term in terms])


def _not_repelling(cycle: Cycle) -> Mask | None:
    """Nodes in whose domains no Pod has an anti-affinity that matches this Pod."""
    masks = [
        _domain_sums(cycle, held.term, counts) <= 0
        for held, counts in _held(cycle)
        if held.kind is TermKind.REQUIRED_ANTI
    ]
    return np.logical_and.reduce(masks) if masks else None


def _held(cycle: Cycle) -> list[tuple[HeldTerm, Numbers]]:
    counts = cycle.snapshot.counts
    if not counts.has_terms:
        return []
    pod = cycle.pod
    labels = cycle.listers.namespace_labels(pod.namespace)
    return list(counts.terms_matching(pod.namespace, labels, pod.labels))
