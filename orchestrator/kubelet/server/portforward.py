"""Port-forward: each connection of the caller becomes one to a port of the pod's own localhost.

The porter hands over a connected socket from inside the pod's network namespace, so that what listens on 127.0.0.1
alone is reached too. Two ways to carry connections:

    SPDY             a pair of streams (error, data) for each connection, matched by `requestid`; raw, or in a WebSocket
    v4.channel       a WebSocket of fixed ports, two channels each: 2n data, 2n+1 error; each begins with the port

An error is text on the error stream; the connection it is about is then over, others go on.
Source: k8s.io/kubelet `portforward`; KEP-4006 (port forward over WebSockets).
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from aiohttp import WSMsgType, web

from orchestrator.kubelet.server.spdysession import Pipe, Session, Stream

TUNNEL = "SPDY/3.1+portforward.k8s.io"
SPDY_PROTOCOL = "portforward.k8s.io"
CHANNEL_PROTOCOLS = ("v4.channel.k8s.io",)
CHUNK_BYTES = 64 * 1024
PAIR_TIMEOUT_S = 30.0
PORTS_MAX = 128

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[int], Awaitable[Connection]]
Write = Callable[[bytes], Awaitable[None]]
Read = Callable[[], Awaitable[bytes]]


class PortForwardError(ConnectionError):
    """The port cannot be reached; the text is for the caller."""


async def connect(
    porter_socket: Path, uid: str, pod: str, port: int
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection from inside the pod. `pod` is its `namespace/name` key."""
    made = await asyncio.to_thread(_ask_porter, porter_socket, uid, pod, port)
    return await asyncio.open_connection(sock=made, limit=CHUNK_BYTES)


def _ask_porter(porter_socket: Path, uid: str, pod: str, port: int) -> socket.socket:
    request = json.dumps({"verb": "pod.connect", "uid": uid, "pod": pod, "port": port}).encode() + b"\n"
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(porter_socket))
            connection.sendall(request)
            data, descriptors, _, _ = socket.recv_fds(connection, 4096, 1)
            while not data.endswith(b"\n"):
                more = connection.recv(4096)
                if not more:
                    raise PortForwardError("the porter hung up")
                data += more
    except OSError as error:
        if isinstance(error, PortForwardError):
            raise
        raise PortForwardError(f"the porter cannot be asked: {error}") from error
    if not descriptors:
        raise PortForwardError(str(json.loads(data).get("error")))
    made = socket.socket(fileno=descriptors[0])
    made.setblocking(False)
    return made


async def relay(read: Read, write: Write, target: Connect, port: int) -> None:
    """Bytes both ways until both have ended. A caller that ends its half may still read the answer."""
    reader, writer = await target(port)

    async def upward() -> None:
        try:
            while data := await read():
                writer.write(data)
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()
        except OSError:
            pass  # the pod has closed; what it sent is still delivered

    sending = asyncio.create_task(upward())
    try:
        while data := await reader.read(CHUNK_BYTES):
            await write(data)
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        writer.close()


class SpdyForward:
    """Port-forward over one SPDY connection."""

    def __init__(self, pipe: Pipe, target: Connect, pod: str) -> None:
        self._session = Session(pipe, self._accept)
        self._target, self._pod = target, pod
        self._half: dict[str, Stream] = {}  # request id: the stream whose partner has not come yet
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until the caller has gone."""
        try:
            await self._session.run()
        except ConnectionError:
            pass
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, stream: Stream) -> None:
        request_id = stream.headers.get("requestid") or stream.headers.get("port", "")
        partner = self._half.pop(request_id, None)
        if partner is None:
            self._half[request_id] = stream
            return
        pair = {found.headers.get("streamtype"): found for found in (stream, partner)}
        if pair.keys() == {"error", "data"}:
            task = asyncio.create_task(self._forward(pair["error"], pair["data"]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            self._half[request_id] = partner  # two of one kind: the later is not understood

    async def _forward(self, error: Stream, data: Stream) -> None:
        try:
            port = int(data.headers.get("port") or 0)
            try:
                await relay(data.read, data.write, self._target, port)
            except OSError as failure:
                await error.write(f"error forwarding port {port} to pod {self._pod}: {failure}".encode())
            await data.close()
            await error.close()
        except ConnectionError:
            pass  # the caller has gone in this instant
        finally:
            self._session.forget(error)
            self._session.forget(data)


class ChannelForward:
    """Port-forward over the channels of one WebSocket: one connection for each port that the query names."""

    def __init__(self, websocket: web.WebSocketResponse, ports: Sequence[int], target: Connect, pod: str) -> None:
        self._socket, self._ports, self._target, self._pod = websocket, ports, target, pod
        self._inputs: list[asyncio.Queue[bytes]] = [asyncio.Queue(64) for _ in ports]

    async def run(self) -> None:
        """Until the caller has gone, or every connection has ended."""
        for index, port in enumerate(self._ports):
            for channel in (2 * index, 2 * index + 1):
                await self._socket.send_bytes(bytes([channel]) + struct.pack("<H", port))
        forwards = asyncio.gather(*(self._forward(index) for index in range(len(self._ports))))
        receiving = asyncio.create_task(self._receive())
        try:
            await asyncio.wait((forwards, receiving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            forwards.cancel()
            receiving.cancel()
            await asyncio.gather(forwards, receiving, return_exceptions=True)
        await self._socket.close()

    async def _receive(self) -> None:
        async for message in self._socket:
            if message.type is WSMsgType.BINARY and message.data:
                index, is_error = divmod(message.data[0], 2)
                if not is_error and index < len(self._inputs) and len(message.data) > 1:
                    await self._inputs[index].put(message.data[1:])

    async def _forward(self, index: int) -> None:
        async def write(data: bytes) -> None:
            await self._socket.send_bytes(bytes([2 * index]) + data)

        port = self._ports[index]
        try:
            await relay(self._inputs[index].get, write, self._target, port)
        except OSError as failure:
            text = f"error forwarding port {port} to pod {self._pod}: {failure}"
            await self._socket.send_bytes(bytes([2 * index + 1]) + text.encode())
