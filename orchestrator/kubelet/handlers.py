"""What probes and lifecycle hooks do: run a command, ask by HTTP, open a port, ask a gRPC health service, sleep.

A handler answers `Outcome`: whether it passed, and the text that an Unhealthy or Failed… event carries. It never raises
for what the container does; RuntimeUnavailable means that nobody could look.
Source: Kubernetes docs, "Configure Liveness, Readiness and Startup Probes", "Container Lifecycle Hooks"; pkg/probe.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import aiohttp
from msgspec import Struct

from orchestrator.client.network import unverified_tls
from orchestrator.kubelet import grpchealth
from orchestrator.kubelet.podspec import Container
from orchestrator.kubelet.runtime.interface import NoSuchContainer, Runtime, RuntimeFailure, RuntimeUnavailable

USER_AGENT = "kube-probe/1.36"
BODY_MAX_BYTES = 10 * 1024
REDIRECTS_MAX = 10


class Outcome(Struct, frozen=True):
    passed: bool
    message: str = ""


class Target(Struct, frozen=True):
    """The container that a handler is about, and the address of its pod."""

    container_id: str
    container: Container
    pod_ip: str


class Handlers:
    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def run(self, handler: Mapping[str, Any], target: Target, timeout_s: float) -> Outcome:
        try:
            if "exec" in handler:
                return await self._exec(handler["exec"].get("command") or [], target, timeout_s)
            if "httpGet" in handler:
                return await self._http(handler["httpGet"], target, timeout_s)
            if "tcpSocket" in handler:
                return await self._tcp(handler["tcpSocket"], target, timeout_s)
            if "grpc" in handler:
                return await self._grpc(handler["grpc"], target, timeout_s)
            if "sleep" in handler:
                await asyncio.sleep(handler["sleep"]["seconds"])
                return Outcome(True)
        except PortError as error:
            return Outcome(False, str(error))
        return Outcome(False, f"unsupported handler {', '.join(sorted(handler))}")

    async def _exec(self, command: list[str], target: Target, timeout_s: float) -> Outcome:
        try:
            result = await self._runtime.exec(target.container_id, command, timeout_s)
        except TimeoutError:
            return Outcome(False, f'command timed out: "{" ".join(command)}" timed out after {timeout_s:g}s')
        except (RuntimeUnavailable, NoSuchContainer):
            raise
        except RuntimeFailure as error:
            return Outcome(False, str(error))
        return Outcome(result.exit_code == 0, result.output)

    async def _http(self, get: Mapping[str, Any], target: Target, timeout_s: float) -> Outcome:
        scheme = str(get.get("scheme") or "HTTP").lower()
        host = get.get("host") or target.pod_ip
        path = get.get("path") or "/"
        shown = f"[{host}]" if ":" in host else host
        url = f"{scheme}://{shown}:{port_number(get.get('port'), target.container)}/{path.removeprefix('/')}"
        headers = {header["name"]: header.get("value", "") for header in get.get("httpHeaders") or ()}
        headers = {"User-Agent": USER_AGENT, "Accept": "*/*", **headers}
        try:
            async with self.session.get(
                url,
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=timeout_s),
                allow_redirects=True,
                max_redirects=REDIRECTS_MAX,
            ) as answer:
                body = await answer.content.read(BODY_MAX_BYTES)
        except TimeoutError:
            return Outcome(False, f'Get "{url}": context deadline exceeded (Client.Timeout exceeded)')
        except (aiohttp.ClientError, OSError) as error:
            return Outcome(False, f'Get "{url}": {_reason(error)}')
        if 200 <= answer.status < 400:
            return Outcome(True, body.decode(errors="replace"))
        return Outcome(False, f"HTTP probe failed with statuscode: {answer.status}")

    @property
    def session(self) -> aiohttp.ClientSession:
        if self._session is None:
            # Certificates of pods are their own affair: a probe asks for an answer, not for an identity.
            connector = aiohttp.TCPConnector(ssl=unverified_tls(), force_close=True, use_dns_cache=False, limit=0)
            self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        return self._session

    async def _tcp(self, socket: Mapping[str, Any], target: Target, timeout_s: float) -> Outcome:
        host = socket.get("host") or target.pod_ip
        port = port_number(socket.get("port"), target.container)
        try:
            async with asyncio.timeout(timeout_s):
                _, writer = await asyncio.open_connection(host, port)
        except TimeoutError:
            return Outcome(False, f"dial tcp {host}:{port}: i/o timeout")
        except OSError as error:
            return Outcome(False, f"dial tcp {host}:{port}: {_reason(error)}")
        writer.close()
        return Outcome(True)

    async def _grpc(self, grpc: Mapping[str, Any], target: Target, timeout_s: float) -> Outcome:
        port = port_number(grpc.get("port"), target.container)
        try:
            async with asyncio.timeout(timeout_s):
                serving = await grpchealth.check(target.pod_ip, port, grpc.get("service") or "")
        except TimeoutError:
            return Outcome(False, f'timeout: failed to connect service "{target.pod_ip}:{port}" within {timeout_s:g}s')
        except (OSError, EOFError, grpchealth.GrpcFailure) as error:
            return Outcome(False, f"error: {_reason(error)}")
        return Outcome(serving == "SERVING", f"service unhealthy (responded with {serving!r})")


class PortError(ValueError):
    """A port name that the container does not have."""


def port_number(port: Any, container: Container) -> int:
    """A port by number or by its name in the container."""
    if isinstance(port, int):
        return port
    for known in container.get("ports") or ():
        if known.get("name") == port:
            return int(known["containerPort"])
    if str(port).isdigit():
        return int(port)
    raise PortError(f"couldn't find port {port!r} in container {container.get('name')}")


def _reason(error: BaseException) -> str:
    if isinstance(error, ConnectionRefusedError) or "Connect call failed" in str(error):
        return "connection refused"
    return str(error) or type(error).__name__
