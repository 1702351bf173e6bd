"""The echo image's server: HTTP, TCP and UDP on 8080 tell which pod answered whom, as one JSON object.

HTTP answers any path; a TCP client that sends a line which is not an HTTP request gets the object and the line back;
a UDP datagram gets the same. Which of the two a connection is shows in its first line.
Pod and node come from the environment (POD_NAME, POD_NAMESPACE, NODE_NAME, by the downward API), else the host name.
A thread a connection and few imports: it listens 30 ms after its container starts, before anyone can ask.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import socketserver
import sys
import threading
from io import BufferedIOBase
from typing import Any

PORT = int(os.environ.get("PORT", "8080"))
LINE_BYTES_MAX = 64 * 1024
METHODS = (b"GET ", b"HEAD ", b"POST ", b"PUT ", b"PATCH ", b"DELETE ", b"OPTIONS ")

Address = tuple[Any, ...]  # host and port come first in both families


def answer(protocol: str, client: Address, server: Address, **more: object) -> bytes:
    body = {
        "pod": os.environ.get("POD_NAME") or socket.gethostname(),
        "namespace": os.environ.get("POD_NAMESPACE", ""),
        "node": os.environ.get("NODE_NAME", ""),
        "server": server[0].removeprefix("::ffff:"),
        "client": client[0].removeprefix("::ffff:"),
        "clientPort": client[1],
        "protocol": protocol,
        **more,
    }
    return json.dumps(body).encode() + b"\n"


class Connection(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        try:
            first = self.rfile.readline(LINE_BYTES_MAX)
            if first.startswith(METHODS):
                self.serve_http(first)
                return
            while first:
                body = first.decode("latin-1").rstrip("\r\n")
                self.wfile.write(answer("TCP", self.client_address, self.connection.getsockname(), body=body))
                first = self.rfile.readline(LINE_BYTES_MAX)
        except (ConnectionError, ValueError):
            pass  # the client went away, or sent what is no request: nothing to answer

    def serve_http(self, first: bytes) -> None:
        """Requests of one connection, until the client closes it or asks to."""
        while first:
            method, path, version = (first.decode("latin-1").rstrip() + "  ").split(" ", 2)
            headers = read_headers(self.rfile)
            received = self.rfile.read(int(headers.get("content-length", "0"))).decode("latin-1")
            about = {"method": method, "path": path, "headers": headers, "body": received}
            body = answer("HTTP", self.client_address, self.connection.getsockname(), **about)
            keep = headers.get("connection", "").lower() != "close" and "HTTP/1.0" not in version
            head = (
                f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
                f"connection: {'keep-alive' if keep else 'close'}\r\n\r\n"
            )
            self.wfile.write(head.encode() + (b"" if method == "HEAD" else body))
            if not keep:
                return
            first = self.rfile.readline(LINE_BYTES_MAX)


def read_headers(stream: BufferedIOBase) -> dict[str, str]:
    headers: dict[str, str] = {}
    while (line := stream.readline(LINE_BYTES_MAX)) not in (b"\r\n", b"\n", b""):
        key, _, value = line.decode("latin-1").partition(":")
        headers[key.strip().lower()] = value.strip()
    return headers


def serve_datagrams(listener: socket.socket) -> None:
    while True:
        data, client = listener.recvfrom(LINE_BYTES_MAX)
        body = data.decode("latin-1").rstrip("\r\n")
        listener.sendto(answer("UDP", client, listener.getsockname(), body=body), client)


class Server(socketserver.ThreadingTCPServer):
    """Both families on one socket where IPv6 is on, else IPv4 alone."""

    address_family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server = Server(("", PORT), Connection)
    datagrams = socket.socket(server.address_family, socket.SOCK_DGRAM)
    if server.address_family == socket.AF_INET6:
        datagrams.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    datagrams.bind(("", PORT))
    threading.Thread(target=serve_datagrams, args=(datagrams,), daemon=True).start()
    print(f"echo: answering HTTP, TCP and UDP on {PORT}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
