"""The kubelet's HTTPS server: TLS, who may ask, and the endpoints.

    /containerLogs/{ns}/{pod}/{container}   /exec, /attach (the same three)   /portForward/{ns}/{pod}
    /run/{ns}/{pod}/{container}   /pods   /stats/summary   /metrics   /metrics/resource
    /configz   /healthz   /logs/

Errors are text with the status code, as upstream's kubelet gives them; the API server turns them into Status objects.
Source: Kubernetes docs, "Kubelet"; kubelet `pkg/kubelet/server`.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import orjson
from aiohttp import web
from msgspec import to_builtins

from orchestrator.api import meta, status
from orchestrator.api.meta import Object
from orchestrator.client.client import Client
from orchestrator.kubelet.config import Config
from orchestrator.kubelet.dirs import Dirs
from orchestrator.kubelet.runtime.interface import RuntimeFailure, State
from orchestrator.kubelet.runtime.libpod import Libpod
from orchestrator.kubelet.runtime.streaming import PodmanStreaming
from orchestrator.kubelet.server import interface, logfile, logoptions, resourcemetrics, stats, volumestats
from orchestrator.kubelet.server.access import Access
from orchestrator.kubelet.server.commands import Commands
from orchestrator.kubelet.server.containers import log_path, pod_of, running
from orchestrator.kubelet.server.interface import Pods, Porter, Streaming
from orchestrator.kubelet.server.systemlogs import PATTERN, SystemLogs

log = logging.getLogger(__name__)

RUN_TIMEOUT_S = 600.0
SHUTDOWN_S = 1.0
LINE_BYTES_MAX = 64 << 10  # of a request: as the API server takes it, with a command and its arguments
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Runtime(interface.Commands, Protocol):
    """Podman's adapter, as the kubelet's main made it."""

    @property
    def libpod(self) -> Libpod: ...


async def serve(config: Config, pods: Pods, runtime: Runtime, porter: Porter, client: Client) -> None:
    """Runs until cancelled."""
    endpoints = Endpoints(config, pods, runtime, PodmanStreaming(runtime.libpod), porter)
    async with listening(config, endpoints, Access(client, config.node_name)):
        await asyncio.get_running_loop().create_future()


@asynccontextmanager
async def listening(config: Config, endpoints: Endpoints, access: Access) -> AsyncIterator[None]:
    application = make_application(endpoints, access)
    # A handler is told when its caller goes: a followed log must not go on for nobody.
    runner = web.AppRunner(
        application,
        handler_cancellation=True,
        access_log=None,
        shutdown_timeout=SHUTDOWN_S,
        max_line_size=LINE_BYTES_MAX,
        max_field_size=LINE_BYTES_MAX,
    )
    await runner.setup()
    try:
        site = web.TCPSite(
            runner, config.address or None, config.port, ssl_context=tls_context(config), reuse_address=True
        )
        await site.start()
        log.info("serving", extra={"address": config.address or "*", "port": config.port})
        yield
    finally:
        await runner.cleanup()


def tls_context(config: Config) -> ssl.SSLContext:
    """A client certificate is asked for and not required: a bearer token will do."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=config.client_ca_file)
    context.load_cert_chain(config.tls_cert_file, config.tls_private_key_file)
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


def make_application(endpoints: Endpoints, access: Access) -> web.Application:
    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            await access.check(request)
            return await handler(request)
        except status.ApiError as error:
            return web.Response(status=error.status_code, text=error.message)
        except RuntimeFailure as error:
            return web.Response(status=500, text=str(error))
        except ConnectionError as error:
            return web.Response(status=503, text=str(error))

    application = web.Application(middlewares=[guard])
    three = "/{namespace}/{pod}/{container}"
    for method in ("GET", "POST"):
        application.router.add_route(method, f"/exec{three}", endpoints.commands.exec)
        application.router.add_route(method, f"/attach{three}", endpoints.commands.attach)
        application.router.add_route(method, "/portForward/{namespace}/{pod}", endpoints.commands.port_forward)
    application.router.add_post(f"/run{three}", endpoints.run)
    application.router.add_get(f"/containerLogs{three}", endpoints.container_logs)
    application.router.add_get("/pods", endpoints.pods)
    application.router.add_get("/stats/summary", endpoints.summary)
    application.router.add_get("/metrics", endpoints.metrics)
    application.router.add_get("/metrics/resource", endpoints.resource_metrics)
    application.router.add_get("/configz", endpoints.configz)
    application.router.add_get("/healthz", endpoints.healthz)
    application.router.add_get(PATTERN, SystemLogs().get)
    return application


