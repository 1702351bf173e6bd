"""Metrics: what the server did, in the Prometheus text format, under upstream's names.

Counting one request is two dictionary updates, because it happens on every request. Units: seconds, bytes.
Source: Kubernetes metrics reference, "apiserver_request_total", "apiserver_request_duration_seconds".
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterable, Iterator

from orchestrator.apiserver.histogram import Histogram
from orchestrator.apiserver.request import RequestInfo

BUCKETS_S = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
Key = tuple[str, str, str, str]


def family(name: str, kind: str, meaning: str, samples: Iterable[tuple[str, float]]) -> Iterator[str]:
    """The lines of one metric; `samples` are (labels as they stand between the braces, value)."""
    yield f"# HELP {name} {meaning}"
    yield f"# TYPE {name} {kind}"
    for labels, value in samples:
        yield f"{name}{{{labels}}} {value:.15g}" if labels else f"{name} {value:.15g}"


class Metrics:
    def __init__(self) -> None:
        self._requests: dict[tuple[str, str, str, str, str, int], int] = {}
        self._durations: dict[Key, Histogram] = {}
        self._gauges: dict[str, tuple[str, Callable[[], float]]] = {}
        self.others: list[Callable[[], Iterable[str]]] = []  # lines that other parts have to show

    def gauge(self, name: str, help_text: str, read: Callable[[], float]) -> None:
        self._gauges[name] = (help_text, read)

    def count(self, info: RequestInfo, code: int, took_s: float) -> None:
        key = (info.verb, info.group, info.version, info.resource, info.subresource, code)
        self._requests[key] = self._requests.get(key, 0) + 1
        if info.verb == "watch" or not info.is_resource:
            return
        durations = self._durations.get(key[:4])
        if durations is None:
            durations = self._durations[key[:4]] = Histogram(BUCKETS_S)
        durations.observe(took_s)

    def text(self) -> bytes:
        name = "apiserver_request_total"
        lines = [f"# HELP {name} Counter of apiserver requests.", f"# TYPE {name} counter"]
        for (verb, group, version, plural, sub, code), count in sorted(self._requests.items()):
            labels = f'code="{code}",group="{group}",resource="{plural}",subresource="{sub}"'
            lines.append(f'{name}{{{labels},verb="{verb.upper()}",version="{version}"}} {count}')
        name = "apiserver_request_duration_seconds"
        lines += [f"# HELP {name} Response latency distribution in seconds.", f"# TYPE {name} histogram"]
        for (verb, group, version, plural), durations in sorted(self._durations.items()):
            labels = f'group="{group}",resource="{plural}",verb="{verb.upper()}",version="{version}"'
            lines += durations.lines(name, labels)
        for gauge, (help_text, read) in self._gauges.items():
            lines += [f"# HELP {gauge} {help_text}", f"# TYPE {gauge} gauge", f"{gauge} {read():g}"]
        for other in self.others:
            lines += other()
        used = resource.getrusage(resource.RUSAGE_SELF)
        lines += [
            "# HELP process_cpu_seconds_total Total user and system CPU time spent in seconds.",
            "# TYPE process_cpu_seconds_total counter",
            f"process_cpu_seconds_total {used.ru_utime + used.ru_stime:.2f}",
        ]
        return ("\n".join(lines) + "\n").encode()
