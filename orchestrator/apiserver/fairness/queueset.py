"""Fair queues of one priority level: which request is served next, and on how many seats.

A request takes seats while it is served, and some keep them a little longer (the watch events of a write). While seats
are free it is served at once; otherwise it waits in a queue, or is refused where that is full. Of the queues that wait,
the next one is that whose oldest request would be finished first if all queues were served evenly, seat by seat: fair
queuing, for requests whose length is only known afterwards.

That even service is counted by a meter, `meter`: the seat-seconds that each busy queue would have been given since the
start. It moves by (seats asked for, at most the limit) / (busy queues) a second. A queue keeps the reading `next_start`
at which its next request would start; a request pushes it on by the work that it is expected to be (SERVICE_S a seat),
and its end corrects that by what it was. A queue that was idle starts at the present reading, and none may start before
its oldest request came, or a queue that asked for little would save up a claim on all seats.

A set without queues serves what fits and refuses the rest; with limit None it is exempt and serves everything.
Pure: *now* is handed in (seconds, never going backwards). Whoever serves the requests calls `finish` and `release` for
each that was started, and serves what `dispatch` returns.
Source: KEP-1040, "Fair Queuing for Server Requests"; k8s.io/apiserver flowcontrol/fairqueuing/queueset.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec import Struct, field
from msgspec.structs import force_setattr

from orchestrator.apiserver.fairness.demand import Demand

SERVICE_S = 0.003  # what a request is taken to last before it is known


class Work(Struct, frozen=True):
    """Seats that a request takes while it is served, and `final_seats` for `linger_s` after that."""

    initial_seats: int = 1
    final_seats: int = 0
    linger_s: float = 0.0
    seats: int = 0  # that it holds from start to release
    seat_seconds: float = 0.0

    def __post_init__(self) -> None:
        force_setattr(self, "seats", max(self.initial_seats, self.final_seats))
        seat_seconds = self.initial_seats * SERVICE_S + self.final_seats * self.linger_s
        force_setattr(self, "seat_seconds", seat_seconds)

    def within(self, limit: int) -> Work:
        """The same work on at most `limit` final seats."""
        if self.final_seats <= limit:
            return self
        seats = max(limit, 1)
        return Work(self.initial_seats, seats, self.final_seats * self.linger_s / seats)


ONE_SEAT = Work()


class Turn(Struct, eq=False):
    """One request's turn: waiting, then served, then over."""

    work: Work = ONE_SEAT
    queue: Queue | None = None
    arrived: float = 0.0  # the meter's reading then
    started_at: float = 0.0
    is_served: bool = False


class Queue(Struct, eq=False):
    index: int
    waiting: dict[Turn, None] = field(default_factory=dict)  # oldest first
    waiting_work: float = 0.0  # seat-seconds
    served: int = 0
    seats: int = 0
    next_start: float = 0.0

    @property
    def oldest(self) -> Turn:
        return next(iter(self.waiting))


class Queuing(Struct, frozen=True):
    """A set without queues has 0 of them."""

    queues: int = 0
    hand_size: int = 0
    length_max: int = 0


