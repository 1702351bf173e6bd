"""Usage of the node and its pods as the Summary of `/stats/summary`.

What cannot be read is left out, never made up. Units: bytes, nanoseconds, nanocores.
Source: k8s.io/kubelet stats/v1alpha1.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.kubelet.dirs import Dirs
from orchestrator.kubelet.porter import PodKey
from orchestrator.kubelet.server import volumestats
from orchestrator.kubelet.server.interface import Pods, Porter
from orchestrator.kubelet.usage import Usage, usage


async def summary(node_name: str, pods: Pods, porter: Porter, dirs: Dirs, now: float) -> Object:
    listed = []
    for pod in pods.all():
        key = PodKey(meta.uid(pod), meta.namespace(pod), meta.name(pod))
        state = await pods.state(key.uid)
        containers = []
        for container in state.running:
            used = await usage(key, container, porter)
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
