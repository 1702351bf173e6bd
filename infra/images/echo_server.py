"""The echo image's server: HTTP, TCP and UDP on 8080 tell which pod answered whom, as one JSON object.

HTTP answers any path; a TCP client that sends a line which is not an HTTP request gets the object and the line back;
a UDP datagram gets the same. Which of the two a connection is shows in its first line.
Pod and node come from the environment (POD_NAME, POD_NAMESPACE, NODE_NAME, by the downward API), else the host name.
Runs on the standard library alone, on both families.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from pathlib import Path

PORT = int(os.environ.get("PORT", "8080"))
LINE_BYTES_MAX = 64 * 1024
METHODS = (b"GET ", b"HEAD ", b"POST ", b"PUT ", b"PATCH ", b"DELETE ", b"OPTIONS ")


def answer(protocol: str, client: tuple[str, int], server: str, **more: object) -> bytes:
    address = client[0].removeprefix("::ffff:")
    body = {
        "pod": os.environ.get("POD_NAME") or socket.gethostname(),
        "namespace": os.environ.get("POD_NAMESPACE", ""),
        "node": os.environ.get("NODE_NAME", ""),
        "server": server.removeprefix("::ffff:"),
        "client": address,
        "clientPort": client[1],
        "protocol": protocol,
        **more,
    }
    return json.dumps(body).encode() + b"\n"


async def serve_http(first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Requests of one connection, until the client closes it or asks to."""
    peer, here = writer.get_extra_info("peername"), writer.get_extra_info("sockname")
    while first:
        method, path, _ = (first.decode("latin-1").rstrip() + "  ").split(" ", 2)
        headers: dict[str, str] = {}
        while (line := await reader.readline()) not in (b"\r\n", b"\n", b""):
            key, _, value = line.decode("latin-1").partition(":")
            headers[key.strip().lower()] = value.strip()
        received = await reader.readexactly(int(headers.get("content-length", "0")))
        body = answer("HTTP", peer, here[0], method=method, path=path, headers=headers, body=received.decode("latin-1"))
        keep = headers.get("connection", "").lower() != "close" and "HTTP/1.0" not in first.decode("latin-1")
        head = (
            f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
            f"connection: {'keep-alive' if keep else 'close'}\r\n\r\n"
        )
        writer.write(head.encode() + (b"" if method == "HEAD" else body))
        await writer.drain()
        if not keep:
            return
        first = await reader.readline()


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        first = await reader.readline()
        if first.startswith(METHODS):
            await serve_http(first, reader, writer)
        else:
            peer, here = writer.get_extra_info("peername"), writer.get_extra_info("sockname")
            while first:
                writer.write(answer("TCP", peer, here[0], body=first.decode("latin-1").rstrip("\r\n")))
                await writer.drain()
                first = await reader.readline()
    except (ConnectionError, asyncio.IncompleteReadError, ValueError):
        pass  # the client went away or sent what is no request: nothing to answer
    finally:
        writer.close()


class Datagrams(asyncio.DatagramProtocol):
    transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.DatagramTransport)
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        here = self.transport.get_extra_info("sockname")
        self.transport.sendto(answer("UDP", addr, here[0], body=data.decode("latin-1").rstrip("\r\n")), addr)


def listener(kind: socket.SocketKind) -> socket.socket:
    """Both families on one socket where IPv6 is on, else IPv4 alone."""
    family = socket.AF_INET6 if Path("/proc/net/if_inet6").exists() else socket.AF_INET
    made = socket.socket(family, kind)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    made.bind(("", PORT))
    made.setblocking(False)
    return made


async def main() -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = await asyncio.start_server(serve, sock=listener(socket.SOCK_STREAM), limit=LINE_BYTES_MAX)
    datagrams, _ = await loop.create_datagram_endpoint(Datagrams, sock=listener(socket.SOCK_DGRAM))
    print(f"echo: answering HTTP, TCP and UDP on {PORT}", flush=True)
    await stop.wait()
    datagrams.close()
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
