"""A thin asynchronous client of Podman's own REST API (libpod) over its unix socket: one method, one endpoint.

Answers are the API's JSON as it comes; what it means is `podman.py`'s affair. Streams (events, exec output) are
asynchronous iterators. Errors: NoSuchContainer and NoSuchImage for 404, RuntimeFailure with Podman's text for other
refusals, RuntimeUnavailable where the service does not answer.
Source: Podman 5 API reference, libpod endpoints. Why not podman-py: docs/decisions/0007-libpod-without-podman-py.md.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import orjson

from orchestrator.kubelet.runtime.interface import (
    ExecResult,
    NoSuchContainer,
    NoSuchImage,
    RuntimeFailure,
    RuntimeUnavailable,
)

Json = dict[str, Any]
API = "http://podman/v5.0.0/libpod"
CONNECTIONS_MAX = 64
EXEC_OUTPUT_MAX_BYTES = 10 * 1024  # as much as upstream's prober keeps
STREAM_LINE_MAX_BYTES = 2**20


class Libpod:
    """The API of one user's Podman service."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self._session: aiohttp.ClientSession | None = None

    @property
    def session(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.UnixConnector(path=str(self.socket), limit=CONNECTIONS_MAX)
            # No total timeout: a stop lasts as long as its grace period, a pull as long as the network takes.
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
            self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, read_bufsize=2**18)
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    @staticmethod
    def url(path: str) -> str:
        return API + path

    @asynccontextmanager
    async def answer(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One exchange, with errors raised; the body is still to be read."""
        data = None if body is None else orjson.dumps(body)
        sent = {"Content-Type": "application/json", **(headers or {})}
        try:
            async with self.session.request(method, API + path, params=query, data=data, headers=sent) as response:
                if response.status >= 400:
                    raise _failure(response.status, path, await response.read())
                yield response
        except (aiohttp.ClientError, OSError) as error:
            raise RuntimeUnavailable(f"podman does not answer: {error}") from error

    async def call(self, method: str, path: str, query: Mapping[str, str] | None = None, body: Any = None) -> Any:
        async with self.answer(method, path, query, body) as response:
            content = await response.read()
        return orjson.loads(content) if content.strip() else None

    async def version(self) -> str:
        """Podman's own, from the head of its shortest answer: the answer of /version asks for those of all programs
        that Podman uses, by running each and looking up its package."""
        async with self.answer("GET", "/_ping") as response:
            await response.read()
            return response.headers.get("Libpod-API-Version", "")

    async def create_pod(self, spec: Json) -> str:
        return str((await self.call("POST", "/pods/create", body=spec))["Id"])

    async def start_pod(self, pod: str) -> None:
        found = await self.call("POST", f"/pods/{pod}/start")
        if errors := (found or {}).get("Errs"):
            raise RuntimeFailure("; ".join(map(str, errors)))

    async def inspect_pod(self, pod: str) -> Json:
        found: Json = await self.call("GET", f"/pods/{pod}/json")
        return found

    async def list_pods(self, filters: Mapping[str, list[str]]) -> list[Json]:
        return await self.call("GET", "/pods/json", {"filters": orjson.dumps(filters).decode()}) or []

    async def remove_pod(self, pod: str) -> None:
        await self.call("DELETE", f"/pods/{pod}", {"force": "true", "timeout": "0"})

    async def list_containers(self, filters: Mapping[str, list[str]]) -> list[Json]:
        query = {"all": "true", "filters": orjson.dumps(filters).decode()}
        return await self.call("GET", "/containers/json", query) or []

    async def create_container(self, spec: Json) -> str:
        return str((await self.call("POST", "/containers/create", body=spec))["Id"])

    async def init_container(self, container: str) -> None:
        await self.call("POST", f"/containers/{container}/init")

    async def start_container(self, container: str) -> None:
        await self.call("POST", f"/containers/{container}/start")

    async def stop_container(self, container: str, grace_s: int) -> None:
        await self.call("POST", f"/containers/{container}/stop", {"timeout": str(grace_s), "ignore": "true"})

    async def kill_container(self, container: str, signal: str) -> None:
        await self.call("POST", f"/containers/{container}/kill", {"signal": signal})

    async def remove_container(self, container: str) -> None:
        query = {"force": "true", "v": "true", "ignore": "true", "timeout": "0"}
        await self.call("DELETE", f"/containers/{container}", query)

    async def inspect_container(self, container: str) -> Json:
        found: Json = await self.call("GET", f"/containers/{container}/json")
        return found

    async def update_container(self, container: str, resources: Json) -> None:
        """Sets OCI LinuxResources of a running container; what is not given stays. Without a word on health checks
        Podman 5.4 takes them for given, and wrong. It answers with the container's id, bare: no JSON."""
        body = {**resources, "no_healthcheck": True}
        async with self.answer("POST", f"/containers/{container}/update", body=body) as response:
            await response.read()

    async def wait_container(self, container: str, condition: str) -> int:
        """The exit code, once the container is in the condition (`exited`, `stopped`, `removing` …)."""
        return int(await self.call("POST", f"/containers/{container}/wait", {"condition": condition}))

    async def create_exec(self, container: str, config: Json) -> str:
        return str((await self.call("POST", f"/containers/{container}/exec", body=config))["Id"])

    async def inspect_exec(self, session: str) -> Json:
        found: Json = await self.call("GET", f"/exec/{session}/json")
        return found

    async def exec(self, container: str, command: list[str]) -> ExecResult:
        """Runs a command without input to its end; what it printed is kept up to a bound."""
        config = {"AttachStdout": True, "AttachStderr": True, "Cmd": command}
        session = await self.create_exec(container, config)
        output = bytearray()
        async with self.answer("POST", f"/exec/{session}/start", body={"Detach": False, "Tty": False}) as response:
            async for chunk in _demultiplexed(response.content):
                output += chunk[: max(0, EXEC_OUTPUT_MAX_BYTES - len(output))]
        found = await self.inspect_exec(session)
        return ExecResult(int(found.get("ExitCode", -1)), output.decode(errors="replace"))

    async def image_exists(self, name: str) -> bool:
        try:
            await self.call("GET", f"/images/{_name(name)}/exists")
        except NoSuchImage:
            return False
        return True

    async def inspect_image(self, name: str) -> Json:
        found: Json = await self.call("GET", f"/images/{_name(name)}/json")
        return found

    async def list_images(self) -> list[Json]:
        return await self.call("GET", "/images/json") or []

    async def remove_image(self, name: str) -> None:
        await self.call("DELETE", f"/images/{_name(name)}", {"force": "false"})

    async def pull_image(self, name: str, authorization: str = "") -> str:
        """The id of the pulled image. Podman answers 200 before it pulls: failures come in the stream."""
        # Waiting between tries is the kubelet's (ImagePullBackOff), not Podman's.
        query = {"reference": name, "quiet": "false", "retry": "0", "policy": "always"}
        headers = {"X-Registry-Auth": authorization} if authorization else {}
        found = ""
        async with self.answer("POST", "/images/pull", query, headers=headers) as response:
            async for report in _json_lines(response.content):
                if report.get("error"):
                    raise RuntimeFailure(str(report["error"]))
                found = report.get("id") or found
        return found

    async def events(self, filters: Mapping[str, list[str]], since: str = "") -> AsyncIterator[Json]:
        query = {"stream": "true", "filters": orjson.dumps(filters).decode()}
        if since:
            query["since"] = since
        async with self.answer("GET", "/events", query) as response:
            async for event in _json_lines(response.content):
                yield event


def _name(name: str) -> str:
    """An image name inside a path: its slashes stay, Podman's router takes the rest of the path."""
    return quote(name, safe="/:@")


def _failure(code: int, path: str, body: bytes) -> RuntimeFailure:
    try:
        answer = orjson.loads(body)
        text = str(answer.get("message") or answer.get("cause") or answer)
    except (orjson.JSONDecodeError, AttributeError):
        text = body.decode(errors="replace").strip() or f"HTTP {code}"
    if code != 404:
        return RuntimeFailure(text)
    return NoSuchImage(text) if path.startswith("/images") or "image not known" in text else NoSuchContainer(text)


async def _json_lines(content: aiohttp.StreamReader) -> AsyncIterator[Json]:
    buffer = b""
    async for chunk in content.iter_any():
        *lines, buffer = (buffer + chunk).split(b"\n")
        if len(buffer) > STREAM_LINE_MAX_BYTES:
            raise RuntimeFailure("podman sent an endless line")
        for line in lines:
            if line.strip():
                yield orjson.loads(line)
    if buffer.strip():
        yield orjson.loads(buffer)


async def _demultiplexed(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """The frames of an exec without a terminal: one byte of stream number, three of zero, four of length, data."""
    buffer = b""
    async for chunk in content.iter_any():
        buffer += chunk
        while len(buffer) >= 8:
            length = int.from_bytes(buffer[4:8], "big")
            if len(buffer) < 8 + length:
                break
            yield buffer[8 : 8 + length]
            buffer = buffer[8 + length :]
