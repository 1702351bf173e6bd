"""Metrics: what the server did, in the Prometheus text format, under upstream's names.

Counting one request is two dictionary updates, because it happens on every request. Units: seconds, bytes.
Source: Kubernetes metrics reference, "apiserver_request_total", "apiserver_request_duration_seconds".
"""

from __future__ import annotations

import bisect
import resource
from collections.abc import Callable

from orchestrator.apiserver.request import RequestInfo

BUCKETS_S = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
Key = tuple[str, str, str, str]


class Metrics:
    def __init__(self) -> None:
        self._requests: dict[tuple[str, str, str, str, str, int], int] = {}
        self._durations: dict[Key, list[float]] = {}  # counts a bucket, then count, then sum
        self._gauges: dict[str, tuple[str, Callable[[], float]]] = {}

    def gauge(self, name: str, help_text: str, read: Callable[[], float]) -> None:
        self._gauges[name] = (help_text, read)

    def count(self, info: RequestInfo, code: int, took_s: float) -> None:
        key = (info.verb, info.group, info.version, info.resource, info.subresource, code)
        self._requests[key] = self._requests.get(key, 0) + 1
        if info.verb == "watch" or not info.is_resource:
            return
        row = self._durations.get(key[:4])
        if row is None:
            row = self._durations[key[:4]] = [0.0] * (len(BUCKETS_S) + 3)
        row[bisect.bisect_left(BUCKETS_S, took_s)] += 1
        row[-2] += 1
        row[-1] += took_s

    def text(self) -> bytes:
        name = "apiserver_request_total"
        lines = [f"# HELP {name} Counter of apiserver requests.", f"# TYPE {name} counter"]
        for (verb, group, version, plural, sub, code), count in sorted(self._requests.items()):
            labels = f'code="{code}",group="{group}",resource="{plural}",subresource="{sub}"'
            lines.append(f'{name}{{{labels},verb="{verb.upper()}",version="{version}"}} {count}')
        name = "apiserver_request_duration_seconds"
        lines += [f"# HELP {name} Response latency distribution in seconds.", f"# TYPE {name} histogram"]
        for (verb, group, version, plural), row in sorted(self._durations.items()):
            labels = f'group="{group}",resource="{plural}",verb="{verb.upper()}",version="{version}"'
            total = 0.0
            for place, bound in enumerate((*BUCKETS_S, float("inf"))):
                total += row[place]
                shown = "+Inf" if bound == float("inf") else f"{bound:g}"
                lines.append(f'{name}_bucket{{{labels},le="{shown}"}} {total:g}')
            lines += [f"{name}_count{{{labels}}} {row[-2]:g}", f"{name}_sum{{{labels}}} {row[-1]:.6f}"]
        for gauge, (help_text, read) in self._gauges.items():
            lines += [f"# HELP {gauge} {help_text}", f"# TYPE {gauge} gauge", f"{gauge} {read():g}"]
        used = resource.getrusage(resource.RUSAGE_SELF)
        lines += [
            "# HELP process_cpu_seconds_total Total user and system CPU time spent in seconds.",
            "# TYPE process_cpu_seconds_total counter",
            f"process_cpu_seconds_total {used.ru_utime + used.ru_stime:.2f}",
        ]
        return ("\n".join(lines) + "\n").encode()
