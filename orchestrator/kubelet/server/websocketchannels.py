"""Remote command channels in WebSocket messages: the first byte of a message is the channel.

    0 stdin   1 stdout   2 stderr   3 error: a Status, at the end   4 resize: {"Width", "Height"}
    255 (v5): the channel in the second byte is closed, the half-close that v4 cannot say

Source: KEP-4006; k8s.io/apiserver `wsstream`, v4.channel.k8s.io and v5.channel.k8s.io.
"""

from __future__ import annotations

import asyncio
import json

from aiohttp import WSMsgType, web

from orchestrator.api.meta import Object
from orchestrator.kubelet.server.interface import STDERR, STDOUT, Output, Size
from orchestrator.kubelet.server.remotecommand import Options

PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io")
STDIN_CHANNEL, ERROR_CHANNEL, RESIZE_CHANNEL, CLOSE_CHANNEL = 0, 3, 4, 255
UNREAD_CHUNKS_MAX = 64


class WebSocketChannels:
    """The caller's streams of one WebSocket; `receive` runs beside whoever uses them."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket
        self._input: asyncio.Queue[bytes] = asyncio.Queue(UNREAD_CHUNKS_MAX)
        self._sizes: asyncio.Queue[Size | None] = asyncio.Queue()
        self._gone = asyncio.Event()

    async def receive(self) -> None:
        """Until the caller closes or goes."""
        try:
            async for message in self._socket:
                if message.type in (WSMsgType.BINARY, WSMsgType.TEXT):
                    data = message.data if isinstance(message.data, bytes) else str(message.data).encode()
                    await self._take(data)
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
        await self._socket.send_bytes(bytes([lowest]))

    async def read(self) -> bytes:
        return await self._input.get()

    async def next_size(self) -> Size | None:
        return await self._sizes.get()

    async def write(self, output: Output, data: bytes) -> None:
        await self._socket.send_bytes(bytes([output]) + data)

    async def finish(self, status: Object) -> None:
        await self._socket.send_bytes(bytes([ERROR_CHANNEL]) + json.dumps(status).encode())
        await self._socket.close()

    async def gone(self) -> None:
        await self._gone.wait()


def parse_size(content: bytes) -> Size | None:
    """Columns and rows; None for what is no size."""
    try:
        found = json.loads(content)
        return int(found["Width"]), int(found["Height"])
    except (ValueError, KeyError, TypeError):
        return None
