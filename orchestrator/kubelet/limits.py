"""From a container's resources to what a control group enforces. Pure.

A CPU of 1000 millis is 1024 shares and 100 ms of every 100 ms; nothing asked is 2 shares; a quota below 1 ms is not
possible. Source: kubelet's cm.MilliCPUToShares and MilliCPUToQuota; kubelet's qos.GetContainerOOMScoreAdjust.
"""

from __future__ import annotations

from typing import Any

from orchestrator.api import quantity
from orchestrator.api.meta import Object
from orchestrator.kubelet import podspec
from orchestrator.kubelet.podspec import Container
from orchestrator.kubelet.runtime.interface import Limits

PERIOD_US = 100_000
QUOTA_MIN_US = 1_000
SHARES_MIN, SHARES_MAX = 2, 262_144


def container_limits(pod: Object, container: Container, pids_max: int) -> Limits:
    limits: dict[str, Any] = (container.get("resources") or {}).get("limits") or {}
    whole: dict[str, Any] = (podspec.spec(pod).get("resources") or {}).get("limits") or {}
    limits = {**whole, **limits}  # a container without a limit is held by its pod's
    cpu = quantity.millis(limits.get("cpu", 0))
    return Limits(
        memory_bytes=quantity.ceil(limits.get("memory", 0)),
        cpu_quota_us=max(QUOTA_MIN_US, cpu * PERIOD_US // 1000) if cpu else 0,
        cpu_period_us=PERIOD_US,
        cpu_shares=shares(quantity.millis(podspec.requests(container).get("cpu", 0))),
        pids=pids_max,
    )


def shares(cpu_millis: int) -> int:
    return min(SHARES_MAX, max(SHARES_MIN, cpu_millis * 1024 // 1000))


def oom_score_adj(pod: Object, container: Container, memory_capacity_bytes: int) -> int:
    """Who dies first when the node runs out of memory. An unprivileged user cannot go below zero, so a Guaranteed pod
    has 0 here where upstream gives -997."""
    quality = podspec.qos_class(pod)
    if quality == "Guaranteed":
        return 0
    if quality == "BestEffort":
        return 1000
    request = quantity.ceil(podspec.requests(container).get("memory", 0))
    adjusted = 1000 - 1000 * request // max(1, memory_capacity_bytes)
    return min(999, max(3, adjusted))
