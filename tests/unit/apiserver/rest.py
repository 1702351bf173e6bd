"""Plain requests against an API server in memory: method, path, body → (status, JSON)."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

import orjson

from orchestrator.api.wire import Request, Response
from tests.apiserver_fixture import Served

JSON = "application/json"


async def send(served: Served, method: str, url: str, body: Any = None, **headers: str) -> Response:
    path, _, query = url.partition("?")
    raw = body if isinstance(body, bytes) else b"" if body is None else orjson.dumps(body)
    named = {"content-type": JSON} | {key.replace("_", "-"): value for key, value in headers.items()}
    return await served.server.handle(Request(method, path, parse_qsl(query, keep_blank_values=True), named, raw))


async def call(served: Served, method: str, url: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    answer = await send(served, method, url, body, **headers)
    assert isinstance(answer.body, bytes)
    return answer.status, orjson.loads(answer.body) if answer.body else None


CONFIGMAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"


def configmap(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def pod(name: str, **spec: Any) -> dict[str, Any]:
    container = {"name": "c", "image": "nginx:1"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [container], **spec}}
