"""Transport to an API server in the same process: a function call in place of a connection.

The identity is fixed here by the process that wires both together; authorization and admission see the request exactly
as they would see one from the network.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from msgspec.structs import replace

from orchestrator.api.wire import Identity, Request, Response


class InProcessTransport:
    """Carries requests to `handle`, the API server's one function, in the name of `identity`."""

    def __init__(self, handle: Callable[[Request], Awaitable[Response]], identity: Identity) -> None:
        self._handle = handle
        self._identity = identity

    async def send(self, request: Request) -> Response:
        return await self._handle(replace(request, identity=self._identity))

    async def close(self) -> None:
        """Nothing is held."""
