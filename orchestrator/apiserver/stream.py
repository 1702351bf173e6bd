"""PushStream: an answer that grows, with no coroutine waiting on it.

A producer pushes bytes; they go straight to the connection that the network rim attached, or wait for whoever iterates
(a client in the same process). What has not been taken is bounded: a consumer that lags behind by more than
UNSENT_BYTES_MAX is cut off, since its client can start again from the last revision it saw, and the memory of all
others is at stake. `closed` is called once, whichever side ends it.

What the stream begins with (`begin`) may be far more than that, the 22 MB of 5,000 Pods: it is not pushed but made
piece by piece, each when the connection has taken the one before; what is pushed meanwhile waits behind it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
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
    __slots__ = ("_closed", "_connection", "_first", "_on_close", "_unsent", "_unsent_bytes", "_waiter")

    def __init__(self) -> None:
        self._connection: Connection | None = None
        self._first: Iterator[bytes] | None = None
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

    def begin(self, pieces: Iterator[bytes]) -> None:
        """What is sent before all that is pushed; called before the stream is attached or iterated."""
        self._first = pieces

    def push(self, data: bytes) -> None:
        if self._closed:
            return
        if self._connection is not None and self._first is None:
            self._connection.write(data)
            if self._connection.unsent_bytes() > UNSENT_BYTES_MAX:
                self._connection.abort()
                self.close()
            return
        self._unsent.append(data)
        self._unsent_bytes += len(data)
        if self._unsent_bytes > UNSENT_BYTES_MAX and self._waiter is None and len(self._unsent) > 1:
            self._unsent.clear()
            if self._connection is not None:
                self._connection.abort()
            self.close()
        self._wake()

    def attach(self, connection: Connection) -> None:
        """From now on bytes go to `connection`; those that waited go first. Where the stream begins with something,
        `pour` has to follow."""
        self._connection = connection
        if self._first is None:
            self._send_unsent(connection)
        if self._closed:
            connection.finish()

    async def pour(self, drained: Callable[[], Awaitable[None]]) -> None:
        """Writes what the stream begins with; `drained` returns when the connection can take more."""
        connection = self._connection
        assert connection is not None
        while self._first is not None and not self._closed:
            piece = next(self._first, None)
            if piece is None:
                self._first = None
                self._send_unsent(connection)
            else:
                connection.write(piece)
                await drained()

    def _send_unsent(self, connection: Connection) -> None:
        unsent, self._unsent, self._unsent_bytes = self._unsent, [], 0
        if unsent:
            connection.write(b"".join(unsent))

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
        if self._first is not None:
            if (piece := next(self._first, None)) is not None:
                return piece
            self._first = None
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