class QueueSet:
    """`limit` is the seats that the level has now, None without limit."""

    def __init__(self, queuing: Queuing, limit: int | None, now: float) -> None:
        self.queuing = queuing
        self.limit = limit
        self.meter = 0.0
        self.waiting = self.served = 0  # requests
        self.seats = self.seats_waiting = 0
        self.demand = Demand(now)
        self.queues: dict[int, Queue] = {}  # those that were ever used; the rest are idle
        self._backlog: dict[Queue, None] = {}  # the queues in which someone waits
        self._busy = 0  # queues that are not idle
        self._queue_seats = 0  # seats of requests that came through a queue
        self._metered_at = now
        self._last = -1  # the queue served last, by index
        self._arrivals = 0

    @property
    def is_idle(self) -> bool:
        return not self.waiting and not self.served and not self.seats

    def configure(self, queuing: Queuing, limit: int | None, now: float) -> list[Turn]:
        """Goes on with other settings; returns what can be served now. Queues that are too many take no more."""
        self._advance(now)
        self.queues = {index: queue for index, queue in self.queues.items() if index < queuing.queues}
        self.queuing, self.limit = queuing, limit
        return self.dispatch(now)

    def arrive(self, turn: Turn, hand: Sequence[int], now: float, *, waits: bool = False) -> bool:
        """Whether the request is taken: it is served where `is_served` says so, and waits otherwise. `hand`: the
        queues of its flow; empty for a set without queues. `waits`: it has to wait though there are seats."""
        self._advance(now)
        if not hand:
            return self._fits(turn.work) and self._serve(turn, now)
        queue = self._shortest(hand)
        is_full = waits or self._is_full
        if is_full and len(queue.waiting) >= self.queuing.length_max:
            return False
        meter = turn.arrived = self.meter
        turn.queue = queue
        if not queue.served and not queue.waiting:
            queue.next_start = meter
            self._busy += 1
        if not self.waiting and not is_full and self._fits(turn.work):  # the common case, past the queue
            if queue.next_start < meter:
                queue.next_start = meter
            return self._serve(turn, now)
        queue.waiting[turn] = None
        queue.waiting_work += turn.work.seat_seconds
        self._backlog[queue] = None
        self.waiting += 1
        self.seats_waiting += turn.work.seats
        self._bound(queue)
        self.demand.set(self.seats + self.seats_waiting, now)
        return True

    def dispatch(self, now: float, work_max: float = math.inf) -> list[Turn]:
        """Starts as much as fits, the fairest first, until `work_max` seat-seconds are started. One that does not fit
        waits for its seats: nobody goes before it, or a wide request would wait for ever."""
        self._advance(now)
        started: list[Turn] = []
        work = 0.0
        while self._backlog and not self._is_full and work < work_max:
            queue = min(self._backlog, key=self._rank)
            turn = queue.oldest
            if not self._fits(turn.work):
                break
            work += turn.work.seat_seconds
            self._leave_queue(turn, queue)
            self._last = queue.index
            self._serve(turn, now)
            self._bound(queue)
            started.append(turn)
        self.demand.set(self.seats + self.seats_waiting, now)
        return started

    def give_up(self, turn: Turn, now: float) -> None:
        """A request that waits, waits no longer."""
        assert turn.queue is not None and turn in turn.queue.waiting
        self._advance(now)
        self._leave_queue(turn, turn.queue)
        self._bound(turn.queue)
        self._busy -= not turn.queue.waiting and not turn.queue.served
        self.demand.set(self.seats + self.seats_waiting, now)

    def finish(self, turn: Turn, took_s: float, now: float) -> None:
        """The request was served in `took_s`; it keeps its seats until `release`."""
        self._advance(now)
        self.served -= 1
        queue = turn.queue
        if queue is None:
            return
        queue.served -= 1
        queue.next_start -= turn.work.initial_seats * (SERVICE_S - took_s)
        if queue.waiting:
            self._bound(queue)
        elif not queue.served:
            self._busy -= 1

    def release(self, turn: Turn, now: float) -> None:
        """Its seats are free; `dispatch` gives them to others."""
        self._advance(now)
        seats, queue = turn.work.seats, turn.queue
        self.seats -= seats
        if queue is not None:
            queue.seats -= seats
            self._queue_seats -= seats

    # -- inside --------------------------------------------------------------------------------------------------------

    @property
    def _is_full(self) -> bool:
        return self.limit is not None and self.seats >= self.limit

    def _fits(self, work: Work) -> bool:
        """A request that is wider than the limit is served alone."""
        if self.limit is None:
            return True
        if work.seats > self.limit:
            return not self.served
        return self.seats + work.seats <= self.limit

    def _advance(self, now: float) -> None:
        if self._busy and now != self._metered_at:
            asked = self._queue_seats + self.seats_waiting
            rate = asked if self.limit is None else min(asked, self.limit)
            self.meter += rate / self._busy * (now - self._metered_at)
        self._metered_at = now

    def _shortest(self, hand: Sequence[int]) -> Queue:
        """The queue of the hand in which the least work waits. Where to start looking turns from request to request,
        so that hands that share queues do not always meet in the same."""
        start = self._arrivals % len(hand)
        self._arrivals += 1
        if not self.waiting:
            return self.queues.get(hand[start]) or self._queue(hand[start])
        order = map(self._queue, (*hand[start:], *hand[:start]))
        return min(order, key=lambda queue: queue.waiting_work)

    def _queue(self, index: int) -> Queue:
        found = self.queues.get(index)
        if found is None:
            found = self.queues[index] = Queue(index)
        return found

    def _rank(self, queue: Queue) -> tuple[float, int]:
        """When its oldest request would be finished; among equals the queues take turns."""
        finish = queue.next_start + queue.oldest.work.seat_seconds
        return finish, (queue.index - self._last - 1) % max(self.queuing.queues, 1)

    def _serve(self, turn: Turn, now: float) -> bool:
        turn.is_served, turn.started_at = True, now
        work, queue = turn.work, turn.queue
        if self.limit is not None and work.final_seats > self.limit:
            work = turn.work = work.within(self.limit)
        self.served += 1
        self.seats += work.seats
        if queue is not None:
            queue.served += 1
            queue.seats += work.seats
            queue.next_start += work.seat_seconds
            self._queue_seats += work.seats
        self.demand.set(self.seats + self.seats_waiting, now)
        return True

    def _leave_queue(self, turn: Turn, queue: Queue) -> None:
        del queue.waiting[turn]
        queue.waiting_work -= turn.work.seat_seconds
        if not queue.waiting:
            queue.waiting_work = 0.0  # no rest of rounding
            self._backlog.pop(queue, None)
        self.waiting -= 1
        self.seats_waiting -= turn.work.seats

    def _bound(self, queue: Queue) -> None:
        if queue.waiting:
            queue.next_start = max(queue.next_start, queue.oldest.arrived)
