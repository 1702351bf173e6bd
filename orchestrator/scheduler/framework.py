"""The scheduling framework: what a plugin is, and how a profile's plugins decide together.

    rejects  → is the Pod impossible everywhere?   (kube-scheduler's PreFilter)
    filter   → which nodes fit?                     for all nodes at once: a mask
    score    → which of them is best?               for all nodes at once: 0 to 100 each

The Pod goes to the node of the largest weighted sum; among equals a seeded random choice decides. When no node fits,
plugins are asked once more to `explain`: per node only the first plugin that said no counts, as in kube-scheduler.
Filters whose answer depends on nodes alone (`for_nodes_alone`) are asked once for each demand and kept by the snapshot.
Deviation: every feasible node is scored; there is no percentageOfNodesToScore, for arrays need no sampling.
Source: KEP-624 scheduling framework.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import ClassVar

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from orchestrator.scheduler.changes import NODE_CHANGES, Change, ChangeKind
from orchestrator.scheduler.columns import Mask, Numbers
from orchestrator.scheduler.listers import Listers
from orchestrator.scheduler.pod import Demand, Pod
from orchestrator.scheduler.snapshot import Snapshot

SCORE_MAX = 100.0


class Cycle(Struct, frozen=True):
    """One Pod's decision: what plugins see."""

    pod: Pod
    snapshot: Snapshot
    listers: Listers

    @property
    def demand(self) -> Demand:
        return self.pod.demand


class Rejection(Struct, frozen=True):
    """Why some nodes do not fit. `is_resolvable`: might fit if Pods were removed from them."""

    nodes: Mask
    reason: str
    is_resolvable: bool = True


class Plugin:
    """The extension points, each of which a plugin may leave as it is."""

    name: ClassVar[str] = ""
    for_nodes_alone: ClassVar[bool] = False  # filter depends on nodes and demand only, not on Pods
    hears: ClassVar[frozenset[ChangeKind]] = NODE_CHANGES  # the kinds of changes for which `helps` is asked

    def rejects(self, cycle: Cycle) -> str | None:
        """The reason why no node can ever fit, as the world is."""
        return None

    def narrows(self, cycle: Cycle) -> Mask | None:
        """The only nodes that the Pod names; `filter` says the same, but of the others nothing more is said then."""
        return None

    def filter(self, cycle: Cycle) -> Mask | None:
        """The nodes that fit; None for all."""
        return None

    def explain(self, cycle: Cycle, rejected: Mask) -> Sequence[Rejection]:
        """Why `filter` refused these nodes, which it did."""
        return ()

    def score(self, cycle: Cycle, feasible: Mask) -> Numbers | None:
        """0 to 100 for each feasible node, whatever for others; None where all are alike."""
        return None

    def helps(self, change: Change, pod: Pod) -> bool:
        """Whether a Pod that this plugin refused may fit after the change (kube-scheduler's queueing hint)."""
        return False


class Chosen(Struct, frozen=True):
    """A place for the Pod; `feasible_count` nodes had fitted."""

    node_name: str
    feasible_count: int


class Diagnosis(Struct, frozen=True):
    """Why there is none. `message` is set when a plugin refused the Pod as such."""

    node_count: int
    plugins: frozenset[str]
    rejections: tuple[Rejection, ...] = ()
    message: str = ""
    preemption: str = ""

    def resolvable(self, snapshot: Snapshot) -> Mask:
        """The nodes that removing Pods might make fit."""
        found: Mask = np.zeros(snapshot.capacity, np.bool_)
        if self.message:
            return found
        hopeless = np.zeros(snapshot.capacity, np.bool_)
        for rejection in self.rejections:
            if rejection.is_resolvable:
                found |= rejection.nodes
            else:
                hopeless |= rejection.nodes
        return found & ~hopeless

    def with_preemption(self, text: str) -> Diagnosis:
        return replace(self, preemption=text)

    def __str__(self) -> str:
        """kube-scheduler's FitError: `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable.`"""
        if not self.node_count:
            return "no nodes available to schedule pods"
        said = self.message or histogram([(int(one.nodes.sum()), one.reason) for one in self.rejections])
        text = f"0/{self.node_count} nodes are available:" + (f" {said}." if said else "")
        return f"{text} {self.preemption}" if self.preemption else text


