"""Remote command channels in WebSocket messages: the first byte of a message is the channel.

    0 stdin   1 stdout   2 stderr   3 error   4 resize: {"Width", "Height"}
    255 (v5): the channel in the second byte is closed, the half-close that v4 cannot say

On the error channel comes a Status at the end; before v4, and where no subprotocol is named, a failure's message alone.
The base64 subprotocols are text: the channel is a digit, and what follows is base64.
Source: KEP-4006; k8s.io/streaming `wsstream`; kubelet's remotecommand/websocket.go.
"""

from __future__ import annotations

import asyncio
import base64
import json

from aiohttp import WSMsgType, web

from orchestrator.api.meta import Object
from orchestrator.kubelet.server.interface import STDERR, STDOUT, Output, Size
from orchestrator.kubelet.server.remotecommand import Options

WITH_STATUS = ("v5.channel.k8s.io", "v4.channel.k8s.io", "v4.base64.channel.k8s.io")
PROTOCOLS = (*WITH_STATUS, "channel.k8s.io", "base64.channel.k8s.io")
STDIN_CHANNEL, ERROR_CHANNEL, RESIZE_CHANNEL, CLOSE_CHANNEL = 0, 3, 4, 255
UNREAD_CHUNKS_MAX = 64


class WebSocketChannels:
    """The caller's streams of one WebSocket; `receive` runs beside whoever uses them."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket
        protocol = socket.ws_protocol or ""
        self._is_text, self._has_status = "base64" in protocol, protocol in WITH_STATUS
        self._input: asyncio.Queue[bytes] = asyncio.Queue(UNREAD_CHUNKS_MAX)
        self._sizes: asyncio.Queue[Size | None] = asyncio.Queue()
        self._gone = asyncio.Event()

    async def receive(self) -> None:
        """Until the caller closes or goes."""
        try:
            async for message in self._socket:
                if message.type in (WSMsgType.BINARY, WSMsgType.TEXT):
                    data = message.data if isinstance(message.data, bytes) else str(message.data).encode()
                    await self._take(decoded(data) if self._is_text else data)
        finally:
            self._gone.set()
            self._sizes.put_nowait(None)

    async def _take(self, data: bytes) -> None:
        channel, content = data[:1], data[1:]
        if channel == bytes([STDIN_CHANNEL]) and content:
            await self._input.put(content)
        elif channel == bytes([RESIZE_CHANNEL]):
            if (size := parse_size(content)) is not None:
                self._sizes.put_nowait(size)
        elif channel == bytes([CLOSE_CHANNEL]) and content == bytes([STDIN_CHANNEL]):
            await self._input.put(b"")

    async def greet(self, options: Options) -> None:
        """An empty message on the lowest channel that we write: some clients wait for it before they begin."""
        lowest = STDOUT if options.stdout else STDERR if options.stderr else ERROR_CHANNEL
        await self._send(lowest, b"")

    async def read(self) -> bytes:
        return await self._input.get()

    async def next_size(self) -> Size | None:
        return await self._sizes.get()

    async def write(self, output: Output, data: bytes) -> None:
        await self._send(output, data)

    async def finish(self, status: Object) -> None:
        if self._has_status:
            await self._send(ERROR_CHANNEL, json.dumps(status).encode())
        elif status.get("status") != "Success":
            await self._send(ERROR_CHANNEL, str(status.get("message", "")).encode())
        await self._socket.close()

    async def _send(self, channel: int, data: bytes) -> None:
        if self._is_text:
            await self._socket.send_str(f"{channel}{base64.b64encode(data).decode()}")
        else:
            await self._socket.send_bytes(bytes([channel]) + data)

    async def gone(self) -> None:
        await self._gone.wait()


def decoded(message: bytes) -> bytes:
    """A message of a base64 subprotocol as one of the others; empty for what is none."""
    channel, content = message[:1], message[1:]
    try:
        return bytes([int(channel)]) + base64.b64decode(content, validate=True)
    except ValueError:
        return b""


def parse_size(content: bytes) -> Size | None:
    """Columns and rows; None for what is no size."""
    try:
        found = json.loads(content)
        return int(found["Width"]), int(found["Height"])
    except (ValueError, KeyError, TypeError):
        return None
