"""The endpoints that take a connection over: exec, attach and port-forward, by WebSocket or SPDY, as the caller asks.

A container that does not run is an ordinary HTTP error; a command that cannot be started is one on the error channel,
for the connection has been answered by then. A process that runs in a limited container is moved into the
container's group: Podman starts it outside on hosts where the porter holds the limits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from aiohttp import web

from orchestrator.api import meta, status
from orchestrator.api.meta import Object
from orchestrator.kubelet.porter import PorterFailure
from orchestrator.kubelet.runtime.interface import RuntimeFailure
from orchestrator.kubelet.runtime.streaming import PodmanProcess
from orchestrator.kubelet.server import portforward, spdychannels, websocketchannels
from orchestrator.kubelet.server.containers import pod_of, running, specs
from orchestrator.kubelet.server.interface import Channels, Pods, Porter, Process, Streaming
from orchestrator.kubelet.server.portforward import ChannelForward, Connection, SpdyForward
from orchestrator.kubelet.server.remotecommand import Options, choose, failure_status, join, parse_options
from orchestrator.kubelet.server.spdychannels import SpdyChannels
from orchestrator.kubelet.server.upgrade import Hijacked, WebSocketPipe, hijack
from orchestrator.kubelet.server.websocketchannels import WebSocketChannels

log = logging.getLogger(__name__)

MESSAGE_BYTES_MAX = 16 << 20
STREAM_PROTOCOL = "X-Stream-Protocol-Version"
Start = Callable[[], Coroutine[Any, Any, Process]]


class Commands:
    """Serves `/exec`, `/attach` and `/portForward`."""

    def __init__(self, pods: Pods, streaming: Streaming, porter: Porter, porter_socket: Path) -> None:
        self._pods, self._streaming, self._porter, self._porter_socket = pods, streaming, porter, porter_socket

    async def exec(self, request: web.Request) -> web.StreamResponse:
        pod, name = _named(self._pods, request)
        container = await running(self._pods, pod, name)
        options = parse_options(request.query)
        command = request.query.getall("command", [])
        if not command:
            raise status.BadRequest("you must specify a command")

        async def start() -> Process:
            process = await self._streaming.exec(
                container.id,
                command,
                stdin=options.stdin,
                stdout=options.stdout,
                stderr=options.stderr,
                tty=options.tty,
            )
            if isinstance(process, PodmanProcess):
                await self._limit(pod, name, process)
            return process

        return await _remote_command(request, options, start)

    async def attach(self, request: web.Request) -> web.StreamResponse:
        pod, name = _named(self._pods, request)
        container = await running(self._pods, pod, name)
        asked = parse_options(request.query)
        # What the container was made with decides about the terminal, whatever the caller believes.
        spec: Mapping[str, Any] = next((spec for spec in specs(pod) if spec.get("name") == name), {})
        tty = bool(spec.get("tty"))
        options = Options(asked.stdin and bool(spec.get("stdin")), asked.stdout, asked.stderr and not tty, tty)

        async def start() -> Process:
            return await self._streaming.attach(
                container.id, stdin=options.stdin, stdout=options.stdout, stderr=options.stderr, tty=options.tty
            )

        return await _remote_command(request, options, start, opened=asked)

    async def port_forward(self, request: web.Request) -> web.StreamResponse:
        pod = pod_of(self._pods, request.match_info["namespace"], request.match_info["pod"])
        key, uid = meta.key(pod), meta.uid(pod)

        async def target(port: int) -> Connection:
            return await portforward.connect(self._porter_socket, uid, key, port)

        shown = f"{meta.name(pod)}, uid {uid}"
        if _is_websocket(request):
            return await _forward_by_websocket(request, target, shown)
        _require_spdy(request)
        protocol = choose(_offered(request, STREAM_PROTOCOL), (portforward.SPDY_PROTOCOL,))
        if protocol is None:
            raise status.Forbidden("unable to upgrade: no known stream protocol is offered")
        pipe = hijack(request, _spdy_answer(protocol))
        await SpdyForward(pipe, target, shown).run()
        return Hijacked()

    async def _limit(self, pod: Object, container: str, process: PodmanProcess) -> None:
        try:
            if pid := await process.pid():
                named = {"uid": meta.uid(pod), "pod": meta.key(pod), "container": container}
                await self._porter.call("cgroup.enter", {**named, "pid": pid})
        except (PorterFailure, RuntimeFailure) as error:
            # Podman holds the limits here, or the command has ended already.
            log.debug("process not moved", extra={"pod": meta.key(pod), "error": str(error)})


def _named(pods: Pods, request: web.Request) -> tuple[Object, str]:
    return pod_of(pods, request.match_info["namespace"], request.match_info["pod"]), request.match_info["container"]


def _offered(request: web.BaseRequest, header: str) -> list[str]:
    """A list may come as several headers or as one."""
    return [part.strip() for value in request.headers.getall(header, []) for part in value.split(",")]


def _is_websocket(request: web.BaseRequest) -> bool:
    return request.headers.get("Upgrade", "").lower() == "websocket"


def _require_spdy(request: web.BaseRequest) -> None:
    if not request.headers.get("Upgrade", "").lower().startswith("spdy/3.1"):
        raise status.BadRequest("you must use a client that upgrades to WebSocket or SPDY/3.1")


def _spdy_answer(protocol: str) -> dict[str, str]:
    return {"Connection": "Upgrade", "Upgrade": "SPDY/3.1", STREAM_PROTOCOL: protocol}


async def _remote_command(
    request: web.Request, options: Options, start: Start, opened: Options | None = None
) -> web.StreamResponse:
    """`opened`: the streams that the caller opens, where they are more than are used."""
    if _is_websocket(request):
        return await _command_by_websocket(request, options, start)
    _require_spdy(request)
    return await _command_by_spdy(request, options, start, opened or options)


async def _command_by_websocket(request: web.Request, options: Options, start: Start) -> web.StreamResponse:
    offered = _offered(request, "Sec-WebSocket-Protocol")
    if offered and choose(offered, websocketchannels.PROTOCOLS) is None:
        raise status.Forbidden("unable to upgrade: no known stream protocol is offered")
    socket = web.WebSocketResponse(
        protocols=websocketchannels.PROTOCOLS, compress=False, max_msg_size=MESSAGE_BYTES_MAX, timeout=1
    )
    await socket.prepare(request)
    channels = WebSocketChannels(socket)
    receiving = asyncio.create_task(channels.receive())
    try:
        await channels.greet(options)
        await _run(channels, options, start)
    except ConnectionError:
        pass  # the caller has gone in this instant
    finally:
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)
    return socket


async def _run(channels: Channels, options: Options, start: Start) -> None:
    """What cannot be started is told on the error channel, as upstream does."""
    try:
        process = await start()
    except RuntimeFailure as error:
        await channels.finish(failure_status(f"error executing command in container: {error}"))
    else:
        await join(channels, process, options)


async def _command_by_spdy(request: web.Request, options: Options, start: Start, opened: Options) -> web.StreamResponse:
    protocol = choose(_offered(request, STREAM_PROTOCOL), spdychannels.PROTOCOLS)
    if protocol is None:
        raise status.Forbidden("unable to upgrade: no known stream protocol is offered")
    pipe = hijack(request, _spdy_answer(protocol))
    channels = SpdyChannels(pipe, opened)
    receiving = asyncio.create_task(channels.receive())
    try:
        await channels.opened()
        await _run(channels, options, start)
    except (TimeoutError, ConnectionError) as error:
        log.info("streams not opened", extra={"error": str(error)})
    finally:
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)
    return Hijacked()


async def _forward_by_websocket(request: web.Request, target: portforward.Connect, pod: str) -> web.StreamResponse:
    known = (portforward.TUNNEL, *portforward.CHANNEL_PROTOCOLS)
    offered = _offered(request, "Sec-WebSocket-Protocol")
    if offered and choose(offered, known) is None:  # who offers nothing means the oldest: channels
        raise status.BadRequest("unable to upgrade: no known port-forward protocol is offered")
    socket = web.WebSocketResponse(protocols=known, compress=False, max_msg_size=MESSAGE_BYTES_MAX, timeout=1)
    ports = _ports(request)
    await socket.prepare(request)
    if socket.ws_protocol == portforward.TUNNEL:
        await SpdyForward(WebSocketPipe(socket), target, pod).run()
    else:
        await ChannelForward(socket, ports, target, pod).run()
    return socket


def _ports(request: web.Request) -> list[int]:
    """Of `port=80&port=81` and of `ports=80,81`. BadRequest for what is no port."""
    texts = [
        text for name in ("port", "ports") for value in request.query.getall(name, []) for text in value.split(",")
    ]
    if len(texts) > portforward.PORTS_MAX:
        raise status.BadRequest(f"at most {portforward.PORTS_MAX} ports can be forwarded")
    for text in texts:
        if not text.isdigit() or not 0 < int(text) < 65536:
            raise status.BadRequest(f"{text!r} is not a port")
    return [int(text) for text in texts]
