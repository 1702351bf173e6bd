"""The sockets: UDP and TCP on each of the node's addresses, so that a response leaves from the address that was asked.

Addresses need not be usable yet: an IPv6 address is not for the first second, while the kernel looks for another owner.
Over UDP what the zone knows is answered in the receive callback itself, with no task; only upstream queries become
tasks, `UPSTREAM_TASKS_MAX` at most (more are answered SERVFAIL). Over TCP a connection may ask many questions and is
closed after `IDLE_S` of silence. Errors: OSError where an address cannot be bound.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack
from typing import Any, cast

from orchestrator.dns import message
from orchestrator.dns.resolver import Resolver

UPSTREAM_TASKS_MAX = 1_000
CONNECTIONS_MAX = 256
IDLE_S = 10.0
RECEIVE_BUFFER_BYTES = 1 << 20
_IP_FREEBIND = 15  # linux/in.h; the socket module has no name for it


def bound(address: str, port: int, kind: socket.SocketKind) -> socket.socket:
    """A socket on an address that may not be this machine's yet."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = socket.socket(family, kind)
    try:
        made.setblocking(False)
        made.setsockopt(socket.SOL_IP, _IP_FREEBIND, 1)
        if kind is socket.SOCK_STREAM:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind((address, port))
    except OSError:
        made.close()
        raise
    return made


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, resolver: Resolver, tasks: set[asyncio.Task[None]]) -> None:
        self._resolver = resolver
        self._hits = resolver.packed.hits
        self._tasks = tasks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)  # loops do not subclass it

    def datagram_received(self, data: bytes, address: Any) -> None:
        hit = self._hits.get(data[2:])
        if hit is not None:
            self._transport.sendto(data[:2] + next(hit), address)
            return
        response = self._resolver.resolve_now(data)
        if response is None:
            self._ask_upstream(data, address)
        elif response:
            self._transport.sendto(response, address)

    def _ask_upstream(self, data: bytes, address: Any) -> None:
        if len(self._tasks) >= UPSTREAM_TASKS_MAX:
            refusal = message.write_error(data, message.SERVFAIL)
            if refusal:
                self._transport.sendto(refusal, address)
            return
        task = asyncio.create_task(self._relay(data, address))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _relay(self, data: bytes, address: Any) -> None:
        response = await self._resolver.resolve(data)
        if not self._transport.is_closing():
            self._transport.sendto(response, address)


class Server:
    """Both transports on every address; `async with` serves."""

    def __init__(self, udp: Resolver, tcp: Resolver, addresses: tuple[str, ...], port: int) -> None:
        self._udp = udp
        self._tcp = tcp
        self._addresses = addresses
        self._port = port
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: set[asyncio.Task[None]] = set()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Server:
        loop = asyncio.get_running_loop()
        async with AsyncExitStack() as stack:
            for address in self._addresses:
                udp = bound(address, self._port, socket.SOCK_DGRAM)
                udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
                transport, _ = await loop.create_datagram_endpoint(lambda: _Udp(self._udp, self._tasks), sock=udp)
                stack.callback(transport.close)
                tcp = bound(address, self._port, socket.SOCK_STREAM)
                server = await asyncio.start_server(self._serve, sock=tcp)
                stack.callback(server.close)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()
        tasks = [*self._tasks, *self._connections]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._connections) < CONNECTIONS_MAX:
            self._connections.add(task)
            try:
                await self._converse(reader, writer)
            except (OSError, TimeoutError, asyncio.IncompleteReadError):
                pass  # the client went away or fell silent
            finally:
                self._connections.discard(task)
        writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            async with asyncio.timeout(IDLE_S):
                size = int.from_bytes(await reader.readexactly(2), "big")
                data = await reader.readexactly(size)
            response = self._tcp.resolve_now(data)
            if response is None:
                response = await self._tcp.resolve(data)
            if not response:
                return
            writer.write(len(response).to_bytes(2, "big") + response)
            await writer.drain()
