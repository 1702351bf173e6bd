"""NodePorts: a host port belongs to one Pod of a node, for each protocol and address; 0.0.0.0 is every address."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from orchestrator.scheduler.changes import Change, ChangeKind
from orchestrator.scheduler.columns import Mask
from orchestrator.scheduler.framework import Cycle, Plugin, Rejection
from orchestrator.scheduler.pod import Pod


class NodePorts(Plugin):
    name = "NodePorts"
    hears = frozenset((ChangeKind.NODE_ADDED, ChangeKind.POD_DELETED))

    def filter(self, cycle: Cycle) -> Mask | None:
        wanted = cycle.demand.host_ports
        if not wanted:
            return None
        mask: Mask = np.ones(cycle.snapshot.capacity, np.bool_)
        for port in wanted:
            for row, used in cycle.snapshot.port_rows.get((port.protocol, port.port), {}).items():
                if any(port.conflicts(other) for other in used):
                    mask[row] = False
        return mask

    def explain(self, cycle: Cycle, rejected: Mask) -> Sequence[Rejection]:
        return [Rejection(rejected, "node(s) didn't have free ports for the requested pod ports")]

    def helps(self, change: Change, pod: Pod) -> bool:
        if change.kind is ChangeKind.POD_DELETED and change.pod is not None:
            freed = change.pod.demand.host_ports
            return any(port.conflicts(other) for port in pod.demand.host_ports for other in freed)
        return change.kind is ChangeKind.NODE_ADDED
