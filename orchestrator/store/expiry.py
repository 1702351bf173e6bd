"""Expiry: keys with a time to live, deleted when it has passed. Shared by the stores that live in this process.

A key written again has a new time, or none; the entry of the older revision then finds another head and does nothing.
Deletion is an ordinary write (compare-and-swap on the revision that set the time), so watches see it. Times are seconds
of the wall clock, since they outlive the process; a key may outlive its time by up to EXPIRY_STEP_S.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable

from orchestrator.api.clock import Clock
from orchestrator.store.interface import StoreError

EXPIRY_STEP_S = 1.0
EXPIRED_PER_STEP_MAX = 200  # deletions of one step: a burst of old events must not hold up other writes


class Expiry:
    def __init__(self, clock: Clock, delete: Callable[[str, int], Awaitable[int]]) -> None:
        self._clock = clock
        self._delete = delete
        self._heap: list[tuple[float, str, int]] = []  # (when, key, revision)
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def add(self, key: str, revision: int, expires: float) -> None:
        heapq.heappush(self._heap, (expires, key, revision))
        if self._task is None and not self._closed:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def due(self, now: float) -> list[tuple[str, int]]:
        """Takes the entries whose time has passed, at most EXPIRED_PER_STEP_MAX."""
        found: list[tuple[str, int]] = []
        while self._heap and self._heap[0][0] <= now and len(found) < EXPIRED_PER_STEP_MAX:
            _, key, revision = heapq.heappop(self._heap)
            found.append((key, revision))
        return found

    async def _run(self) -> None:
        while self._heap:
            await asyncio.sleep(max(EXPIRY_STEP_S, min(self._heap[0][0] - self._clock.now(), 60.0)))
            for key, revision in self.due(self._clock.now()):
                try:
                    await self._delete(key, revision)
                except StoreError:
                    continue  # written again or deleted meanwhile; a failed disk is told to the next writer
        self._task = None

    async def close(self) -> None:
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
