"""`/metrics/resource`: what the node, its pods and containers use, as metrics-server scrapes it. Of the Summary; pure.

Each sample carries the time of its measurement. Swap is left out: containers have none.
Source: KEP-1867; kubelet resource metrics.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from orchestrator.api import meta
from orchestrator.api.meta import Object

Sample = tuple[str, float, int]  # labels as they stand between the braces, value, milliseconds since the epoch
MEANINGS = {
    "container_cpu_usage_seconds_total": ("counter", "Cumulative cpu time consumed by the container in core-seconds"),
    "container_memory_working_set_bytes": ("gauge", "Current working set of the container in bytes"),
    "container_start_time_seconds": ("gauge", "Start time of the container since unix epoch in seconds"),
    "node_cpu_usage_seconds_total": ("counter", "Cumulative cpu time consumed by the node in core-seconds"),
    "node_memory_working_set_bytes": ("gauge", "Current working set of the node in bytes"),
    "pod_cpu_usage_seconds_total": ("counter", "Cumulative cpu time consumed by the pod in core-seconds"),
    "pod_memory_working_set_bytes": ("gauge", "Current working set of the pod in bytes"),
}


def lines(summary: Object) -> Iterator[str]:
    found: dict[str, list[Sample]] = {name: [] for name in MEANINGS}
    _add(found, "node", "", summary["node"])
    for pod in summary["pods"]:
        of_pod = f'namespace="{pod["podRef"]["namespace"]}",pod="{pod["podRef"]["name"]}"'
        _add(found, "pod", of_pod, pod)
        for container in pod["containers"]:
            labels = f'container="{container["name"]}",{of_pod}'
            _add(found, "container", labels, container)
            started = meta.parse_time(container["startTime"])
            found["container_start_time_seconds"].append((labels, started, _ms(container["cpu"]["time"])))
    for name, (kind, meaning) in MEANINGS.items():
        yield from (f"# HELP {name} [STABLE] {meaning}", f"# TYPE {name} {kind}")
        for labels, value, at_ms in found[name]:
            yield f"{name}{{{labels}}} {value:.15g} {at_ms}" if labels else f"{name} {value:.15g} {at_ms}"
    yield "# HELP resource_scrape_error [STABLE] 1 if there was an error while getting container metrics, 0 otherwise"
    yield "# TYPE resource_scrape_error gauge"
    yield "resource_scrape_error 0"


def _add(found: dict[str, list[Sample]], what: str, labels: str, used: dict[str, Any]) -> None:
    if cpu := used.get("cpu"):
        seconds = cpu["usageCoreNanoSeconds"] / 1e9
        found[f"{what}_cpu_usage_seconds_total"].append((labels, seconds, _ms(cpu["time"])))
    if memory := used.get("memory"):
        sample = (labels, float(memory["workingSetBytes"]), _ms(memory["time"]))
        found[f"{what}_memory_working_set_bytes"].append(sample)


def _ms(time: str) -> int:
    return int(meta.parse_time(time) * 1000)
