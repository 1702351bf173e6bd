"""NodeName: a Pod that names its node fits that node alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from orchestrator.scheduler.changes import Change
from orchestrator.scheduler.columns import Mask
from orchestrator.scheduler.framework import Cycle, Plugin, Rejection
from orchestrator.scheduler.pod import Pod


class NodeName(Plugin):
    name = "NodeName"

    def filter(self, cycle: Cycle) -> Mask | None:
        wanted = cycle.pod.node_name
        if not wanted:
            return None
        mask: Mask = np.zeros(cycle.snapshot.capacity, np.bool_)
        if wanted in cycle.snapshot.row_of:
            mask[cycle.snapshot.row_of[wanted]] = True
        return mask

    def explain(self, cycle: Cycle, rejected: Mask) -> Sequence[Rejection]:
        return [Rejection(rejected, "node(s) didn't match the requested node name", is_resolvable=False)]

    def helps(self, change: Change, pod: Pod) -> bool:
        return change.better_node is not None and change.better_node.name == pod.node_name
