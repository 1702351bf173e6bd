"""API calls under way: many at once, never more than a bound, each given up or retried by who sent it.

The decision loop only posts; workers carry out. Posting waits where `WAITING_MAX` calls wait already, which is what
slows decisions down to the pace of the API server.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)

WORKERS = 64
WAITING_MAX = 1024

Call = Callable[[], Awaitable[None]]


class Outbox:
    """`async with` runs the workers; at the end what is under way is cancelled."""

    def __init__(self, workers: int = WORKERS) -> None:
        self._calls: asyncio.Queue[Call] = asyncio.Queue(WAITING_MAX)
        self._count = workers
        self._workers: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Outbox:
        self._workers = [asyncio.create_task(self._work()) for _ in range(self._count)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

    @property
    def has_room(self) -> bool:
        return not self._calls.full()

    async def post(self, call: Call) -> None:
        await self._calls.put(call)

    async def _work(self) -> None:
        while True:
            call = await self._calls.get()
            try:
                await call()
            except Exception:  # a call reports its own expected errors; a worker outlives any other
                log.exception("call failed")
            finally:
                self._calls.task_done()
