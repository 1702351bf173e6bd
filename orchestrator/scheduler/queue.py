"""The queue of Pods that want a node.

    put ──> active ──pop──> in flight ──bound──> (gone)
      │        ^  ^             │ failed
      │        │  └─ backoff <──┤      a change that helps, or 5 minutes
    gated      └──── unschedulable

Active Pods come by priority, then by how long they wait. A Pod that found no node waits in `unschedulable` until a
change may help it, as the plugins that refused it say; it then backs off, 1 s doubled with each attempt up to 10 s.
Backing off yields to idleness: when nothing is active the Pod that is nearest to its end is taken at once, except after
an error. Gated Pods wait for their gates to be removed. Invariant: a Pod is in exactly one place. Time is given.
Source: kube-scheduler's scheduling queue; KEP-4247 queueing hints.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from enum import Enum

from msgspec import Struct

from orchestrator.scheduler.changes import Change, ChangeKind
from orchestrator.scheduler.plugins.prioritysort import sort_key
from orchestrator.scheduler.plugins.schedulinggates import is_gated
from orchestrator.scheduler.pod import Pod

UNSCHEDULABLE_MAX_S = 300.0

Hears = Callable[[ChangeKind, frozenset[str]], bool]
Helps = Callable[[Change, Pod, frozenset[str]], bool]


class Place(Enum):
    ACTIVE = "active"
    BACKOFF = "backoff"
    UNSCHEDULABLE = "unschedulable"
    GATED = "gated"
    IN_FLIGHT = "in flight"


class Waiting(Struct):
    """A Pod in the queue; `plugins` refused it last time."""

    pod: Pod
    queued_s: float
    place: Place = Place.ACTIVE
    attempts: int = 0
    plugins: frozenset[str] = frozenset()
    since_s: float = 0.0  # of the last attempt
    until_s: float = 0.0  # of the back-off
    is_error: bool = False
    ticket: int = 0  # of the newest heap entry; older ones are void


class SchedulingQueue:
    """`now` is the clock of the event loop."""

    def __init__(
        self,
        now: Callable[[], float],
        hears: Hears,
        helps: Helps,
        *,
        backoff_first_s: float = 1.0,
        backoff_max_s: float = 10.0,
    ) -> None:
        self._now = now
        self._hears = hears
        self._helps = helps
        self._backoff_first_s = backoff_first_s
        self._backoff_max_s = backoff_max_s
        self._pods: dict[str, Waiting] = {}
        self._unschedulable: dict[frozenset[str], dict[str, Waiting]] = {}  # by the plugins that refused
        self._active: list[tuple[tuple[int, float], int, str]] = []
        self._backoff: list[tuple[float, int, str]] = []
        self._tickets = itertools.count(1)
        self._waker: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._pods)

    def place_of(self, key: str) -> Place | None:
        waiting = self._pods.get(key)
        return waiting.place if waiting else None

    def count(self, place: Place) -> int:
        return sum(waiting.place is place for waiting in self._pods.values())

    def put(self, pod: Pod) -> None:
        """A Pod that is new or changed. A change of what it asks, or of its gates, is a reason to try again."""
        waiting = self._pods.get(pod.key)
        if waiting is not None and waiting.pod.uid != pod.uid:
            self.remove(pod.key)
            waiting = None
        if waiting is None:
            waiting = self._pods[pod.key] = Waiting(pod, self._now())
            self._enter(waiting)
            return
        old, waiting.pod = waiting.pod, pod
        if waiting.place is Place.GATED:
            self._enter(waiting)
        elif waiting.place is Place.UNSCHEDULABLE and _asks_differently(old, pod):
            self._retry(waiting)
        elif waiting.place is Place.ACTIVE and old.priority != pod.priority:
            self._enter(waiting)

    def remove(self, key: str) -> None:
        """The Pod is gone or has a node. Its heap entries are void without it."""
        waiting = self._pods.pop(key, None)
        if waiting is not None:
            self._leave_unschedulable(waiting)

    def pop_now(self) -> Waiting | None:
        """The next Pod, which is in flight from now on; None where there is none."""
        self._end_backoffs()
        waiting = self._pop_active() or self._pop_backoff()
        if waiting is not None:
            waiting.place = Place.IN_FLIGHT
            waiting.attempts += 1
            waiting.since_s = self._now()
        return waiting

    async def pop(self) -> Waiting:
        while (waiting := self.pop_now()) is None:
            self._waker = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(self._next_due_s()):
                    await self._waker
            except TimeoutError:
                self._flush()
            finally:
                self._waker = None
        return waiting

    def done(self, waiting: Waiting) -> None:
        """It is bound."""
        if self._pods.get(waiting.pod.key) is waiting:
            self.remove(waiting.pod.key)

    def failed(self, waiting: Waiting, plugins: frozenset[str], *, is_error: bool = False) -> None:
        """No node, or an error on the way; nothing if the Pod has gone meanwhile."""
        if self._pods.get(waiting.pod.key) is not waiting:
            return
        waiting.plugins = plugins
        waiting.is_error = is_error or not plugins
        if waiting.is_error:
            self._back_off(waiting)
        elif is_gated(waiting.pod):
            waiting.place = Place.GATED
        else:
            waiting.place = Place.UNSCHEDULABLE
            self._unschedulable.setdefault(plugins, {})[waiting.pod.key] = waiting

    def changed(self, change: Change) -> None:
        """Whoever the change may help tries again."""
        for plugins in [plugins for plugins in self._unschedulable if self._hears(change.kind, plugins)]:
            for waiting in list(self._unschedulable[plugins].values()):
                if self._helps(change, waiting.pod, plugins):
                    self._retry(waiting)

    def activate(self, key: str) -> None:
        """Try this Pod again without waiting for a change."""
        waiting = self._pods.get(key)
        if waiting is not None and waiting.place is Place.UNSCHEDULABLE:
            self._retry(waiting)

    def _leave_unschedulable(self, waiting: Waiting) -> None:
        alike = self._unschedulable.get(waiting.plugins, {})
        if alike.pop(waiting.pod.key, None) is not None and not alike:
            del self._unschedulable[waiting.plugins]

    def _retry(self, waiting: Waiting) -> None:
        self._leave_unschedulable(waiting)
        if waiting.since_s + self._delay_s(waiting) > self._now():
            self._back_off(waiting)
        else:
            self._enter(waiting)

    def _enter(self, waiting: Waiting) -> None:
        if is_gated(waiting.pod):
            waiting.place = Place.GATED
            return
        waiting.place = Place.ACTIVE
        waiting.ticket = next(self._tickets)
        heapq.heappush(self._active, (sort_key(waiting.pod, waiting.queued_s), waiting.ticket, waiting.pod.key))
        self._wake()

    def _back_off(self, waiting: Waiting) -> None:
        waiting.place = Place.BACKOFF
        waiting.until_s = waiting.since_s + self._delay_s(waiting)
        waiting.ticket = next(self._tickets)
        heapq.heappush(self._backoff, (waiting.until_s, waiting.ticket, waiting.pod.key))
        self._wake()

    def _delay_s(self, waiting: Waiting) -> float:
        return min(self._backoff_first_s * 2.0 ** min(waiting.attempts - 1, 30), self._backoff_max_s)

    def _end_backoffs(self) -> None:
        now = self._now()
        while self._backoff and (self._backoff[0][0] <= now or self._void(self._backoff[0])):
            waiting = self._valid(heapq.heappop(self._backoff))
            if waiting is not None:
                self._enter(waiting)

    def _pop_active(self) -> Waiting | None:
        while self._active:
            waiting = self._valid(heapq.heappop(self._active))
            if waiting is not None:
                return waiting
        return None

    def _pop_backoff(self) -> Waiting | None:
        """The nearest to its end that is not there for an error."""
        if not self._backoff:
            return None
        kept = []
        found = None
        while self._backoff and found is None:
            entry = heapq.heappop(self._backoff)
            waiting = self._valid(entry)
            if waiting is not None and waiting.is_error:
                kept.append(entry)
            else:
                found = waiting
        for entry in kept:
            heapq.heappush(self._backoff, entry)
        return found

    def _valid(self, entry: tuple[object, int, str]) -> Waiting | None:
        waiting = self._pods.get(entry[2])
        return waiting if waiting is not None and waiting.ticket == entry[1] else None

    def _void(self, entry: tuple[object, int, str]) -> bool:
        return self._valid(entry) is None

    def _next_due_s(self) -> float:
        due = [UNSCHEDULABLE_MAX_S / 10]
        if self._backoff:
            due.append(max(0.0, self._backoff[0][0] - self._now()))
        return min(due)

    def _flush(self) -> None:
        """Whatever waited too long tries again: a change may have been missed."""
        limit = self._now() - UNSCHEDULABLE_MAX_S
        overdue = [one for alike in self._unschedulable.values() for one in alike.values() if one.since_s < limit]
        for waiting in overdue:
            self._retry(waiting)

    def _wake(self) -> None:
        if self._waker is not None and not self._waker.done():
            self._waker.set_result(None)


def _asks_differently(old: Pod, new: Pod) -> bool:
    return old.demand is not new.demand or old.labels != new.labels or old.gates != new.gates
