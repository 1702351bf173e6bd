"""TaintToleration: every hard taint of a node must be tolerated; untolerated soft ones make it less welcome.

Nodes that carry the same taints share one code, so a Pod's tolerations are asked once for each set of taints.
"""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.scheduler.changes import Change
from orchestrator.scheduler.columns import Mask, Numbers
from orchestrator.scheduler.framework import Cycle, Plugin, Rejection, normalized
from orchestrator.scheduler.node import PREFER_NO_SCHEDULE, Taint
from orchestrator.scheduler.pod import Demand, Pod

Taints = tuple[Taint, ...]


class TaintToleration(Plugin):
    name = "TaintToleration"
    for_nodes_alone = True

    def filter(self, cycle: Cycle) -> Mask | None:
        return cycle.snapshot.taints.where(lambda taints: tolerates(cycle.demand, taints))

    def explain(self, cycle: Cycle, rejected: Mask) -> Sequence[Rejection]:
        return [Rejection(rejected, "node(s) had untolerated taint(s)", is_resolvable=False)]

    def score(self, cycle: Cycle, feasible: Mask) -> Numbers | None:
        key = (self.name, "score", cycle.demand)
        if key not in cycle.snapshot.node_answers:
            counts = cycle.snapshot.taints.table(lambda taints: soft_count(cycle.demand, taints))
            cycle.snapshot.remember(key, counts if counts.any() else None)
        counts = cycle.snapshot.node_answers[key]
        return None if counts is None else normalized(counts, feasible, reverse=True)

    def helps(self, change: Change, pod: Pod) -> bool:
        node = change.better_node
        return node is not None and tolerates(pod.demand, node.taints)


def tolerates(demand: Demand, taints: Taints | None) -> bool:
    return all(_is_tolerated(demand, taint) for taint in taints or () if taint.effect != PREFER_NO_SCHEDULE)


def soft_count(demand: Demand, taints: Taints | None) -> int:
    """The PreferNoSchedule taints that are not tolerated."""
    return sum(not _is_tolerated(demand, taint) for taint in taints or () if taint.effect == PREFER_NO_SCHEDULE)


def _is_tolerated(demand: Demand, taint: Taint) -> bool:
    return any(toleration.tolerates(taint) for toleration in demand.tolerations)
