"""PrioritySort: the more important Pod first, and of equal ones the one that has waited longer."""

from __future__ import annotations

from orchestrator.scheduler.framework import Plugin
from orchestrator.scheduler.pod import Pod


class PrioritySort(Plugin):
    name = "PrioritySort"


def sort_key(pod: Pod, queued_s: float) -> tuple[int, float]:
    """Smaller is earlier."""
    return (-pod.priority, queued_s)
