"""What a running container uses, from the porter's group or the kernel's own.

On hosts with cgroup v1 the porter reads the groups it made; with v2 the container's own group is found by its process.
Units: bytes, nanoseconds. Source: kernel docs, cgroup-v1 memory, cgroup-v2.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from msgspec import Struct

from orchestrator.kubelet.porter import CgroupStat, PodKey, PorterFailure
from orchestrator.kubelet.runtime.interface import ContainerState

CGROUP2 = Path("/sys/fs/cgroup")


class Groups(Protocol):
    async def cgroup_stat(self, pod: PodKey, container: str) -> CgroupStat: ...


class Usage(Struct, frozen=True):
    cpu_ns: int
    memory_bytes: int
    working_set_bytes: int


async def usage(pod: PodKey, container: ContainerState, groups: Groups) -> Usage | None:
    """None where it cannot be read."""
    try:
        found = await groups.cgroup_stat(pod, container.name)
    except PorterFailure:
        found = CgroupStat()
    if found.memory_bytes:
        return Usage(found.cpu_usage_ns, found.memory_bytes, found.working_set_bytes)
    return _usage_v2(container.pid) if container.pid else None


def _usage_v2(pid: int) -> Usage | None:
    try:
        line = next(line for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines() if line.startswith("0::/"))
        group = CGROUP2 / line.removeprefix("0::/")
        cpu_us = int(dict(_pairs((group / "cpu.stat").read_text())).get("usage_usec", "0"))
        memory = int((group / "memory.current").read_text())
        inactive = int(dict(_pairs((group / "memory.stat").read_text())).get("inactive_file", "0"))
    except (OSError, StopIteration, ValueError):
        return None
    return Usage(cpu_us * 1000, memory, max(0, memory - inactive))


def _pairs(text: str) -> list[tuple[str, str]]:
    return [(key, value) for key, _, value in (line.partition(" ") for line in text.splitlines())]
