"""VolumeRestrictions: one disk of the world is not given to two Pods, unless all of them only read it; a claim with
access mode ReadWriteOncePod has one Pod at a time, anywhere."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from orchestrator.scheduler.changes import Change, ChangeKind
from orchestrator.scheduler.columns import Mask
from orchestrator.scheduler.framework import Cycle, Plugin, Rejection
from orchestrator.scheduler.pod import Pod

ONCE = "ReadWriteOncePod"


class VolumeRestrictions(Plugin):
    name = "VolumeRestrictions"
    hears = frozenset((ChangeKind.POD_DELETED, ChangeKind.NODE_ADDED, ChangeKind.STORAGE))

    def filter(self, cycle: Cycle) -> Mask | None:
        if not cycle.pod.disks and not cycle.pod.claims:
            return None
        masks = [mask for mask in (_without_disks(cycle), _without_claims(cycle)) if mask is not None]
        return np.logical_and.reduce(masks) if masks else None

    def explain(self, cycle: Cycle, rejected: Mask) -> Sequence[Rejection]:
        disks = _without_disks(cycle)
        by_disk = rejected & ~disks if disks is not None else np.zeros_like(rejected)
        reasons = (
            (by_disk, "node(s) had no available disk"),
            (
                rejected & ~by_disk,
                "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode",
            ),
        )
        return [Rejection(nodes, reason) for nodes, reason in reasons if nodes.any()]

    def helps(self, change: Change, pod: Pod) -> bool:
        if change.kind is ChangeKind.POD_DELETED and change.pod is not None:
            freed = {disk.identity for disk in change.pod.disks}
            return not freed.isdisjoint(disk.identity for disk in pod.disks) or not set(change.pod.claims).isdisjoint(
                pod.claims
            )
        return change.kind in (ChangeKind.NODE_ADDED, ChangeKind.STORAGE)


def _without_disks(cycle: Cycle) -> Mask | None:
    if not cycle.pod.disks:
        return None
    mask: Mask = np.ones(cycle.snapshot.capacity, np.bool_)
    for row in np.flatnonzero(cycle.snapshot.alive):
        for other in cycle.snapshot.pods_on[row].values():
            if other.disks and _share_badly(cycle.pod, other):
                mask[row] = False
                break
    return mask


def _share_badly(pod: Pod, other: Pod) -> bool:
    return any(
        mine.identity == theirs.identity and not (mine.may_share and theirs.may_share)
        for mine in pod.disks
        for theirs in other.disks
    )


def _without_claims(cycle: Cycle) -> Mask | None:
    """A node that runs the user of such a claim could be freed by preemption; every other node could not use it."""
    mask: Mask | None = None
    for key in cycle.pod.claims:
        claim = cycle.listers.claims.get(key)
        users = cycle.snapshot.claim_users.get(key)
        if claim is None or not users or ONCE not in ((claim.get("spec") or {}).get("accessModes") or ()):
            continue
        if mask is None:
            mask = np.zeros(cycle.snapshot.capacity, np.bool_)
    return mask
