"""A SPDY connection as streams to read and write, over anything that carries bytes.

One task reads frames and hands them to their streams; a stream whose reader lags holds that task up, and with it the
sender, by way of TCP. Writing is done by whoever writes, a frame at a time, under one lock so that frames do not mix.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from orchestrator.kubelet.server import spdy

UNREAD_CHUNKS_MAX = 64
STREAMS_MAX = 1024


class Pipe(Protocol):
    """Bytes both ways. `read` gives b"" at the end; both raise ConnectionError where it broke."""

    async def read(self) -> bytes: ...

    async def write(self, data: bytes) -> None: ...


class Stream:
    """One stream that the client opened."""

    def __init__(self, session: Session, stream_id: int, headers: dict[str, str]) -> None:
        self.id, self.headers = stream_id, headers
        self._session = session
        self._unread: asyncio.Queue[bytes] = asyncio.Queue(UNREAD_CHUNKS_MAX)
        self._is_ended = False
        self._is_closed = False
        self._reset = asyncio.Event()

    async def read(self) -> bytes:
        """The next data; b"" once the client has ended the stream, reset it, or gone."""
        if self._is_ended:
            return b""
        chunk = asyncio.ensure_future(self._unread.get())
        broken = asyncio.ensure_future(self._reset.wait())
        try:
            await asyncio.wait((chunk, broken), return_when=asyncio.FIRST_COMPLETED)
            data = chunk.result() if chunk.done() else b""
        finally:
            chunk.cancel()
            broken.cancel()
        self._is_ended = not data
        return data

    async def write(self, data: bytes) -> None:
        for start in range(0, len(data), spdy.DATA_BYTES_MAX):
            if self._is_closed or self._reset.is_set():
                raise ConnectionError("stream is closed")
            await self._session.send(self._session.codec.data(self.id, data[start : start + spdy.DATA_BYTES_MAX]))

    async def close(self) -> None:
        """Ends our half; what the client still sends is read on."""
        if not self._is_closed and not self._reset.is_set():
            self._is_closed = True
            await self._session.send(self._session.codec.data(self.id, b"", is_last=True))

    async def reset(self) -> None:
        """Ends both halves at once."""
        if not self._reset.is_set():
            self._reset.set()
            await self._session.send(self._session.codec.reset(self.id, spdy.CANCEL))

    async def receive(self, data: bytes) -> None:
        """From the session; waits while the reader lags."""
        put = asyncio.ensure_future(self._unread.put(data))
        broken = asyncio.ensure_future(self._reset.wait())
        try:
            await asyncio.wait((put, broken), return_when=asyncio.FIRST_COMPLETED)
        finally:
            put.cancel()
            broken.cancel()

    def abandon(self) -> None:
        """The client has reset the stream, or is gone."""
        self._reset.set()


class Session:
    """Reads until the connection ends. `accept` is called for each opened stream, in order; it must not block."""

    def __init__(self, pipe: Pipe, accept: Callable[[Stream], None]) -> None:
        self.codec = spdy.Codec()
        self._pipe, self._accept = pipe, accept
        self._streams: dict[int, Stream] = {}
        self._writing = asyncio.Lock()

    async def send(self, frame: bytes) -> None:
        async with self._writing:
            await self._pipe.write(frame)

    async def run(self) -> None:
        """Returns when the client has gone; SpdyError (a ConnectionError) where it does not speak SPDY."""
        try:
            while data := await self._pipe.read():
                for event in self.codec.feed(data):
                    await self._handle(event)
        finally:
            for stream in self._streams.values():
                stream.abandon()

    async def _handle(self, event: spdy.Event) -> None:
        match event:
            case spdy.Opened():
                if event.stream_id in self._streams or len(self._streams) >= STREAMS_MAX:
                    await self.send(self.codec.reset(event.stream_id, spdy.REFUSED_STREAM))
                    return
                stream = self._streams[event.stream_id] = Stream(self, event.stream_id, event.headers)
                await self.send(self.codec.reply(event.stream_id))
                if event.is_last:
                    await stream.receive(b"")
                self._accept(stream)
            case spdy.Data():
                if (found := self._streams.get(event.stream_id)) is not None:
                    if event.data:
                        await found.receive(event.data)
                    if event.is_last:
                        await found.receive(b"")
            case spdy.Reset():
                if (found := self._streams.pop(event.stream_id, None)) is not None:
                    found.abandon()
            case spdy.Ping():
                await self.send(self.codec.pong(event.ping_id))
            case spdy.Goaway():
                pass

    def forget(self, stream: Stream) -> None:
        """Both halves are done."""
        self._streams.pop(stream.id, None)
