"""How full the disks of claims are: for the Summary, and as the metrics that dashboards and alerts know.

A claim's file system is asked where the pod has it mounted, as its user may. One that is not mounted is left out, and
so is a device, which has no files. Source: k8s.io/kubelet stats/v1alpha1 VolumeStats; kubelet_volume_stats_* metrics.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from msgspec import Struct

from orchestrator.api import meta, volumes
from orchestrator.api.meta import Object
from orchestrator.kubelet.dirs import Dirs

PLUGIN = "csi"
METRICS = {
    "available_bytes": "Number of available bytes in the volume",
    "capacity_bytes": "Capacity in bytes of the volume",
    "used_bytes": "Number of used bytes in the volume",
    "inodes": "Maximum number of inodes in the volume",
    "inodes_free": "Number of free inodes in the volume",
    "inodes_used": "Number of used inodes in the volume",
}


class Fill(Struct, frozen=True):
    """Of the claim `namespace/claim`, which the pod knows as `volume`."""

    namespace: str
    claim: str
    volume: str
    available_bytes: int
    capacity_bytes: int
    used_bytes: int
    inodes: int
    inodes_free: int
    inodes_used: int


def fills(pod: Object, dirs: Dirs) -> Iterator[Fill]:
    for volume, claim in volumes.claim_names(pod).items():
        place = dirs.of(pod).volume(PLUGIN, volume)
        try:
            if not place.is_mount():
                continue
            found = os.statvfs(place)
        except OSError:
            continue
        unit = found.f_frsize
        yield Fill(
            namespace=meta.namespace(pod),
            claim=claim,
            volume=volume,
            available_bytes=found.f_bavail * unit,
            capacity_bytes=found.f_blocks * unit,
            used_bytes=(found.f_blocks - found.f_bfree) * unit,
            inodes=found.f_files,
            inodes_free=found.f_ffree,
            inodes_used=found.f_files - found.f_ffree,
        )


def summary(found: Fill, time: str) -> Object:
    return {
        "time": time,
        "availableBytes": found.available_bytes,
        "capacityBytes": found.capacity_bytes,
        "usedBytes": found.used_bytes,
        "inodesFree": found.inodes_free,
        "inodes": found.inodes,
        "inodesUsed": found.inodes_used,
        "name": found.volume,
        "pvcRef": {"name": found.claim, "namespace": found.namespace},
    }


def metrics(found: Iterable[Fill]) -> list[str]:
    """In Prometheus' text format; a claim that several pods of the node have is there once."""
    by_claim = {(each.namespace, each.claim): each for each in found}
    lines = []
    for name, told in METRICS.items():
        if by_claim:
            lines += [f"# HELP kubelet_volume_stats_{name} [ALPHA] {told}", f"# TYPE kubelet_volume_stats_{name} gauge"]
        for (namespace, claim), each in sorted(by_claim.items()):
            labels = f'namespace="{namespace}",persistentvolumeclaim="{claim}"'
            lines.append(f"kubelet_volume_stats_{name}{{{labels}}} {getattr(each, name)}")
    return lines
