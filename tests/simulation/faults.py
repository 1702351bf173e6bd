"""Faults of the connection to the API server, drawn from the seed: refused requests, lost replies, cut watches."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from random import Random

import orjson

from orchestrator.api import status
from orchestrator.api.wire import Request, Response, Transport
from orchestrator.client.client import close_stream


@dataclass(frozen=True, slots=True)
class Faults:
    """Probabilities for each request, or each chunk of a watch."""

    refused: float = 0.0
    reply_lost: float = 0.0
    conflict: float = 0.0
    watch_cut: float = 0.0


class FaultyTransport:
    """A transport that fails now and then; `is_on` can be cleared to let the world settle."""

    def __init__(self, inner: Transport, faults: Faults, random: Random) -> None:
        self._inner = inner
        self._faults = faults
        self._random = random
        self.is_on = True

    async def send(self, request: Request) -> Response:
        if self._happens(self._faults.refused):
            raise ConnectionError("refused by chance")
        is_write = request.method != "GET"
        if is_write and self._happens(self._faults.conflict):
            error = status.Conflict("by chance")
            return Response(error.status_code, {}, _encoded(error))
        response = await self._inner.send(request)
        if isinstance(response.body, bytes):
            if is_write and self._happens(self._faults.reply_lost):
                raise ConnectionError("reply lost by chance")
            return response
        return Response(response.status, response.headers, self._cut(response.body))

    async def _cut(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        try:
            async for chunk in chunks:
                if self._happens(self._faults.watch_cut):
                    raise ConnectionError("watch cut by chance")
                yield chunk
        finally:
            await close_stream(chunks)

    async def close(self) -> None:
        await self._inner.close()

    def _happens(self, probability: float) -> bool:
        return self.is_on and self._random.random() < probability


def _encoded(error: status.ApiError) -> bytes:
    return orjson.dumps(error.to_status())
