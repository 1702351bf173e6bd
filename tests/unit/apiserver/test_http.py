"""The network rim without a network."""

from __future__ import annotations

import asyncio
from asyncio import sslproto
from typing import Any

from orchestrator.apiserver.http import _ChunkedConnection
from orchestrator.apiserver.stream import PushStream


class ShuttingDown:
    """The TLS protocol of a connection that is being closed."""

    def _start_shutdown(self) -> None: ...


async def test_a_stream_outlives_its_connection() -> None:
    """A watcher that leaves must not keep an event from those after it: asyncio's closed TLS transport raises."""
    protocol: Any = ShuttingDown()
    transport = sslproto._SSLProtocolTransport(asyncio.get_running_loop(), protocol)
    transport.close()
    transport.close()  # by the client and by the rim
    done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    pushed = PushStream()
    pushed.attach(_ChunkedConnection(transport, done))
    pushed.push(b"an event")
    pushed.close()
    assert done.done()