class Endpoints:
    """The endpoints that answer and are done; `commands` has those that take the connection over."""

    def __init__(
        self, config: Config, pods: Pods, runtime: interface.Commands, streaming: Streaming, porter: Porter
    ) -> None:
        self._config, self._pods, self._runtime, self._porter = config, pods, runtime, porter
        self._dirs = Dirs(Path(config.root_dir), Path(config.log_dir))
        self.commands = Commands(pods, streaming, porter, Path(config.porter_socket))

    async def container_logs(self, request: web.Request) -> web.StreamResponse:
        options = logoptions.parse(request.query, time.time())
        pod = pod_of(self._pods, request.match_info["namespace"], request.match_info["pod"])
        container = request.match_info["container"]
        path, container_id = await log_path(
            self._pods, Path(self._config.log_dir), pod, container, previous=options.previous
        )

        async def is_running() -> bool:
            state = await self._pods.state(meta.uid(pod))
            return any(found.id == container_id and found.state is State.RUNNING for found in state.containers)

        if not path.exists():
            raise status.NotFound(f"failed to open log file {str(path)!r}: no such file or directory")
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        writer = await response.prepare(request)
        if writer is not None:
            writer.send_headers()  # a followed log may have nothing to say for long
        try:
            async for chunk in logfile.read(path, options, is_running):
                await response.write(chunk)
        except ConnectionError:
            return response  # the caller has gone
        await response.write_eof()
        return response

    async def run(self, request: web.Request) -> web.StreamResponse:
        pod = pod_of(self._pods, request.match_info["namespace"], request.match_info["pod"])
        container = await running(self._pods, pod, request.match_info["container"])
        command = request.query.get("cmd", "").split(" ")
        result = await self._runtime.exec(container.id, command, RUN_TIMEOUT_S)
        return web.Response(text=result.output, status=200 if result.exit_code == 0 else 500)

    async def pods(self, request: web.Request) -> web.StreamResponse:
        return _json({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": self._pods.all()})

    async def summary(self, request: web.Request) -> web.StreamResponse:
        found = await stats.summary(self._config.node_name, self._pods, self._porter, self._dirs, time.time())
        return _json(found)

    async def resource_metrics(self, request: web.Request) -> web.StreamResponse:
        found = await stats.summary(self._config.node_name, self._pods, self._porter, self._dirs, time.time())
        return web.Response(text="\n".join([*resourcemetrics.lines(found), ""]), content_type="text/plain")

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        pod_count = container_count = 0
        for pod in self._pods.all():
            state = await self._pods.state(meta.uid(pod))
            pod_count += bool(state.running)
            container_count += len(state.running)
        lines = [
            "# HELP kubelet_running_pods [ALPHA] Number of pods that have a running pod sandbox",
            "# TYPE kubelet_running_pods gauge",
            f"kubelet_running_pods {pod_count}",
            "# HELP kubelet_running_containers [ALPHA] Number of containers currently running",
            "# TYPE kubelet_running_containers gauge",
            f'kubelet_running_containers{{container_state="running"}} {container_count}',
            "# HELP process_cpu_seconds_total Total user and system CPU time spent in seconds.",
            "# TYPE process_cpu_seconds_total counter",
            f"process_cpu_seconds_total {time.process_time():.3f}",
        ]
        lines += volumestats.metrics(fill for pod in self._pods.all() for fill in volumestats.fills(pod, self._dirs))
        return web.Response(text="\n".join(lines) + "\n", content_type="text/plain")

    async def configz(self, request: web.Request) -> web.StreamResponse:
        return _json({"kubeletconfig": {"kind": "KubeletConfiguration", **to_builtins(self._config)}})

    async def healthz(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text="ok")


def _json(value: Object | dict[str, Any]) -> web.Response:
    return web.Response(body=orjson.dumps(value), content_type="application/json")
