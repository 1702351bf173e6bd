"""The gate that each request goes through once it is known who asks: served at once, after a wait, or refused with 429.

    passage = gate.enter(user, info, request)
    if passage.is_served or await gate.waited(passage): serve it, then gate.leave(passage)
    else: answer gate.refusal(passage)

A watch leaves when it has started. Other requests that last as long as their clients like (exec, logs, proxies) do not
go through here at all.

One thread serves everything, so requests that need not wait for the store are over before the next one is looked at,
and never seem to be many. They are: a flood of lists that came together is served together, and whoever comes next has
to wait for all of it. Therefore seats are given back when the turn of the event loop ends, not earlier, and a level
serves in one turn no more than its seats, and no more than takes TURN_S. The rest of the flood queues for the turns
after; what came for other levels meanwhile goes between.

Source: KEP-1040; k8s.io/apiserver server/filters, priority-and-fairness.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from time import perf_counter

from orchestrator.api import meta
from orchestrator.api.clock import Clock
from orchestrator.api.meta import Object
from orchestrator.api.resources import FLOWSCHEMAS, PRIORITYLEVELCONFIGURATIONS
from orchestrator.api.wire import Identity, Request, Response
from orchestrator.apiserver.endpoint import Endpoint
from orchestrator.apiserver.fairness.levels import Flow, Level, Levels
from orchestrator.apiserver.fairness.queueset import Turn
from orchestrator.apiserver.fairness.work import estimate
from orchestrator.apiserver.lookup import Lookup
from orchestrator.apiserver.request import RequestInfo

TURN_S = 0.02  # of one turn of the event loop, for one level
WAIT_MAX_S = 15.0  # a quarter of kube-apiserver's time for a request
LONG_RUNNING = ("attach", "exec", "proxy", "log", "portforward")

Endpoints = Mapping[tuple[str, str, str], Endpoint]


def is_long_running(info: RequestInfo) -> bool:
    """Whether it lasts as long as its client likes, and is no watch."""
    return info.is_resource and (info.subresource in LONG_RUNNING or info.verb == "proxy")


class Passage(Turn, eq=False, kw_only=True):
    """A request at the gate. `decision` is there where it has to wait: whether it may go on in the end."""

    flow: Flow
    is_watch: bool
    entered_at: float
    info: RequestInfo
    user: Identity
    decision: asyncio.Future[bool] | None = None


class Gate:
    """`now`: seconds of a clock that runs evenly. Entered from the event loop only."""

    def __init__(
        self,
        lookup: Lookup,
        endpoints: Endpoints,
        server_limit: int,
        clock: Clock,
        now: Callable[[], float] = perf_counter,
    ) -> None:
        self._lookup = lookup
        self._endpoints = endpoints
        self._now = now
        self._epoch = clock.now() - now()  # what the wall clock said when `now` was 0
        self.levels = Levels(server_limit, now())
        self.is_stale = asyncio.Event()  # set: the status of schemas may have to be told anew
        self.inside: dict[Passage, None] = {}  # waiting or served
        self._is_changed = True
        self._left: list[tuple[Passage, float]] = []
        self._turn_began = -1.0  # now; -1 between turns
        self._spending: dict[Level, None] = {}  # levels that were served in this turn
        self._going_on: dict[Level, None] = {}  # levels whose queues go on in the next turn
        for resource in (PRIORITYLEVELCONFIGURATIONS, FLOWSCHEMAS):
            lookup.subscribe(resource, self._changed)
        self._digest()

    # -- requests ------------------------------------------------------------------------------------------------------

    def enter(self, user: Identity, info: RequestInfo, request: Request) -> Passage:
        if self._is_changed:  # whoever changed a schema sees it at work
            self._digest()
        flow = self.levels.flow(user, info)
        level, tally = flow.level, flow.tally
        endpoint = self._endpoints.get((info.group, info.version, info.resource)) if info.is_resource else None
        work = estimate(info, request, endpoint.cache if endpoint is not None else None, level.seats_max)
        now = self._now()
        self._in_turn(now)
        passage = Passage(work, flow=flow, is_watch=info.verb == "watch", entered_at=now, info=info, user=user)
        if work.seats == 1:
            tally.of_one_seat += 1
        else:
            tally.seats.observe(work.seats)
        if not level.queues.arrive(passage, flow.hand, now, waits=level.spent_s >= TURN_S):
            self._refused(passage, "queue-full" if flow.hand else "concurrency-limit", now)
            return passage
        self.inside[passage] = None
        if passage.is_served:
            tally.dispatched += 1
            tally.at_once += 1
            return passage
        assert passage.queue is not None
        tally.queue_length.observe(len(passage.queue.waiting))
        passage.decision = asyncio.get_running_loop().create_future()
        self._go_on_soon(level)
        return passage

    async def waited(self, passage: Passage) -> bool:
        """Whether the request may be served, after its wait."""
        if passage.decision is None:
            return passage.is_served
        timer = asyncio.get_running_loop().call_later(WAIT_MAX_S, self._give_up, passage)
        try:
            return await asyncio.shield(passage.decision)
        except asyncio.CancelledError:  # its client has gone
            if passage.is_served:
                self.leave(passage)
            else:
                self._give_up(passage)
            raise
        finally:
            timer.cancel()

    def leave(self, passage: Passage) -> None:
        """It has been served; once for each that was let in."""
        now, level = self._now(), passage.flow.level
        self._in_turn(now)
        if passage.started_at >= self._turn_began:  # it came in this turn
            level.spent_s += now - passage.started_at
            self._spending[level] = None
        self._left.append((passage, now))

    def refusal(self, passage: Passage) -> Response:
        after_s = passage.flow.level.retry.refused(self._now())
        headers = {"content-type": "text/plain; charset=utf-8", "x-content-type-options": "nosniff"}
        headers["retry-after"] = str(after_s)
        return Response(429, headers, b"Too many requests, please try again later.\n")

    def wall_time(self, when: float) -> str:
        """An earlier reading of its own clock, as a time of day."""
        return meta.format_micro_time(self._epoch + when)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _in_turn(self, now: float) -> None:
        """Something happens in this turn of the event loop, so it will have an end."""
        if self._turn_began < 0:
            self._turn_began = now
            asyncio.get_running_loop().call_soon(self._turn_over)

    def _turn_over(self) -> None:
        self._turn_began = -1.0
        left, self._left = self._left, []
        for level in self._spending:
            level.spent_s = 0.0
        self._spending.clear()
        now = self._now()
        touched: dict[Level, None] = {}
        for passage, left_at in left:
            del self.inside[passage]
            level, tally = passage.flow.level, passage.flow.tally
            took_s = left_at - passage.started_at
            level.queues.finish(passage, took_s, now)
            tally.observe(tally.took, passage.is_watch, took_s)
            if passage.work.linger_s:
                asyncio.get_running_loop().call_later(passage.work.linger_s, self._lingered, passage)
            else:
                level.queues.release(passage, now)
            touched[level] = None
        self._go_on_in(touched)

    def _lingered(self, passage: Passage) -> None:
        passage.flow.level.queues.release(passage, self._now())
        self._go_on_in((passage.flow.level,))

    def _go_on_in(self, levels: Iterable[Level]) -> None:
        now = self._now()
        for level in levels:
            is_later = level in self._going_on  # its share of this turn is kept for then
            started = level.queues.dispatch(now, 0.0 if is_later else TURN_S)
            self._go_on(started, now)
            if started and level.queues.waiting:
                self._go_on_soon(level)
            if not level.is_wanted and level.queues.is_idle:
                self._digest_soon()

    def _go_on_soon(self, level: Level) -> None:
        """In the next turn: first those go on who were let in, and sockets are looked at."""
        if not self._going_on:
            asyncio.get_running_loop().call_soon(self._going)
        self._going_on[level] = None

    def _going(self) -> None:
        levels, self._going_on = self._going_on, {}
        self._go_on_in([level for level in levels if level.queues.waiting])

    def _go_on(self, started: Iterable[Turn], now: float) -> None:
        for turn in started:
            assert isinstance(turn, Passage) and turn.decision is not None
            tally = turn.flow.tally
            tally.dispatched += 1
            tally.observe(tally.waited, True, now - turn.entered_at)
            turn.decision.set_result(True)

    def _give_up(self, passage: Passage) -> None:
        assert passage.decision is not None
        if passage.decision.done():
            return
        now = self._now()
        passage.flow.level.queues.give_up(passage, now)
        del self.inside[passage]
        passage.decision.set_result(False)
        self._refused(passage, "time-out", now)
        self._go_on_in((passage.flow.level,))

    def _refused(self, passage: Passage, reason: str, now: float) -> None:
        tally = passage.flow.tally
        tally.refused[reason] = tally.refused.get(reason, 0) + 1
        tally.observe(tally.waited, False, now - passage.entered_at)

    # -- configuration -------------------------------------------------------------------------------------------------

    def adjust(self) -> None:
        """Deals out the seats anew; called every PERIOD_S."""
        now = self._now()
        self._go_on(self.levels.adjust(now), now)

    def _changed(self, old: Object | None, new: Object | None) -> None:
        self._digest_soon()

    def _digest_soon(self) -> None:
        """Several changes are digested together."""
        if not self._is_changed:
            self._is_changed = True
            asyncio.get_running_loop().call_soon(self._digest)

    def _digest(self) -> None:
        if not self._is_changed:
            return
        self._is_changed = False
        now = self._now()
        schemas, levels = self._lookup.list(FLOWSCHEMAS), self._lookup.list(PRIORITYLEVELCONFIGURATIONS)
        self._go_on(self.levels.digest(schemas, levels, now), now)
        self.is_stale.set()
