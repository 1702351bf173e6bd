"""How many Pods of a kind each node has: what spreading and affinity between Pods ask.

`PodCount` counts the Pods that a selector matches in some namespaces. `TermCount` counts the Pods that themselves have
a certain affinity term, for their terms concern Pods that come later. Both are registered when they are first needed,
counted once over all Pods, and then kept by each Pod that comes or goes. The number of PodCounts is bounded: 5,000
nodes × 8 bytes × 512 = 20 MB; the one that was asked for longest ago goes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import Enum

import numpy as np
from msgspec import Struct

from orchestrator.api.selectors import LabelSelector
from orchestrator.scheduler.columns import Numbers, grown
from orchestrator.scheduler.pod import Pod
from orchestrator.scheduler.selectorindex import SelectorIndex
from orchestrator.scheduler.terms import PodTerm

POD_COUNTS_MAX = 512


class Group(Struct, frozen=True):
    """The Pods that are meant. `counts_terminating`: spreading leaves out Pods on their way out, affinity does not."""

    namespaces: frozenset[str]
    selectors: tuple[LabelSelector, ...]  # all match
    counts_terminating: bool = True

    def contains(self, pod: Pod) -> bool:
        if pod.is_terminating and not self.counts_terminating:
            return False
        return pod.namespace in self.namespaces and all(selector.matches(pod.labels) for selector in self.selectors)


class TermKind(Enum):
    REQUIRED = "required"
    REQUIRED_ANTI = "required-anti"
    PREFERRED = "preferred"


class HeldTerm(Struct, frozen=True):
    """A term that Pods on nodes hold; `weight` is that of a preferred one."""

    kind: TermKind
    term: PodTerm
    weight: int = 0


def held_terms(pod: Pod) -> Iterator[HeldTerm]:
    affinity = pod.demand.affinity
    for term in affinity.required:
        yield HeldTerm(TermKind.REQUIRED, term)
    for term in affinity.required_anti:
        yield HeldTerm(TermKind.REQUIRED_ANTI, term)
    for weighted in affinity.preferred:
        yield HeldTerm(TermKind.PREFERRED, weighted.term, weighted.weight)


class PodCounts:
    """All counts of a snapshot. Rows are the snapshot's."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._groups: dict[Group, Numbers] = {}  # the most recently asked for last
        self._group_index: SelectorIndex[Group] = SelectorIndex()
        self._terms: dict[HeldTerm, Numbers] = {}
        self._holders: dict[HeldTerm, int] = {}
        self._term_index: SelectorIndex[HeldTerm] = SelectorIndex()

    def grow(self, capacity: int) -> None:
        self._capacity = capacity
        self._groups = {group: grown(counts, capacity) for group, counts in self._groups.items()}
        self._terms = {term: grown(counts, capacity) for term, counts in self._terms.items()}

    def add(self, pod: Pod, row: int, sign: int) -> None:
        """A Pod comes to (`sign` 1) or leaves (-1) a node."""
        for group in self._group_index.candidates(pod.labels):
            if group.contains(pod):
                self._groups[group][row] += sign
        for held in held_terms(pod):
            self._hold(held, row, sign)

    def _hold(self, held: HeldTerm, row: int, sign: int) -> None:
        counts = self._terms.get(held)
        if counts is None:
            counts = self._terms[held] = np.zeros(self._capacity)
            self._term_index.add(held, held.term.selector)
        counts[row] += sign
        self._holders[held] = self._holders.get(held, 0) + sign
        if not self._holders[held]:
            del self._holders[held], self._terms[held]
            self._term_index.remove(held, held.term.selector)

    def count(self, group: Group, everyone: Iterable[tuple[int, Pod]]) -> Numbers:
        """Pods of the group by row; `everyone` (row, Pod) is read only when the group is new."""
        counts = self._groups.pop(group, None)
        if counts is None:
            counts = np.zeros(self._capacity)
            for row, pod in everyone:
                if group.contains(pod):
                    counts[row] += 1
            if len(self._groups) >= POD_COUNTS_MAX:
                oldest = next(iter(self._groups))
                del self._groups[oldest]
                self._group_index.remove(oldest, _indexed(oldest))
            self._group_index.add(group, _indexed(group))
        self._groups[group] = counts
        return counts

    @property
    def has_terms(self) -> bool:
        return bool(self._terms)

    def terms_matching(
        self, namespace: str, namespace_labels: Mapping[str, str], labels: Mapping[str, str]
    ) -> Iterator[tuple[HeldTerm, Numbers]]:
        """The terms of Pods on nodes that match a Pod, and how many hold each, by row."""
        for held in self._term_index.candidates(labels):
            if held.term.matches(namespace, namespace_labels, labels):
                yield held, self._terms[held]


def _indexed(group: Group) -> LabelSelector:
    return group.selectors[0]
