"""What can be seen of priority and fairness: metrics under upstream's names, and the debug pages.

The pages under /debug/api_priority_and_fairness/ are tables with a line for each level (dump_priority_levels), queue in
use (dump_queues) and request inside (dump_requests, with ?includeRequestDetails=1 all of it), columns separated by
commas and aligned.
Source: Kubernetes docs, "API Priority and Fairness", Observability.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from itertools import starmap
from operator import attrgetter

from orchestrator.api.histogram import Histogram
from orchestrator.api.kinds.flowcontrol_bootstrap import EXEMPT
from orchestrator.api.wire import Request, Response
from orchestrator.apiserver.fairness.gate import Gate, Passage
from orchestrator.apiserver.fairness.levels import BUCKETS_S, Level, Tally

PREFIX = "apiserver_flowcontrol_"
PAGES = "/debug/api_priority_and_fairness/"
COLUMN_MIN = 8
REQUEST_COLUMNS = (
    "PriorityLevelName", "FlowSchemaName", "QueueIndex", "RequestIndexInQueue", "FlowDistingsher", "ArriveTime",
    "InitialSeats", "FinalSeats", "AdditionalLatency", "StartTime",
)  # fmt: skip
DETAIL_COLUMNS = ("UserName", "Verb", "APIPath", "Namespace", "Name", "APIVersion", "Resource", "SubResource")
Table = Sequence[Sequence[object]]

# Gauges of a level: name, meaning, where it is read.
LEVEL_GAUGES: tuple[tuple[str, str, Callable[[Level], float]], ...] = (
    ("nominal_limit_seats", "Nominal seats of each priority level.", attrgetter("seats.nominal")),
    ("lower_limit_seats", "Seats that each priority level does not lend.", attrgetter("seats.lowest")),
    ("upper_limit_seats", "Seats that each priority level may have at most.", attrgetter("seats.highest")),
    ("current_limit_seats", "Seats that each priority level has now.", attrgetter("limit")),
    ("target_seats", "Seats that each priority level should have.", attrgetter("target")),
    ("demand_seats_high_watermark", "The most seats asked for in a period.", attrgetter("queues.demand.last.high")),
    ("demand_seats_average", "Seats asked for on average.", attrgetter("queues.demand.last.average")),
    ("demand_seats_stdev", "Deviation of the seats asked for.", attrgetter("queues.demand.last.deviation")),
    ("demand_seats_smoothed", "Seats asked for, smoothed.", attrgetter("queues.demand.last.smoothed")),
    ("current_r", "What the meter of each priority level reads.", attrgetter("queues.meter")),
)


class Report:
    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def routes(self) -> dict[str, Callable[[Request], Awaitable[Response]]]:
        pages = {"priority_levels": self._levels, "queues": self._queues, "requests": self._requests}
        return {f"{PAGES}dump_{name}": _page(rows) for name, rows in pages.items()}

    # -- metrics -------------------------------------------------------------------------------------------------------

    def metrics(self) -> Iterator[str]:
        levels = [level for _, level in sorted(self._gate.levels.levels.items())]
        for name, meaning, read in LEVEL_GAUGES:
            yield from _family(name, "gauge", meaning)
            for level in levels:
                yield f'{PREFIX}{name}{{priority_level="{level.name}"}} {read(level):g}'
        yield from _family("seat_fair_frac", "gauge", "The part of its target that each priority level is given.")
        yield f"{PREFIX}seat_fair_frac {self._gate.levels.fair_fraction:g}"
        tallies = [tally for _, tally in sorted(self._gate.levels.tallies.items())]
        yield from self._present(tallies)
        yield from _counters(tallies)
        yield from _histograms(tallies)

    def _present(self, tallies: Iterable[Tally]) -> Iterator[str]:
        requests: Counter[tuple[bool, Tally]] = Counter()
        seats: Counter[tuple[bool, Tally]] = Counter()
        for passage in self._gate.inside:
            requests[passage.is_served, passage.flow.tally] += 1
            seats[passage.is_served, passage.flow.tally] += passage.work.seats
        for name, counted, is_served in (
            ("current_inqueue_requests", requests, False),
            ("current_inqueue_seats", seats, False),
            ("current_executing_requests", requests, True),
            ("current_executing_seats", seats, True),
        ):
            yield from _family(name, "gauge", "Requests, or their seats, that wait in queues or are served.")
            for tally in tallies:
                yield f"{PREFIX}{name}{{{_labels(tally)}}} {counted[is_served, tally]}"

    # -- pages ---------------------------------------------------------------------------------------------------------

    def _levels(self, request: Request) -> Table:
        head = (
            "PriorityLevelName", "ActiveQueues", "IsIdle", "IsQuiescing", "WaitingRequests", "ExecutingRequests",
            "DispatchedRequests", "RejectedRequests", "TimedoutRequests", "CancelledRequests",
        )  # fmt: skip
        rows: list[Sequence[object]] = [head]
        for name, level in sorted(self._gate.levels.levels.items()):
            tallies = [tally for tally in self._gate.levels.tallies.values() if tally.level == name]
            queues = level.queues
            active = sum(bool(queue.waiting) for queue in queues.queues.values())
            refused = sum(sum(tally.refused.values()) for tally in tallies)
            late = sum(tally.refused.get("time-out", 0) for tally in tallies)
            dispatched = sum(tally.dispatched for tally in tallies)
            rows.append(
                (name, active, queues.is_idle, not level.is_wanted, queues.waiting, queues.served, dispatched, refused,
                 late, late)
            )  # fmt: skip
        return rows

    def _queues(self, request: Request) -> Table:
        head = (
            "PriorityLevelName", "Index", "PendingRequests", "ExecutingRequests", "SeatsInUse", "NextDispatchR",
            "InitialSeatsSum", "MaxSeatsSum", "TotalWorkSum",
        )  # fmt: skip
        rows: list[Sequence[object]] = [head]
        for name, level in sorted(self._gate.levels.levels.items()):
            for index, queue in sorted(level.queues.queues.items()):
                initial = sum(turn.work.initial_seats for turn in queue.waiting)
                seats = sum(turn.work.seats for turn in queue.waiting)
                start, work = f"{queue.next_start:.8f}ss", f"{queue.waiting_work:.8f}ss"
                rows.append((name, index, len(queue.waiting), queue.served, queue.seats, start, initial, seats, work))
        return rows

    def _requests(self, request: Request) -> Table:
        head: Sequence[object] = REQUEST_COLUMNS
        rows = [self._request_row(passage) for passage in self._gate.inside]
        if not request.param("includeRequestDetails"):
            return [head, *rows]
        return [(*head, *DETAIL_COLUMNS), *starmap(_detailed, zip(rows, self._gate.inside, strict=True))]

    def _request_row(self, passage: Passage) -> Sequence[object]:
        flow, work, queue = passage.flow, passage.work, passage.queue
        place = list(queue.waiting).index(passage) if queue is not None and passage in queue.waiting else -1
        started = self._gate.wall_time(passage.started_at) if passage.is_served else "0001-01-01T00:00:00Z"
        return (
            flow.level.name, flow.schema.name, queue.index if queue is not None else -1, place, flow.distinguisher,
            self._gate.wall_time(passage.entered_at), work.initial_seats, work.final_seats, f"{work.linger_s:g}s",
            started,
        )  # fmt: skip


def _detailed(row: Sequence[object], passage: Passage) -> Sequence[object]:
    info = passage.info
    version = f"{info.group}/{info.version}" if info.group else info.version
    return (
        *row, passage.user.name, info.verb, info.path, info.namespace, info.name, version, info.resource,
        info.subresource,
    )  # fmt: skip


def _page(rows: Callable[[Request], Table]) -> Callable[[Request], Awaitable[Response]]:
    async def page(request: Request) -> Response:
        return Response(200, {"content-type": "text/plain; charset=utf-8"}, _aligned(rows(request)).encode())

    return page


def _aligned(table: Table) -> str:
    """Each cell but the last of a line ends with a comma, and is as wide as the widest of its column."""
    texts = [[f"{_shown(cell)}," for cell in row[:-1]] for row in table]
    widths = [max(COLUMN_MIN, 1 + max(map(len, column))) for column in zip(*texts, strict=True)]
    lines = []
    for row, cells in zip(table, texts, strict=True):
        padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
        lines.append("".join(padded) + _shown(row[-1]) + "\n")
    return "".join(lines)


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _family(name: str, kind: str, meaning: str) -> tuple[str, str]:
    return f"# HELP {PREFIX}{name} {meaning}", f"# TYPE {PREFIX}{name} {kind}"


def _labels(tally: Tally) -> str:
    return f'flow_schema="{tally.schema}",priority_level="{tally.level}"'


def _counters(tallies: Iterable[Tally]) -> Iterator[str]:
    yield from _family("dispatched_requests_total", "counter", "Requests that were served.")
    for tally in tallies:
        yield f"{PREFIX}dispatched_requests_total{{{_labels(tally)}}} {tally.dispatched}"
    yield from _family("rejected_requests_total", "counter", "Requests that were refused.")
    for tally in tallies:
        for reason, count in sorted(tally.refused.items()):
            yield f'{PREFIX}rejected_requests_total{{{_labels(tally)},reason="{reason}"}} {count}'


def _histograms(tallies: Sequence[Tally]) -> Iterator[str]:
    def lines(name: str, meaning: str, shown: Iterable[tuple[str, Histogram]]) -> Iterator[str]:
        yield from _family(name, "histogram", meaning)
        for found in starmap(lambda labels, histogram: histogram.lines(f"{PREFIX}{name}", labels), shown):
            yield from found

    yield from lines(
        "request_wait_duration_seconds",
        "Time that a request waited.",
        (
            (f'execute="{_shown(served)}",{_labels(tally)}', found)
            for tally in tallies
            for served, found in _waited(tally).items()
        ),
    )
    yield from lines(
        "request_execution_seconds",
        "Time that a request was served; of a watch, until it had started.",
        (
            (f'{_labels(tally)},type="{"watch" if is_watch else "regular"}"', found)
            for tally in tallies
            for is_watch, found in tally.took.items()
        ),
    )
    yield from lines(
        "work_estimated_seats",
        "Seats that a request was taken to need.",
        ((_labels(tally), tally.seats.with_more(1, tally.of_one_seat)) for tally in tallies),
    )
    yield from lines(
        "request_queue_length_after_enqueue",
        "Length of its queue as a request saw it that has to wait.",
        ((_labels(tally), tally.queue_length) for tally in tallies),
    )


def _waited(tally: Tally) -> dict[bool, Histogram]:
    if not tally.at_once or tally.level == EXEMPT:
        return tally.waited
    served = tally.waited.get(True) or Histogram(BUCKETS_S)
    return {**tally.waited, True: served.with_more(0, tally.at_once)}
