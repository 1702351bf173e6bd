"""log, exec, attach and portforward of a pod: from what the caller asks of the API to what its kubelet is asked.

The container defaults to the only one; a pod that no node has taken yet has an empty log and no streams.
Source: kube-apiserver `pkg/registry/core/pod/strategy.go`; core/v1 PodLogOptions, PodExecOptions, PodAttachOptions,
PodPortForwardOptions.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any

import aiohttp

from orchestrator.api import meta, status
from orchestrator.api.meta import Object
from orchestrator.api.resources import PODS
from orchestrator.api.wire import Response
from orchestrator.apiserver.handlers import Call, Upgrade
from orchestrator.apiserver.lookup import Lookup
from orchestrator.apiserver.streams import relay, websocket
from orchestrator.apiserver.streams.backend import Backends
from orchestrator.apiserver.streams.logoptions import kubelet_query

LISTS = ("initContainers", "containers", "ephemeralContainers")
TRUE = ("1", "true", "True", "TRUE", "t", "T")
# The kubelet's names of the stream options.
STREAMS = {"stdin": "input", "stdout": "output", "stderr": "error", "tty": "tty"}
Query = list[tuple[str, str]]


def container_of(pod: Object, asked: str) -> str:
    """BadRequest where it is not named and there are several, or where there is none of that name."""
    spec = pod.get("spec") or {}
    names = [container["name"] for field in LISTS for container in spec.get(field) or ()]
    if asked:
        if asked not in names:
            raise status.BadRequest(f"container {asked} is not valid for pod {meta.name(pod)}")
        return asked
    containers = spec.get("containers") or []
    if len(containers) == 1:
        return str(containers[0]["name"])
    listed = f", choose one of: [{' '.join(names)}]" if containers else ""
    raise status.BadRequest(f"a container name must be specified for pod {meta.name(pod)}{listed}")


def stream_query(query: Query) -> Query:
    """Of exec and attach; stderr goes with no terminal. BadRequest without any stream."""
    asked = {name: _is_true(query, name) for name in STREAMS}
    if not (asked["stdin"] or asked["stdout"] or asked["stderr"]):
        raise status.BadRequest("you must specify at least 1 of stdin, stdout, stderr")
    return [(STREAMS[name], "1") for name, is_asked in asked.items() if is_asked]


def _is_true(query: Query, name: str) -> bool:
    return next((value for key, value in query if key == name), "") in TRUE


def port_query(query: Query) -> Query:
    return [("port", port) for key, value in query if key == "ports" for port in value.split(",")]


class PodStreams:
    """The handlers of pods' streaming subresources."""

    def __init__(self, backends: Backends, lookup: Lookup) -> None:
        self._backends, self._lookup = backends, lookup

    def _pod(self, call: Call) -> Object:
        found = self._lookup.get(PODS, call.info.namespace, call.info.name)
        if found is None:
            raise status.not_found("", "pods", call.info.name)
        return found

    async def log(self, call: Call) -> Response | Upgrade:
        query = kubelet_query(call.request.query, call.info.name)
        pod = self._pod(call)
        container = container_of(pod, call.request.param("container"))
        node = _node(pod)
        if not node:
            return Response(204)
        if by_websocket := websocket.is_websocket(call.request):
            websocket.check_protocol(call.request)
        target = self._backends.kubelet(node)
        path = relay.path_and_query(f"/containerLogs/{meta.key(pod)}/{container}", query)
        try:
            answer = await self._backends.session.get(f"{target.origin}{path}", ssl=target.tls or True)
            if answer.status >= 300:
                async with answer:
                    raise log_refusal(answer.status, (await answer.text()).strip(), meta.name(pod))
        except (aiohttp.ClientError, OSError) as error:
            raise status.InternalError(
                f"Internal error occurred: Get {target.origin}{path}: {error or type(error).__name__}"
            ) from error
        if by_websocket:
            return websocket.stream(_chunks(answer))
        return Response(200, {"content-type": "text/plain"}, _chunks(answer))

    async def exec(self, call: Call) -> Upgrade:
        return await self._command(call, "exec", needs_command=True)

    async def attach(self, call: Call) -> Upgrade:
        return await self._command(call, "attach", needs_command=False)

    async def _command(self, call: Call, verb: str, *, needs_command: bool) -> Upgrade:
        pod = self._pod(call)
        container = container_of(pod, call.request.param("container"))
        _host_of(pod)
        query = stream_query(call.request.query)
        if needs_command:
            command = [("command", value) for key, value in call.request.query if key == "command"]
            if not command:
                raise status.BadRequest("you must specify at least 1 command")
            query += command
        return await self._upgrade(call, pod, f"/{verb}/{meta.key(pod)}/{container}", query)

    async def port_forward(self, call: Call) -> Upgrade:
        pod = self._pod(call)
        return await self._upgrade(call, pod, f"/portForward/{meta.key(pod)}", port_query(call.request.query))

    async def _upgrade(self, call: Call, pod: Object, path: str, query: Query) -> Upgrade:
        node = _host_of(pod)
        if not relay.is_upgrade(call.request):
            raise status.BadRequest("Upgrade request required")
        return await relay.upgrade(call.request, self._backends.kubelet(node), path, query)


def _host_of(pod: Object) -> str:
    """The node of a pod whose streams are asked for. Errors: BadRequest."""
    node = _node(pod)
    if not node:
        raise status.BadRequest(f"pod {meta.name(pod)} does not have a host assigned")
    return node


def _node(pod: Mapping[str, Any]) -> str:
    return str((pod.get("spec") or {}).get("nodeName") or "")


def log_refusal(code: int, text: str, pod: str) -> status.ApiError:
    """What the kubelet said instead of a log."""
    if code == 500:
        return status.InternalError(f"Internal error occurred: {text}")
    kind = status.BY_CODE.get(code, status.ApiError)
    if kind is status.NotFound:
        return status.NotFound(
            f"the server could not find the requested resource ( pods/log {pod}): {text}",
            details={"name": pod, "kind": "pods/log"},
        )
    return kind(text, code=code)


async def _chunks(answer: aiohttp.ClientResponse) -> AsyncGenerator[bytes]:
    """The body as it comes; a caller that leaves closes the connection, which ends the kubelet's side."""
    try:
        async for chunk in answer.content.iter_any():
            yield chunk
    except (aiohttp.ClientError, OSError) as error:
        raise ConnectionError(f"log broken off: {error or type(error).__name__}") from error
    finally:
        answer.close()
