"""What this node has: measured from /proc and the file system, and what of it pods may have.

Amounts are quantities as a Node's status shows them. Settings win over measurements: a namespace node shares its host
and is told its part. Sources: /proc/meminfo, the CPUs this process may use, statvfs of the kubelet's root.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from orchestrator.api import quantity

ResourceList = dict[str, str]
MEMINFO = Path("/proc/meminfo")
EVICTION_MEMORY = "100Mi"  # kept back, so that the kernel does not run out before anyone acts
EVICTION_STORAGE_PERCENT = 10


def capacity(root: Path, pods_max: int, overrides: Mapping[str, str]) -> ResourceList:
    measured = {
        "cpu": str(len(os.sched_getaffinity(0))),
        "memory": f"{meminfo_kib().get('MemTotal', 0)}Ki",
        "ephemeral-storage": f"{shutil.disk_usage(root).total // 1024}Ki",
        "hugepages-1Gi": "0",
        "hugepages-2Mi": "0",
        "pods": str(pods_max),
    }
    return {**measured, **{name: quantity.canonical(value) for name, value in overrides.items()}}


def allocatable(total: Mapping[str, str], reserved: Mapping[str, str]) -> ResourceList:
    """Capacity less what is reserved and what eviction keeps back."""
    found: ResourceList = {}
    for name, value in total.items():
        left = quantity.parse(value) - quantity.parse(reserved.get(name, "0"))
        if name == "memory":
            left -= quantity.parse(EVICTION_MEMORY)
        elif name == "ephemeral-storage":
            left = left * (100 - EVICTION_STORAGE_PERCENT) // 100
        is_binary = value.endswith("i")
        left = max(left, quantity.parse("0"))
        found[name] = f"{int(left) // 1024}Ki" if is_binary else quantity.format_decimal(left)
    return found


def meminfo_kib() -> dict[str, int]:
    lines = (line.split() for line in MEMINFO.read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) for words in lines if len(words) >= 2}
