"""Exec and attach through Podman's REST API: the connection itself becomes the process' streams.

The request asks for an upgrade, the answer is 101, and from then on bytes to the socket are standard input and bytes
from it the output: raw with a terminal, else in frames (a byte of stream number, three of zero, four of length, data).
Ending our half of the connection ends standard input. Resize and exit code are requests of their own.
Errors: NoSuchContainer, RuntimeFailure with Podman's text, RuntimeUnavailable.
Source: Podman 5 API reference, exec start and container attach.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson

from orchestrator.kubelet.runtime.interface import NoSuchContainer, RuntimeFailure, RuntimeUnavailable
from orchestrator.kubelet.runtime.libpod import Libpod
from orchestrator.kubelet.server.interface import STDERR, STDOUT, Output, Size

CHUNK_BYTES = 64 * 1024
ANSWER_BYTES_MAX = 64 * 1024
EXIT_CODE_WAIT_S = 5.0
EXIT_CODE_LOOK_S = 0.01


class PodmanStreaming:
    """Streams of the containers of one user's Podman."""

    def __init__(self, libpod: Libpod) -> None:
        self._libpod = libpod

    async def exec(
        self, container_id: str, command: list[str], *, stdin: bool, stdout: bool, stderr: bool, tty: bool
    ) -> PodmanProcess:
        config = {
            "AttachStdin": stdin,
            "AttachStdout": stdout or tty,
            "AttachStderr": stderr or tty,
            "Tty": tty,
            "Cmd": command,
        }
        session = await self._libpod.create_exec(container_id, config)
        body = orjson.dumps({"Detach": False, "Tty": tty})
        reader, writer = await hijack(self._libpod.socket, f"/exec/{session}/start", body)
        return PodmanProcess(self._libpod, reader, writer, f"/exec/{session}", tty=tty)

    async def attach(self, container_id: str, *, stdin: bool, stdout: bool, stderr: bool, tty: bool) -> PodmanProcess:
        wanted = {"stream": True, "logs": False, "stdin": stdin, "stdout": stdout or tty, "stderr": stderr}
        query = "&".join(f"{name}={str(value).lower()}" for name, value in wanted.items())
        reader, writer = await hijack(self._libpod.socket, f"/containers/{container_id}/attach?{query}", b"")
        return PodmanProcess(self._libpod, reader, writer, f"/containers/{container_id}", tty=tty)


class PodmanProcess:
    """One process' streams. `resource` is its path in the API: an exec session, or a container that is attached to."""

    def __init__(
        self, libpod: Libpod, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, resource: str, *, tty: bool
    ) -> None:
        self._libpod, self._reader, self._writer, self._resource, self._tty = libpod, reader, writer, resource, tty
        self._failure = ""

    async def output(self) -> AsyncIterator[tuple[Output, bytes]]:
        """What Podman itself says of a command that could not be started comes as output too: it is kept back, and
        `exit_code` raises it."""
        is_first = True
        async for output, data in self._chunks():
            if is_first and (failure := start_failure(data)):
                self._failure = failure
            elif not self._failure:
                yield output, data
            is_first = False

    async def _chunks(self) -> AsyncIterator[tuple[Output, bytes]]:
        try:
            if self._tty:
                while data := await self._reader.read(CHUNK_BYTES):
                    yield STDOUT, data
                return
            while True:
                head = await self._reader.readexactly(8)
                number, left = head[0], int.from_bytes(head[4:], "big")
                while left:
                    data = await self._reader.read(min(left, CHUNK_BYTES))
                    if not data:
                        return
                    left -= len(data)
                    yield STDERR if number == STDERR else STDOUT, data
        except (asyncio.IncompleteReadError, ConnectionError):
            return

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def end_input(self) -> None:
        if self._writer.can_write_eof() and not self._writer.is_closing():
            self._writer.write_eof()

    async def resize(self, size: Size) -> None:
        columns, rows = size
        query = {"w": str(columns), "h": str(rows)}
        try:
            await self._libpod.call("POST", f"{self._resource}/resize", query)
        except RuntimeFailure:
            pass  # it has ended, or not quite begun; the terminal keeps its size

    async def pid(self) -> int:
        """Of an exec session's process on the node; 0 when it has ended."""
        found = await self._libpod.call("GET", f"{self._resource}/json")
        return int(found.get("Pid") or 0) if found.get("Running") else 0

    async def exit_code(self) -> int:
        """Podman records it just after the streams have ended: asked until the session is no longer running."""
        if self._failure:
            raise RuntimeFailure(self._failure)
        if not self._resource.startswith("/exec/"):
            return 0
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + EXIT_CODE_WAIT_S
        while True:
            found: dict[str, Any] = await self._libpod.call("GET", f"{self._resource}/json")
            if not found.get("Running"):
                return int(found.get("ExitCode") or 0)
            if loop.time() > give_up_at:
                raise RuntimeFailure("the command's output has ended, but not the command")
            await asyncio.sleep(EXIT_CODE_LOOK_S)

    async def close(self) -> None:
        self._writer.close()


def start_failure(first: bytes) -> str:
    """Podman's words where the first output is its own complaint: `Error: crun: …: OCI …`; "" where it is not."""
    line = first.split(b"\n", 1)[0].rstrip(b"\r")
    if line.startswith(b"Error: crun: ") and b": OCI " in line:
        return line.removeprefix(b"Error: crun: ").decode(errors="replace")
    return ""


async def hijack(socket: Path, path: str, body: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """The connection after its upgrade."""
    try:
        reader, writer = await asyncio.open_unix_connection(str(socket), limit=ANSWER_BYTES_MAX)
    except OSError as error:
        raise RuntimeUnavailable(f"podman does not answer: {error}") from error
    try:
        head = [
            f"POST /v5.0.0/libpod{path} HTTP/1.1",
            "Host: podman",
            "Connection: Upgrade",
            "Upgrade: tcp",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
        ]
        writer.write("\r\n".join([*head, "", ""]).encode() + body)
        await writer.drain()
        answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        code = int(answer.split(" ", 2)[1])
        if code in (101, 200):
            return reader, writer
        raise _failure(code, await _body(reader, answer))
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
        writer.close()
        raise RuntimeUnavailable(f"podman hung up: {error}") from error
    except RuntimeFailure:
        writer.close()
        raise


async def _body(reader: asyncio.StreamReader, head: str) -> bytes:
    for line in head.split("\r\n"):
        name, _, value = line.partition(":")
        if name.lower() == "content-length":
            return await reader.readexactly(min(int(value), ANSWER_BYTES_MAX))
    return b""


def _failure(code: int, body: bytes) -> RuntimeFailure:
    try:
        text = str(orjson.loads(body).get("message"))
    except (orjson.JSONDecodeError, AttributeError):
        text = body.decode(errors="replace").strip() or f"HTTP {code}"
    return NoSuchContainer(text) if code == 404 else RuntimeFailure(text)
