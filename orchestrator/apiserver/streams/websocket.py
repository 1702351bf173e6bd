"""An answer that is a stream of bytes, as messages of a WebSocket: a log, or a watch, for who asks by WebSocket.

Of a log, the first message is empty, to say that the stream is open; then bytes come as they are (binary.k8s.io, or no
subprotocol) or as base64 text (base64.binary.k8s.io). Of a watch, each event is a message: text, or binary where the
caller wants protobuf; the subprotocol is what the caller names. What the caller sends is not read for its sense; when
it closes, the stream ends. Errors: Forbidden where none of the subprotocols offered for a log is known.
Source: k8s.io/streaming wsstream.Reader; kube-apiserver's StreamObject; k8s.io/apiserver WatchServer.HandleWS.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from contextlib import aclosing
from typing import Protocol, TypeVar

from aiohttp import web

from orchestrator.api import status
from orchestrator.api.wire import Request
from orchestrator.apiserver.handlers import Upgrade
from orchestrator.apiserver.stream import PushStream

BINARY, BASE64 = "binary.k8s.io", "base64.binary.k8s.io"
LENGTH_BYTES = 4  # before each frame of a watch in protobuf
CLOSE_S = 1.0  # for the caller's own close


def is_websocket(request: Request) -> bool:
    tokens = [token.strip().lower() for token in request.headers.get("connection", "").split(",")]
    return "upgrade" in tokens and request.headers.get("upgrade", "").lower() == "websocket"


def check_protocol(request: Request) -> None:
    offered = [name.strip() for name in request.headers.get("sec-websocket-protocol", "").split(",")]
    if offered != [""] and not {BINARY, BASE64} & set(offered):
        raise status.Forbidden(f"requested protocol(s) are not supported: [{' '.join(offered)}]")


def stream(body: AsyncGenerator[bytes]) -> Upgrade:
    """The bytes of `body`, which is closed in any case."""
    return _sent((BINARY, BASE64), body, _send)


def watch(events: PushStream, request: Request, *, is_binary: bool) -> Upgrade:
    """The frames of `events`, which is closed in any case."""
    offered = tuple(name.strip() for name in request.headers.get("sec-websocket-protocol", "").split(","))
    return _sent(offered, events, _send_binary_events if is_binary else _send_events)


class _Closable(AsyncIterable[bytes], Protocol):
    async def aclose(self) -> None: ...


Body = TypeVar("Body", bound=_Closable)


def _sent(
    protocols: tuple[str, ...], body: Body, send: Callable[[web.WebSocketResponse, Body], Awaitable[None]]
) -> Upgrade:
    async def run(request: web.BaseRequest) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=protocols, compress=False, timeout=CLOSE_S)
        async with aclosing(body):
            await socket.prepare(request)
            ours = asyncio.ensure_future(send(socket, body))
            theirs = asyncio.create_task(_ignore(socket))
            try:
                await asyncio.wait((ours, theirs), return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (ours, theirs):
                    task.cancel()
                await asyncio.gather(ours, theirs, return_exceptions=True)
        await socket.close()
        return socket

    return Upgrade(run)


async def _send(socket: web.WebSocketResponse, body: AsyncIterable[bytes]) -> None:
    is_text = socket.ws_protocol == BASE64
    await (socket.send_str("") if is_text else socket.send_bytes(b""))
    async for piece in body:
        await (socket.send_str(base64.b64encode(piece).decode()) if is_text else socket.send_bytes(piece))


async def _send_events(socket: web.WebSocketResponse, events: AsyncIterable[bytes]) -> None:
    async for piece in events:  # whole lines, one an event
        for line in piece.splitlines(keepends=True):
            await socket.send_str(line.decode())


async def _send_binary_events(socket: web.WebSocketResponse, events: AsyncIterable[bytes]) -> None:
    async for piece in events:
        place = 0
        while place < len(piece):
            start = place + LENGTH_BYTES
            place = start + int.from_bytes(piece[place:start], "big")
            await socket.send_bytes(piece[start:place])


async def _ignore(socket: web.WebSocketResponse) -> None:
    async for _ in socket:
        pass
