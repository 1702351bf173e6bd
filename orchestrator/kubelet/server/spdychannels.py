"""Remote command channels as SPDY streams, for clients that cannot use WebSockets.

The client opens one stream for each of error, stdin, stdout, stderr and resize that it wants, naming it in the header
`streamtype`; nothing starts before all are there. Resize messages are JSON, one after another.
Source: k8s.io/kubelet `remotecommand`, v4.channel.k8s.io.
"""

from __future__ import annotations

import asyncio
import json

from orchestrator.api.meta import Object
from orchestrator.kubelet.server.interface import STDOUT, Output, Size
from orchestrator.kubelet.server.remotecommand import Options
from orchestrator.kubelet.server.spdysession import Session, Stream
from orchestrator.kubelet.server.upgrade import RawPipe
from orchestrator.kubelet.server.websocketchannels import parse_size

PROTOCOLS = ("v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io")
CREATION_TIMEOUT_S = 30


class SpdyChannels:
    """The caller's streams of one SPDY connection; `receive` runs beside whoever uses them."""

    def __init__(self, pipe: RawPipe, options: Options) -> None:
        self._session = Session(pipe, self._accept)
        self._streams: dict[str, Stream] = {}
        self._wanted = {"error"} | {
            name
            for name, is_wanted in {
                "stdin": options.stdin,
                "stdout": options.stdout,
                "stderr": options.stderr,
                "resize": options.tty,
            }.items()
            if is_wanted
        }
        self._complete = asyncio.Event()
        self._gone = asyncio.Event()
        self._sizes = b""

    def _accept(self, stream: Stream) -> None:
        self._streams[stream.headers.get("streamtype", "")] = stream
        if self._wanted <= self._streams.keys():
            self._complete.set()

    async def receive(self) -> None:
        try:
            await self._session.run()
        finally:
            self._gone.set()

    async def opened(self) -> None:
        """Until all streams are there. TimeoutError where the client opens too few."""
        async with asyncio.timeout(CREATION_TIMEOUT_S):
            await self._complete.wait()

    async def read(self) -> bytes:
        return await self._streams["stdin"].read()

    async def next_size(self) -> Size | None:
        while True:
            line, separator, rest = self._sizes.partition(b"}")
            if separator:
                self._sizes = rest
                if (size := parse_size(line + separator)) is not None:
                    return size
                continue
            data = await self._streams["resize"].read()
            if not data:
                return None
            self._sizes += data

    async def write(self, output: Output, data: bytes) -> None:
        stream = self._streams.get("stdout" if output == STDOUT else "stderr")
        if stream is not None:
            await stream.write(data)

    async def finish(self, status: Object) -> None:
        await self._streams["error"].write(json.dumps(status).encode())
        for name in ("stdout", "stderr", "error", "stdin", "resize"):
            if name in self._streams:
                await self._streams[name].close()
        # The client closes once it has read it all; a client that does not is left after a while.
        try:
            async with asyncio.timeout(CREATION_TIMEOUT_S):
                await self._gone.wait()
        except TimeoutError:
            pass

    async def gone(self) -> None:
        await self._gone.wait()
