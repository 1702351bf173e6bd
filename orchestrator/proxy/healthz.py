"""Whether this node should get traffic at all: what a load balancer in front of the nodes asks, on port 10256.

/healthz answers 200 while the rules are in the kernel and the node is not about to go; 503 before the first sync, after
a refused one until it has been made good, and when the node is being deleted or an autoscaler has marked it. /livez
says the same of the rules alone: a node that drains is alive. On port 10249 the node itself is told /proxyMode.
Source: KEP-3836 (kube-proxy improved ingress connectivity reliability); kube-proxy's healthz server.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from orchestrator.api import meta
from orchestrator.api.clock import Clock
from orchestrator.api.meta import Object

log = logging.getLogger(__name__)

TO_BE_DELETED = "ToBeDeletedByClusterAutoscaler"
REQUEST_TIMEOUT_S = 5.0
BIND_RETRY_S = 30.0
MODE = b"nftables"
TEXT = b"text/plain; charset=utf-8"
REASONS = {200: b"OK", 404: b"Not Found", 503: b"Service Unavailable"}


class Watched(Protocol):
    """What is asked of the proxier. `synced_at`: seconds since the epoch; None while the kernel lacks the rules."""

    @property
    def synced_at(self) -> float | None: ...

    @property
    def is_eligible(self) -> bool: ...


def is_eligible(node: Object | None) -> bool:
    """Whether a node shall get new connections; one that is not known yet shall."""
    if node is None:
        return True
    taints = (node.get("spec") or {}).get("taints") or ()
    return not meta.is_deleting(node) and all(taint.get("key") != TO_BE_DELETED for taint in taints)


class Answer(Struct, frozen=True):
    status: int
    body: bytes
    kind: bytes = b"application/json"


def answer(path: str, synced_at: float | None, now: float, *, eligible: bool) -> Answer:
    """Pure."""
    if path not in ("/healthz", "/livez"):
        return Answer(404, b"404 page not found\n")
    told = {
        "lastUpdated": meta.format_time(synced_at or 0),
        "currentTime": meta.format_time(now),
        **({"nodeEligible": eligible} if path == "/healthz" else {}),
    }
    good = synced_at is not None and (eligible or path == "/livez")
    return Answer(200 if good else 503, json.dumps(told).encode())


def about(path: str) -> Answer:
    """What the proxy tells the node itself. Pure."""
    told = {"/healthz": b"ok", "/proxyMode": MODE}.get(path)
    return Answer(404, b"404 page not found\n") if told is None else Answer(200, told, TEXT)


class PortServer:
    """Answers by path until cancelled. A port that is taken is tried again: services must not wait for it."""

    def __init__(self, address: str | None, port: int, answer: Callable[[str], Answer]) -> None:
        self._address, self._port, self._answer = address, port, answer

    async def run(self) -> None:
        while True:
            try:
                server = await asyncio.start_server(self._handle, self._address, self._port)
                break
            except OSError as error:
                log.warning("port not opened", extra={"port": self._port, "error": str(error)})
                await asyncio.sleep(BIND_RETRY_S)
        async with server:
            await server.serve_forever()

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), REQUEST_TIMEOUT_S)
            target = request.partition(b" ")[2].partition(b" ")[0].partition(b"?")[0].decode(errors="replace")
            found = self._answer(target)
            writer.write(
                b"HTTP/1.1 %d %s\r\nContent-Type: %s\r\nX-Content-Type-Options: nosniff\r\n"
                b"Content-Length: %d\r\nConnection: close\r\n\r\n%s"
                % (found.status, REASONS[found.status], found.kind, len(found.body), found.body)
            )
            await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass  # a prober that went away
        finally:
            writer.close()


def health_server(watched: Watched, port: int, clock: Clock) -> PortServer:
    """For load balancers: on every address."""

    def told(path: str) -> Answer:
        return answer(path, watched.synced_at, clock.now(), eligible=watched.is_eligible)

    return PortServer(None, port, told)


def local_server(port: int) -> PortServer:
    return PortServer("127.0.0.1", port, about)
