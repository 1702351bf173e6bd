"""VolumeZone: a bound PersistentVolume that carries zone or region labels can be used only where they match.

A label may list several values (`a__b`), any of which will do. A claim that waits for its first consumer has no volume
yet and no say.
"""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.api import meta
from orchestrator.scheduler.changes import NODE_CHANGES, Change, ChangeKind
from orchestrator.scheduler.columns import Mask
from orchestrator.scheduler.framework import Cycle, Plugin, Rejection
from orchestrator.scheduler.pod import Pod

KEYS = {
    "topology.kubernetes.io/zone": "failure-domain.beta.kubernetes.io/zone",
    "topology.kubernetes.io/region": "failure-domain.beta.kubernetes.io/region",
}
TWINS = KEYS | {old: new for new, old in KEYS.items()}
_SEPARATOR = "__"


class VolumeZone(Plugin):
    name = "VolumeZone"
    hears = NODE_CHANGES | {ChangeKind.STORAGE}

    def filter(self, cycle: Cycle) -> Mask | None:
        mask: Mask | None = None
        for key in cycle.pod.claims:
            claim = cycle.listers.claims.get(key)
            volume_name = (claim.get("spec") or {}).get("volumeName") if claim else None
            volume = cycle.listers.volumes.get(volume_name) if volume_name else None
            for label, value in meta.labels(volume).items() if volume else ():
                if label in TWINS:
                    matches = _nodes_in(cycle, label, frozenset(value.split(_SEPARATOR)))
                    mask = matches if mask is None else mask & matches
        return mask

    def explain(self, cycle: Cycle, rejected: Mask) -> Sequence[Rejection]:
        return [Rejection(rejected, "node(s) had no available volume zone", is_resolvable=False)]

    def helps(self, change: Change, pod: Pod) -> bool:
        return change.better_node is not None or change.kind is ChangeKind.STORAGE


def _nodes_in(cycle: Cycle, label: str, values: frozenset[str]) -> Mask:
    """By the label or its older name; a node without either is not in any zone."""
    return cycle.snapshot.label(label).where(lambda value: value in values) | cycle.snapshot.label(TWINS[label]).where(
        lambda value: value in values
    )
