"""The loop of a controller, whichever component it is part of: keys from a queue, a reconcile for each, again later
where it failed.

A conflict means that the cache was behind: look again, then decide again. Any other failure is logged and retried with
back-off. What a reconcile raises never stops the loop. Invariant: one key is never reconciled twice at a time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from orchestrator.api import status
from orchestrator.client.workqueue import WorkQueue

log = logging.getLogger(__name__)

WORKERS = 5


class Loop:
    """A queue and its workers."""

    def __init__(self, name: str, reconcile: Callable[[str], Awaitable[None]], workers: int = WORKERS) -> None:
        self.name = name
        self.queue = WorkQueue()
        self._reconcile = reconcile
        self._workers = workers

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(self._workers):
                group.create_task(self._work(), name=f"{self.name} {number}")

    async def _work(self) -> None:
        while (key := await self.queue.get()) is not None:
            try:
                await self._reconcile(key)
                self.queue.forget(key)
            except (status.Conflict, status.AlreadyExists) as error:
                log.debug("reconcile again", extra={"controller": self.name, "key": key, "error": str(error)})
                self.queue.add_rate_limited(key)
            except (status.ApiError, ConnectionError) as error:
                log.warning("reconcile failed", extra={"controller": self.name, "key": key, "error": str(error)})
                self.queue.add_rate_limited(key)
            except Exception:
                log.exception("reconcile is faulty", extra={"controller": self.name, "key": key})
                self.queue.add_rate_limited(key)
            finally:
                self.queue.done(key)
