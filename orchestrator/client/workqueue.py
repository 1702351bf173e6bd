"""Work queue: the keys that await a reconcile, each held by at most one worker.

    idle --add--> waiting --get--> processing --done--> idle
                                       |  add             ^
                                       v                  |
                                   processing and dirty --done--> waiting

Invariant: a key waits at most once and is never processed by two workers together; what is added while it is processed
makes it wait again afterwards. A rate-limited add waits 5 ms, doubled for each failure since the last `forget`, at most
`DELAY_MAX_S`. Of several delays for one key the earliest counts. Units: seconds of the event loop's clock.
Errors: none; after `close`, `get` returns None. Source: client-go util/workqueue.
"""

from __future__ import annotations

import asyncio
from collections import deque

DELAY_FIRST_S = 0.005
DELAY_MAX_S = 60.0


class WorkQueue:
    """Keys in the order in which they became due."""

    def __init__(self, *, delay_first_s: float = DELAY_FIRST_S, delay_max_s: float = DELAY_MAX_S) -> None:
        self._delay_first_s = delay_first_s
        self._delay_max_s = delay_max_s
        self._waiting: deque[str] = deque()
        self._dirty: set[str] = set()  # waiting, or to wait again once done
        self._processing: set[str] = set()
        self._delayed: dict[str, asyncio.TimerHandle] = {}
        self._failures: dict[str, int] = {}
        self._getters: deque[asyncio.Future[None]] = deque()
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_idle(self) -> bool:
        """Nothing waits and nothing is processed; delayed keys do not count."""
        return not self._waiting and not self._processing

    def add(self, key: str) -> None:
        if self._is_closed or key in self._dirty:
            return
        self._dirty.add(key)
        if key not in self._processing:
            self._waiting.append(key)
            self._wake()

    def add_after(self, key: str, delay_s: float) -> None:
        if delay_s <= 0:
            self.add(key)
            return
        if self._is_closed:
            return
        loop = asyncio.get_running_loop()
        due = loop.time() + delay_s
        earlier = self._delayed.get(key)
        if earlier is not None:
            if earlier.when() <= due:
                return
            earlier.cancel()
        self._delayed[key] = loop.call_at(due, self._due, key)

    def add_rate_limited(self, key: str) -> None:
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        self.add_after(key, min(self._delay_first_s * 2 ** min(failures, 32), self._delay_max_s))

    def failures(self, key: str) -> int:
        return self._failures.get(key, 0)

    def forget(self, key: str) -> None:
        self._failures.pop(key, None)

    async def get(self) -> str | None:
        while not self._waiting:
            if self._is_closed:
                return None
            getter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._getters.append(getter)
            try:
                await getter
            except asyncio.CancelledError:
                if getter.done() and not getter.cancelled():
                    self._wake()  # the wake-up that this worker will not use
                raise
        key = self._waiting.popleft()
        self._dirty.discard(key)
        self._processing.add(key)
        return key

    def done(self, key: str) -> None:
        self._processing.discard(key)
        if key in self._dirty:
            self._waiting.append(key)
            self._wake()

    def close(self) -> None:
        """What waits is still handed out; nothing more is taken."""
        self._is_closed = True
        for timer in self._delayed.values():
            timer.cancel()
        self._delayed.clear()
        while self._getters:
            self._wake()

    def _due(self, key: str) -> None:
        self._delayed.pop(key, None)
        self.add(key)

    def _wake(self) -> None:
        while self._getters:
            getter = self._getters.popleft()
            if not getter.done():
                getter.set_result(None)
                return
