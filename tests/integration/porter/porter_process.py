"""A porter as a process of its own, for a test to put into a network namespace: argument 1 is a JSON file with the
settings and the objects that its API server knows. The server is a transport that lists and then stays silent."""

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from orchestrator.api.wire import Request, Response
from orchestrator.client.client import Client
from orchestrator.porter.main import Config, run


class Listing:
    """Lists pods and nodes; a watch never has news, and streamed lists are unknown to it."""

    def __init__(self, objects: dict[str, list[object]]) -> None:
        self._objects = objects

    async def send(self, request: Request) -> Response:
        kind = request.path.rpartition("/")[2]
        if request.param("sendInitialEvents"):
            return Response(400, {}, b'{"kind": "Status", "reason": "BadRequest", "code": 400, "message": "no"}')
        if request.param("watch"):
            return Response(200, {}, self._silence())
        listed = {"kind": "List", "metadata": {"resourceVersion": "1"}, "items": self._objects[kind]}
        return Response(200, {}, json.dumps(listed).encode())

    async def _silence(self) -> AsyncIterator[bytes]:
        await asyncio.get_running_loop().create_future()
        yield b""

    async def close(self) -> None:
        return None


if __name__ == "__main__":
    logging.basicConfig(format="porter: %(message)s: %(error)s", level=logging.WARNING)
    given = json.loads(Path(sys.argv[1]).read_text())
    asyncio.run(run(msgspec.convert(given["config"], Config), Client(Listing(given["objects"]))))
