"""The health-check node port: tells a load balancer whether this node has endpoints of a service.

A Service with externalTrafficPolicy Local has a port of its own for this. It answers 200 while there are ready local
endpoints and 503 when there are none, with the count as JSON. Source: KEP-27 (external source IP), kube-proxy.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping

from msgspec import Struct


class ServiceHealth(Struct, frozen=True):
    service: str  # namespace/name
    local_endpoint_count: int


class HealthCheckPorts:
    """One listener for each health-check node port that is wanted."""

    def __init__(self) -> None:
        self._servers: dict[int, asyncio.Server] = {}
        self._state: dict[int, ServiceHealth] = {}

    async def sync(self, wanted: Mapping[int, ServiceHealth]) -> dict[int, OSError]:
        """Open what is new, close what is gone; the ports that could not be opened, as somebody else has them."""
        self._state = dict(wanted)
        failed = {}
        for port in [port for port in self._servers if port not in wanted]:
            self._servers.pop(port).close()
        for port in wanted:
            if port not in self._servers:
                try:
                    self._servers[port] = await asyncio.start_server(self._handler(port), None, port)
                except OSError as error:
                    failed[port] = error
        return failed

    def close(self) -> None:
        for server in self._servers.values():
            server.close()

    def _handler(self, port: int) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
                writer.write(answer(self._state[port]))
                await writer.drain()
            except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError, KeyError):
                pass  # a prober that went away, or a port that is closing
            finally:
                writer.close()

        return handle


def answer(health: ServiceHealth) -> bytes:
    namespace, _, name = health.service.partition("/")
    body = json.dumps(
        {
            "service": {"namespace": namespace, "name": name},
            "localEndpoints": health.local_endpoint_count,
            "serviceProxyHealthy": True,
        }
    ).encode()
    status = b"200 OK" if health.local_endpoint_count else b"503 Service Unavailable"
    head = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
    return head % (status, len(body)) + body
