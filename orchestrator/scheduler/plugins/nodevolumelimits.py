"""NodeVolumeLimits: a CSI driver says how many of its volumes a node can attach (CSINode's allocatable count)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from orchestrator.scheduler.changes import Change, ChangeKind
from orchestrator.scheduler.columns import Mask
from orchestrator.scheduler.framework import Cycle, Plugin, Rejection
from orchestrator.scheduler.pod import Pod


class NodeVolumeLimits(Plugin):
    name = "NodeVolumeLimits"
    hears = frozenset((ChangeKind.POD_DELETED, ChangeKind.NODE_ADDED, ChangeKind.STORAGE))

    def filter(self, cycle: Cycle) -> Mask | None:
        wanted = set(_csi_volumes(cycle, cycle.pod))
        if not wanted:
            return None
        mask: Mask = np.ones(cycle.snapshot.capacity, np.bool_)
        for csi_node in cycle.listers.csi_nodes.list():
            row = cycle.snapshot.row_of.get(csi_node["metadata"]["name"])
            if row is None:
                continue
            for driver in (csi_node.get("spec") or {}).get("drivers") or ():
                limit = (driver.get("allocatable") or {}).get("count")
                if limit is not None and _count(cycle, row, driver["name"], wanted) > limit:
                    mask[row] = False
        return mask

    def explain(self, cycle: Cycle, rejected: Mask) -> Sequence[Rejection]:
        return [Rejection(rejected, "node(s) exceed max volume count")]

    def helps(self, change: Change, pod: Pod) -> bool:
        freed = change.kind is ChangeKind.POD_DELETED and change.pod is not None and bool(change.pod.claims)
        return freed or change.kind in (ChangeKind.NODE_ADDED, ChangeKind.STORAGE)


def _count(cycle: Cycle, row: int, driver: str, wanted: set[tuple[str, str]]) -> int:
    """Volumes of the driver on the node with this Pod there; 0 where the Pod adds none."""
    there = {volume for pod in cycle.snapshot.pods_on[row].values() for volume in _csi_volumes(cycle, pod)}
    if not any(volume[0] == driver for volume in wanted - there):
        return 0
    return sum(volume[0] == driver for volume in there | wanted)


def _csi_volumes(cycle: Cycle, pod: Pod) -> Iterator[tuple[str, str]]:
    """(driver, handle) of the Pod's volumes that a CSI driver attaches; of one yet to be made, its claim."""
    for key in pod.claims:
        claim = cycle.listers.claims.get(key)
        spec = (claim or {}).get("spec") or {}
        volume = cycle.listers.volumes.get(spec.get("volumeName") or "")
        if volume is not None:
            source = (volume.get("spec") or {}).get("csi")
            if source:
                yield source["driver"], source["volumeHandle"]
        elif (found := cycle.listers.classes.get(spec.get("storageClassName") or "")) is not None:
            yield found["provisioner"], key