def histogram(counts: Sequence[tuple[int, str]]) -> str:
    """`1 Insufficient cpu, 2 node(s) were unschedulable`: sorted as text, equal reasons together."""
    total: dict[str, int] = {}
    for count, reason in counts:
        total[reason] = total.get(reason, 0) + count
    return ", ".join(sorted(f"{count} {reason}" for reason, count in total.items()))


@dataclass(slots=True)
class Framework:
    """One profile: its plugins in order, each with its weight in the score."""

    scheduler_name: str
    plugins: Sequence[Plugin]
    weights: dict[str, int]
    random: Random
    without: frozenset[tuple[str, str]] = frozenset()  # (extension point, plugin) that the profile disables
    _for_pod: list[Plugin] = field(init=False)
    _for_nodes: list[Plugin] = field(init=False)
    _filters: list[Plugin] = field(init=False)
    _scorers: list[tuple[Plugin, float]] = field(init=False)
    _by_name: dict[str, Plugin] = field(init=False)

    def __post_init__(self) -> None:
        def with_point(point: str) -> list[Plugin]:
            having = [plugin for plugin in self.plugins if _overrides(plugin, point)]
            return [plugin for plugin in having if not self.is_without(point, plugin.name)]

        self._filters = with_point("filter")
        self._for_nodes = [plugin for plugin in self._filters if plugin.for_nodes_alone]
        self._for_pod = with_point("rejects")
        self._scorers = [
            (plugin, float(self.weights[plugin.name]))
            for plugin in with_point("score")
            if self.weights.get(plugin.name)
        ]
        self._by_name = {plugin.name: plugin for plugin in self.plugins}

    def is_without(self, point: str, name: str) -> bool:
        return (point, name) in self.without

    def plugin(self, name: str) -> Plugin | None:
        return self._by_name.get(name)

    def decide(self, cycle: Cycle, nominated: Sequence[Pod] = ()) -> Chosen | Diagnosis:
        """`nominated` are Pods that others were preempted for and that are still to come, at least as important."""
        if not cycle.snapshot.node_count:
            return Diagnosis(0, frozenset(plugin.name for plugin in self._filters))
        for plugin in self._for_pod:
            message = plugin.rejects(cycle)
            if message is not None:
                return Diagnosis(cycle.snapshot.node_count, frozenset((plugin.name,)), message=message)
        feasible = self.feasible_beside(cycle, nominated) if nominated else self.feasible(cycle)
        count = int(np.count_nonzero(feasible))
        if not count:
            return self.explain(cycle, nominated)
        promised = cycle.snapshot.row_of.get(cycle.pod.nominated_node)
        if promised is not None and feasible[promised]:
            row = promised  # Pods were removed there for this one
        else:
            row = int(feasible.argmax()) if count == 1 else self._best(cycle, feasible)
        return Chosen(cycle.snapshot.name_of(row), count)

    def feasible(self, cycle: Cycle) -> Mask:
        """The nodes that every filter passes."""
        mask = self._feasible_by_nodes(cycle)
        for plugin in self._filters:
            if not plugin.for_nodes_alone:
                allowed = plugin.filter(cycle)
                if allowed is not None:
                    mask = mask & allowed
        return mask

    def feasible_beside(self, cycle: Cycle, nominated: Sequence[Pod]) -> Mask:
        """Feasible now, and, on nodes that Pods are nominated to, also with those Pods there."""
        mask = self.feasible(cycle)
        places = {pod.nominated_node for pod in nominated}
        rows = [cycle.snapshot.row_of[name] for name in places if name in cycle.snapshot.row_of]
        if not mask[rows].any():
            return mask
        with _guests(cycle.snapshot, nominated):
            beside = self.feasible(cycle)
        mask = mask.copy()
        mask[rows] &= beside[rows]
        return mask

    def _feasible_by_nodes(self, cycle: Cycle) -> Mask:
        key = (self.scheduler_name, cycle.demand)
        found: Mask | None = cycle.snapshot.node_answers.get(key)
        if found is None:
            found = cycle.snapshot.alive.copy()
            for plugin in self._for_nodes:
                allowed = plugin.filter(cycle)
                if allowed is not None:
                    found &= allowed
            cycle.snapshot.remember(key, found)
        return found

    def _best(self, cycle: Cycle, feasible: Mask) -> int:
        total = np.zeros(cycle.snapshot.capacity)
        for plugin, weight in self._scorers:
            scores = plugin.score(cycle, feasible)
            if scores is not None:
                total += scores * weight
        total = np.where(feasible, total, -1.0)
        (best,) = (total == total.max()).nonzero()
        return int(best[self.random.randrange(len(best))])

    def explain(self, cycle: Cycle, nominated: Sequence[Pod] = ()) -> Diagnosis:
        """Which plugin refused which node, each node by the first that did."""
        rejections: list[Rejection] = []
        plugins: set[str] = set()
        left = cycle.snapshot.alive
        for plugin in self._filters:
            named = plugin.narrows(cycle)
            if named is not None and (others := left & ~named).any():
                reason = f"node(s) didn't satisfy plugin(s) [{plugin.name}]"
                rejections.append(Rejection(others, reason, is_resolvable=False))
                plugins.add(plugin.name)
                left = left & named
        left = self._explain(cycle, left, rejections, plugins)
        if left.any() and nominated:  # these fit, but not beside the Pods that are to come there
            with _guests(cycle.snapshot, nominated):
                self._explain(cycle, left, rejections, plugins)
        return Diagnosis(cycle.snapshot.node_count, frozenset(plugins), tuple(rejections))

    def _explain(self, cycle: Cycle, left: Mask, rejections: list[Rejection], plugins: set[str]) -> Mask:
        """Adds to the rejections of the nodes in `left`; returns those that no plugin refuses."""
        for plugin in self._filters:
            allowed = plugin.filter(cycle)
            if allowed is None:
                continue
            rejected = left & ~allowed
            if rejected.any():
                rejections += plugin.explain(cycle, rejected)
                plugins.add(plugin.name)
                left = left & allowed
        return left

    def hears(self, kind: ChangeKind, plugins: frozenset[str]) -> bool:
        """Whether any of these plugins has to be asked about such a change at all."""
        return any(kind in self._by_name[name].hears for name in plugins if name in self._by_name)

    def helps(self, change: Change, pod: Pod, plugins: frozenset[str]) -> bool:
        """Whether the change may help a Pod that these plugins refused."""
        asked = (self._by_name[name] for name in plugins if name in self._by_name)
        return any(change.kind in plugin.hears and plugin.helps(change, pod) for plugin in asked)


@contextmanager
def _guests(snapshot: Snapshot, nominated: Sequence[Pod]) -> Iterator[None]:
    """With the nominated Pods on their nodes."""
    guests = [pod.on(pod.nominated_node) for pod in nominated if pod.key not in snapshot.pods]
    for pod in guests:
        snapshot.put_pod(pod)
    try:
        yield
    finally:
        for pod in guests:
            snapshot.remove_pod(pod.key)


def _overrides(plugin: Plugin, point: str) -> bool:
    return getattr(type(plugin), point) is not getattr(Plugin, point)


def normalized(scores: Numbers, feasible: Mask, *, reverse: bool = False) -> Numbers | None:
    """Scaled so that the largest of the feasible is 100 (with `reverse`, 0): kube-scheduler's default normalization."""
    largest = scores.max(where=feasible, initial=0.0)
    if largest <= 0:
        return None
    scaled = np.floor(scores * SCORE_MAX / largest)
    return SCORE_MAX - scaled if reverse else scaled
