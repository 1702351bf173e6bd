"""Metrics: what the server did, in the Prometheus text format, under upstream's names and with its labels.

Counting one request is a few dictionary updates, because it happens on every request; labels are made when they are
shown. Deviation: a watch is counted when it has started, and the time until then; upstream counts it when it has ended.
Units: seconds, bytes. Source: Kubernetes metrics reference; k8s.io/apiserver endpoints/metrics.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from orchestrator.api.histogram import Histogram
from orchestrator.api.wire import Request, Response
from orchestrator.apiserver.processmetrics import process_metrics
from orchestrator.apiserver.request import RequestInfo

BUCKETS_S = (
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60
)  # fmt: skip
SIZE_BUCKETS_BYTES = (1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9)
INFLIGHT_WINDOW_S = 1.0
VERBS = {
    "get": "GET", "list": "LIST", "watch": "WATCH", "create": "POST", "update": "PUT", "patch": "PATCH",
    "delete": "DELETE", "deletecollection": "DELETECOLLECTION", "post": "POST", "put": "PUT", "head": "GET",
}  # fmt: skip
APPLY = "application/apply-patch"  # and `+yaml`, `+cbor`
READ_ONLY = ("get", "list", "watch", "head")
# What a request is counted as: (verb, group, version, resource, subresource, scope), and whether it was a dry run.
Kind = tuple[str, str, str, str, str, str]


def family(name: str, kind: str, meaning: str, samples: Iterable[tuple[str, float]]) -> Iterator[str]:
    """The lines of one metric; `samples` are (labels as they stand between the braces, value)."""
    yield f"# HELP {name} {meaning}"
    yield f"# TYPE {name} {kind}"
    for labels, value in samples:
        yield f"{name}{{{labels}}} {value:.15g}" if labels else f"{name} {value:.15g}"


class Inflight:
    """The most requests of a kind that were served at once, in the last second."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._current = self._high = self._before = 0
        self._since = now()

    def began(self, now: float) -> None:
        if now - self._since > INFLIGHT_WINDOW_S:
            self._turn(now)
        self._current += 1
        if self._current > self._high:
            self._high = self._current

    def ended(self) -> None:
        self._current -= 1

    def high(self) -> int:
        now = self._now()
        if now - self._since > INFLIGHT_WINDOW_S:
            self._turn(now)
        return max(self._high, self._before)

    def _turn(self, now: float) -> None:
        is_next = now - self._since < 2 * INFLIGHT_WINDOW_S
        self._before = self._high if is_next else self._current
        self._high, self._since = self._current, now


class Metrics:
    """`now`: seconds of a clock that runs evenly."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._requests: dict[tuple[Kind, bool, int], int] = {}
        self._durations: dict[tuple[Kind, bool], Histogram] = {}
        self._sizes: dict[Kind, Histogram] = {}
        self._gauges: dict[str, tuple[str, Callable[[], float]]] = {}
        self.reading, self.writing = Inflight(now), Inflight(now)
        self.deprecated: dict[tuple[str, str, str, str], str] = {}  # group, version, resource, subresource → removed in
        self.others: list[Callable[[], Iterable[str]]] = []  # lines that other parts have to show

    def gauge(self, name: str, help_text: str, read: Callable[[], float]) -> None:
        self._gauges[name] = (help_text, read)

    def inflight(self, info: RequestInfo) -> Inflight:
        return self.reading if info.verb in READ_ONLY else self.writing

    def count(self, info: RequestInfo, request: Request, answer: Response, took_s: float) -> None:
        verb = info.verb
        if verb == "patch" and request.headers.get("content-type", "").startswith(APPLY):
            verb = "apply"
        kind = (verb, info.group, info.version, info.resource, info.subresource, scope_of(info))
        is_dry = bool(request.query) and request.param("dryRun") == "All"
        place = (kind, is_dry, answer.status)
        self._requests[place] = self._requests.get(place, 0) + 1
        durations = self._durations.get(place[:2])
        if durations is None:
            durations = self._durations[place[:2]] = Histogram(BUCKETS_S)
        durations.observe(took_s)
        if verb in ("get", "list") and isinstance(answer.body, bytes):
            sizes = self._sizes.get(kind)
            if sizes is None:
                sizes = self._sizes[kind] = Histogram(SIZE_BUCKETS_BYTES)
            sizes.observe(len(answer.body))

    def text(self) -> bytes:
        lines = list(self._counted())
        for gauge, (help_text, read) in self._gauges.items():
            lines += family(gauge, "gauge", help_text, [("", read())])
        for other in self.others:
            lines += other()
        lines += process_metrics()
        return ("\n".join(lines) + "\n").encode()

    def _counted(self) -> Iterator[str]:
        totals: Counter[str] = Counter()
        for (kind, is_dry, code), count in sorted(self._requests.items()):
            totals[f'code="{code}",{_labels(kind, is_dry)}'] += count
        yield from family(
            "apiserver_request_total", "counter", "Requests, by what was asked and answered.", totals.items()
        )
        name = "apiserver_request_duration_seconds"
        yield from family(name, "histogram", "How long requests took.", ())
        for (kind, is_dry), durations in sorted(self._durations.items(), key=lambda one: one[0]):
            yield from durations.lines(name, _labels(kind, is_dry))
        name = "apiserver_response_sizes"
        yield from family(name, "histogram", "Sizes of the answers to reads.", ())
        for kind, sizes in sorted(self._sizes.items(), key=lambda one: one[0]):
            yield from sizes.lines(name, _labels(kind, None))
        name, meaning = "apiserver_current_inflight_requests", "The most requests served at once in the last second."
        shown = [('request_kind="mutating"', self.writing.high()), ('request_kind="readOnly"', self.reading.high())]
        yield from family(name, "gauge", meaning, shown)
        name, meaning = "apiserver_requested_deprecated_apis", "Deprecated APIs that have been asked for."
        asked = [
            (f'group="{group}",removed_release="{gone}",resource="{plural}",subresource="{sub}",version="{version}"', 1)
            for (group, version, plural, sub), gone in sorted(self.deprecated.items())
        ]
        yield from family(name, "gauge", meaning, asked)


def scope_of(info: RequestInfo) -> str:
    if info.name or info.verb == "create":
        return "resource"
    if info.namespace:
        return "namespace"
    return "cluster" if info.is_resource else ""


def _labels(kind: Kind, is_dry: bool | None) -> str:
    verb, group, version, plural, sub, scope = kind
    component = "apiserver" if plural else ""
    dry = "" if is_dry is None else f'dry_run="{"All" if is_dry else ""}",'
    named = f'group="{group}",resource="{plural}",scope="{scope}",subresource="{sub}"'
    shown = VERBS.get(verb, verb.upper() if verb == "apply" else "OTHER")
    return f'component="{component}",{dry}{named},verb="{shown}",version="{version}"'
