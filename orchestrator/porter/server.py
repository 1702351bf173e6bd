"""The porter's door: a unix socket, one JSON object a line each way.

    {"verb": "pod.attach", "uid": …}  →  {"ok": true, "result": {…}}  or  {"ok": false, "error": "…"}

Who may ask is decided by the kernel's word (SO_PEERCRED): root and the kubelet's user, nobody else. Requests of one
connection are answered in order; requests about one pod never overlap, whichever connection they come by. A descriptor
in an answer travels with its first byte (SCM_RIGHTS).
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from orchestrator.porter.verbs import Answer, PorterError, Verb

log = logging.getLogger(__name__)

REQUEST_BYTES_MAX = 256 * 1024
CONNECTIONS_MAX = 256
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid


class Server:
    """Serves the verbs until closed."""

    def __init__(self, path: Path, verbs: Mapping[str, Verb], allowed_uids: frozenset[int], group_id: int) -> None:
        self._path, self._verbs, self._allowed, self._group = path, verbs, allowed_uids, group_id
        self._locks: dict[str, asyncio.Lock] = {}
        self._connections: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Runs until cancelled; the socket file goes with it."""
        loop = asyncio.get_running_loop()
        listener = self._listen()
        try:
            while True:
                connection, _ = await loop.sock_accept(listener)
                if not self._is_allowed(connection) or len(self._connections) >= CONNECTIONS_MAX:
                    connection.close()
                    continue
                task = asyncio.create_task(self._converse(connection))
                self._connections.add(task)
                task.add_done_callback(self._connections.discard)
        finally:
            listener.close()
            self._path.unlink(missing_ok=True)
            for task in self._connections:
                task.cancel()

    def _listen(self) -> socket.socket:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.setblocking(False)
        listener.bind(str(self._path))
        os.chown(self._path, 0, self._group)
        self._path.chmod(0o660)
        listener.listen(CONNECTIONS_MAX)
        return listener

    def _is_allowed(self, connection: socket.socket) -> bool:
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        _, uid, _ = _CREDENTIALS.unpack(credentials)
        if uid not in self._allowed:
            log.warning("caller refused", extra={"uid": uid})
        return uid in self._allowed

    async def _converse(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        connection.setblocking(False)
        buffered = b""
        with connection, suppress(ConnectionError):
            while True:
                while b"\n" not in buffered:
                    chunk = await loop.sock_recv(connection, 65536)
                    if not chunk or len(buffered) + len(chunk) > REQUEST_BYTES_MAX:
                        return
                    buffered += chunk
                line, _, buffered = buffered.partition(b"\n")
                reply, descriptors = await self._answer(line)
                await _send(loop, connection, reply, descriptors)

    async def _answer(self, line: bytes) -> tuple[dict[str, Any], tuple[int, ...]]:
        """A failure is an answer too; nothing that a caller sends stops the porter."""
        name = ""
        try:
            request = json.loads(line)
            name = request.pop("verb") if isinstance(request, dict) and isinstance(request.get("verb"), str) else ""
            if name not in self._verbs:
                raise PorterError(f"unknown verb {name!r}; known are {', '.join(sorted(self._verbs))}")
            answer = await self._run(self._verbs[name], request)
        except PorterError as error:
            log.info("verb refused", extra={"verb": name, "error": str(error)})
            return {"ok": False, "error": str(error)}, ()
        except ValueError as error:
            return {"ok": False, "error": f"not a JSON object: {error}"}, ()
        except Exception as error:
            log.exception("verb failed", extra={"verb": name})
            return {"ok": False, "error": f"{type(error).__name__}: {error}"}, ()
        log.debug("verb done", extra={"verb": name})
        return {"ok": True, "result": answer.result}, answer.descriptors

    async def _run(self, verb: Verb, request: dict[str, Any]) -> Answer:
        uid = request.get("uid")
        if not isinstance(uid, str):
            return await verb.run(request)
        lock = self._locks.setdefault(uid, asyncio.Lock())
        try:
            async with lock:
                return await verb.run(request)
        finally:
            if not lock.locked():
                self._locks.pop(uid, None)


async def _send(
    loop: asyncio.AbstractEventLoop, connection: socket.socket, reply: dict[str, Any], descriptors: tuple[int, ...]
) -> None:
    data = json.dumps(reply, separators=(",", ":")).encode() + b"\n"
    try:
        if descriptors:
            # An idle stream socket takes one byte at once, so this cannot block.
            socket.send_fds(connection, [data[:1]], list(descriptors))
            data = data[1:]
        await loop.sock_sendall(connection, data)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
