"""SchedulingGates: a Pod with gates does not even wait in the queue until the last one is removed (KEP-3521)."""

from __future__ import annotations

from orchestrator.scheduler.framework import Plugin
from orchestrator.scheduler.pod import Pod


class SchedulingGates(Plugin):
    name = "SchedulingGates"


def is_gated(pod: Pod) -> bool:
    return bool(pod.gates)
