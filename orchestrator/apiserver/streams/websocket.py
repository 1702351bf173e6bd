"""An answer that is a stream of bytes, as messages of a WebSocket: what a caller gets who asks for a log by WebSocket.

The first message is empty, to say that the stream is open; then bytes come as they are (binary.k8s.io, or no
subprotocol) or as base64 text (base64.binary.k8s.io). What the caller sends is not read for its sense; when it closes,
the stream ends. Errors: Forbidden where none of the offered subprotocols is known.
Source: k8s.io/streaming wsstream.Reader; kube-apiserver's StreamObject.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator
from contextlib import aclosing

from aiohttp import web

from orchestrator.api import status
from orchestrator.api.wire import Request
from orchestrator.apiserver.handlers import Upgrade

BINARY, BASE64 = "binary.k8s.io", "base64.binary.k8s.io"
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

    async def run(request: web.BaseRequest) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=(BINARY, BASE64), compress=False, timeout=CLOSE_S)
        async with aclosing(body):
            await socket.prepare(request)
            ours = asyncio.create_task(_send(socket, body))
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


async def _send(socket: web.WebSocketResponse, body: AsyncGenerator[bytes]) -> None:
    is_text = socket.ws_protocol == BASE64
    await (socket.send_str("") if is_text else socket.send_bytes(b""))
    async for piece in body:
        await (socket.send_str(base64.b64encode(piece).decode()) if is_text else socket.send_bytes(piece))


async def _ignore(socket: web.WebSocketResponse) -> None:
    async for _ in socket:
        pass
