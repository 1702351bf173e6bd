"""NodeUnschedulable: a cordoned node takes only Pods that tolerate being there."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.scheduler.changes import Change
from orchestrator.scheduler.columns import Mask
from orchestrator.scheduler.framework import Cycle, Plugin, Rejection
from orchestrator.scheduler.node import NO_SCHEDULE, UNSCHEDULABLE_TAINT, Taint
from orchestrator.scheduler.pod import Pod

CORDONED = Taint(UNSCHEDULABLE_TAINT, "", NO_SCHEDULE)


class NodeUnschedulable(Plugin):
    name = "NodeUnschedulable"
    for_nodes_alone = True

    def filter(self, cycle: Cycle) -> Mask | None:
        if tolerates_cordon(cycle.pod):
            return None
        return ~cycle.snapshot.unschedulable

    def explain(self, cycle: Cycle, rejected: Mask) -> Sequence[Rejection]:
        return [Rejection(rejected, "node(s) were unschedulable", is_resolvable=False)]

    def helps(self, change: Change, pod: Pod) -> bool:
        node = change.better_node
        return node is not None and (not node.is_unschedulable or tolerates_cordon(pod))


def tolerates_cordon(pod: Pod) -> bool:
    return any(toleration.tolerates(CORDONED) for toleration in pod.demand.tolerations)
