"""Taking over a connection: what carries bytes once HTTP has been left, by WebSocket messages or raw.

`hijack` answers 101 and gives the raw connection: used for `Upgrade: SPDY/3.1`, which aiohttp does not know. The parser
slot that aiohttp gives to WebSockets receives the bytes; nothing is sent by the client before it has seen our 101.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import WSMsgType, web
from aiohttp.abc import AbstractStreamWriter

UNREAD_BYTES_MAX = 256 * 1024


class WebSocketPipe:
    """Bytes in binary messages; how they are cut has no meaning."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket

    async def read(self) -> bytes:
        while True:
            message = await self._socket.receive()
            if message.type in (WSMsgType.BINARY, WSMsgType.TEXT):
                data = message.data if isinstance(message.data, bytes) else str(message.data).encode()
                if data:
                    return data
            else:
                return b""

    async def write(self, data: bytes) -> None:
        await self._socket.send_bytes(data)


class RawPipe:
    """The connection itself, as aiohttp's parser slot."""

    def __init__(self, transport: asyncio.Transport, drain: Callable[[], Awaitable[None]]) -> None:
        self._transport, self._drain = transport, drain
        self._unread = bytearray()
        self._is_ended = False
        self._more = asyncio.Event()

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self._unread += data
        self._more.set()
        if len(self._unread) > UNREAD_BYTES_MAX:
            self._transport.pause_reading()
        return False, b""

    def feed_eof(self) -> None:
        self._is_ended = True
        self._more.set()

    def set_exception(self, *_: object) -> None:
        self.feed_eof()

    async def read(self) -> bytes:
        while not self._unread:
            if self._is_ended or self._transport.is_closing():
                return b""
            self._more.clear()
            await self._more.wait()
        data = bytes(self._unread)
        self._unread.clear()
        self._transport.resume_reading()
        return data

    async def write(self, data: bytes) -> None:
        if self._transport.is_closing():
            raise ConnectionError("the caller has gone")
        self._transport.write(data)
        await self._drain()


class Hijacked(web.StreamResponse):
    """What a handler returns once the connection is no longer HTTP: there is nothing left to send."""

    def __init__(self) -> None:
        super().__init__(status=101)
        self.force_close()

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None


def hijack(request: web.BaseRequest, headers: Mapping[str, str]) -> RawPipe:
    """Answers 101 with these headers. From here on the caller owns the connection and returns `Hijacked()`."""
    transport = request.transport
    if transport is None:
        raise ConnectionError("the caller has gone")
    pipe = RawPipe(transport, request.writer.drain)
    request.protocol.set_parser(pipe)  # type: ignore[arg-type]  # it is called as a parser is, and no more
    lines = ["HTTP/1.1 101 Switching Protocols", *(f"{name}: {value}" for name, value in headers.items())]
    transport.write("\r\n".join([*lines, "", ""]).encode())
    return pipe
