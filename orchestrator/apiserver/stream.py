"""PushStream: an answer that grows, with no coroutine waiting on it.

A producer pushes bytes; they go straight to the connection that the network rim attached, or wait for whoever iterates
(a client in the same process). What has not been taken is bounded: a consumer that lags behind by more than
UNSENT_BYTES_MAX is cut off, since its client can start again from the last revision it saw, and the memory of all
others is at stake. `closed` is called once, whichever side ends it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

UNSENT_BYTES_MAX = 16 << 20


class Connection(Protocol):
    """What the network rim offers."""

    def write(self, data: bytes) -> None: ...

    def unsent_bytes(self) -> int: ...

    def finish(self) -> None:
        """The answer is complete."""
        ...

    def abort(self) -> None:
        """Drops the connection in the middle of the answer."""
        ...


class PushStream:
    __slots__ = ("_closed", "_connection", "_on_close", "_unsent", "_unsent_bytes", "_waiter", "first_bytes")

    def __init__(self) -> None:
        self._connection: Connection | None = None
        self._unsent: list[bytes] = []
        self._unsent_bytes = 0
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False
        self._on_close: Callable[[], None] | None = None

    def on_close(self, callback: Callable[[], None]) -> None:
        self._on_close = callback

    @property
    def is_closed(self) -> bool:
        return self._closed

    def push(self, data: bytes) -> None:
        if self._closed:
            return
        if self._connection is not None:
            self._connection.write(data)
            if self._connection.unsent_bytes() > UNSENT_BYTES_MAX:
                self._connection.abort()
                self.close()
            return
        self._unsent.append(data)
        self._unsent_bytes += len(data)
        if self._unsent_bytes > UNSENT_BYTES_MAX and self._waiter is None and len(self._unsent) > 1:
            self._unsent.clear()
            self.close()
        self._wake()

    def attach(self, connection: Connection) -> None:
        """From now on bytes go to `connection`; those that waited go first."""
        unsent, self._unsent = self._unsent, []
        self._connection = connection
        if unsent:
            connection.write(b"".join(unsent))
        if self._closed:
            connection.finish()

    def close(self) -> None:
        """Ends the answer; idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._on_close is not None:
            self._on_close()
        if self._connection is not None:
            self._connection.finish()
        self._wake()

    def __aiter__(self) -> PushStream:
        return self

    async def __anext__(self) -> bytes:
        while not self._unsent:
            if self._closed:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        unsent, self._unsent = self._unsent, []
        self._unsent_bytes = 0
        return b"".join(unsent)

    async def aclose(self) -> None:
        self.close()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        self._waiter = None
