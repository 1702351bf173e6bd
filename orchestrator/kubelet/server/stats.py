"""Usage of the node and its pods as the Summary of `/stats/summary`, from the porter's groups or the kernel's own.

On hosts with cgroup v1 the porter reads the groups it made; with v2 the container's own group is found by its process.
What cannot be read is left out, never made up. Units: bytes, nanoseconds, nanocores.
Source: k8s.io/kubelet stats/v1alpha1; kernel docs, cgroup-v2.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from msgspec import Struct

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.kubelet.dirs import Dirs
from orchestrator.kubelet.porter import PorterFailure
from orchestrator.kubelet.runtime.interface import ContainerState
from orchestrator.kubelet.server import volumestats
from orchestrator.kubelet.server.interface import Pods, Porter

CGROUP2 = Path("/sys/fs/cgroup")


class Usage(Struct, frozen=True):
    cpu_ns: int
    memory_bytes: int
    working_set_bytes: int


async def summary(node_name: str, pods: Pods, porter: Porter, dirs: Dirs, now: float) -> Object:
    listed = []
    for pod in pods.all():
        state = await pods.state(meta.uid(pod))
        containers = []
        for container in state.running:
            used = await usage(pod, container, porter)
            if used is not None:
                containers.append(
                    {
                        "name": container.name,
                        "startTime": meta.format_time(container.started_at),
                        **_cpu_and_memory(used, now),
                    }
                )
        listed.append(
            {
                "podRef": {"name": meta.name(pod), "namespace": meta.namespace(pod), "uid": meta.uid(pod)},
                "startTime": (pod.get("status") or {}).get("startTime"),
                "containers": containers,
                **_sum(containers, now),
                **_volumes(pod, dirs, now),
            }
        )
    return {"node": {"nodeName": node_name, **_node(now)}, "pods": listed}


def _volumes(pod: Object, dirs: Dirs, now: float) -> Object:
    found = [volumestats.summary(fill, meta.format_time(now)) for fill in volumestats.fills(pod, dirs)]
    return {"volume": found} if found else {}


async def usage(pod: Object, container: ContainerState, porter: Porter) -> Usage | None:
    named = {"uid": meta.uid(pod), "pod": meta.key(pod), "container": container.name}
    try:
        found = await porter.call("cgroup.stat", named)
    except PorterFailure:
        found = {}
    if "memory_bytes" in found:
        return Usage(found.get("cpu_usage_ns", 0), found["memory_bytes"], found.get("working_set_bytes", 0))
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


def _cpu_and_memory(used: Usage, now: float) -> dict[str, Any]:
    time = meta.format_time(now)
    return {
        "cpu": {"time": time, "usageCoreNanoSeconds": used.cpu_ns},
        "memory": {"time": time, "usageBytes": used.memory_bytes, "workingSetBytes": used.working_set_bytes},
    }


def _sum(containers: list[dict[str, Any]], now: float) -> dict[str, Any]:
    if not containers:
        return {}
    total = Usage(
        sum(entry["cpu"]["usageCoreNanoSeconds"] for entry in containers),
        sum(entry["memory"]["usageBytes"] for entry in containers),
        sum(entry["memory"]["workingSetBytes"] for entry in containers),
    )
    return _cpu_and_memory(total, now)


def _node(now: float) -> dict[str, Any]:
    """From the kernel's totals, which on a namespace node are the host's."""
    ticks = [int(text) for text in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    busy = sum(ticks) - ticks[3] - ticks[4]  # without idle and iowait
    memory = {key: int(value) * 1024 for key, value in re.findall(r"(\w+):\s+(\d+) kB", _read("/proc/meminfo"))}
    used = memory.get("MemTotal", 0) - memory.get("MemAvailable", 0)
    disk = os.statvfs("/")
    time = meta.format_time(now)
    return {
        "cpu": {"time": time, "usageCoreNanoSeconds": busy * 1_000_000_000 // os.sysconf("SC_CLK_TCK")},
        "memory": {
            "time": time,
            "availableBytes": memory.get("MemAvailable", 0),
            "usageBytes": used,
            "workingSetBytes": used,
        },
        "fs": {
            "time": time,
            "availableBytes": disk.f_bavail * disk.f_frsize,
            "capacityBytes": disk.f_blocks * disk.f_frsize,
            "usedBytes": (disk.f_blocks - disk.f_bfree) * disk.f_frsize,
        },
    }


def _read(path: str) -> str:
    return Path(path).read_text()
