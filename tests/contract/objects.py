"""Small objects of the contract tests, and plain requests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qsl

import orjson

from orchestrator.api.resources import SERVICEACCOUNTS
from orchestrator.api.status import AlreadyExists
from orchestrator.api.wire import Request
from orchestrator.client.client import Client, read

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


def configmap(namespace: str, name: str, labels: dict[str, str] | None = None, **data: str) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, "namespace": namespace}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata | ({"labels": labels} if labels else {}),
        "data": data,
    }


def deployment(namespace: str, name: str = "web", **spec: Any) -> dict[str, Any]:
    labels = {"app": "web"}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": pod, **spec},
    }


def pod(namespace: str, name: str, **spec: Any) -> dict[str, Any]:
    spec = {"automountServiceAccountToken": False, "containers": [{"name": "c", "image": "i:1"}], **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace}, "spec": spec}


async def with_account(client: Client, namespace: str) -> None:
    """Pods need the namespace's service account, which a controller makes where one runs."""
    try:
        await client.create(SERVICEACCOUNTS, {"metadata": {"name": "default", "namespace": namespace}})
    except AlreadyExists:
        pass


async def lines(client: Client, url: str, **headers: str) -> AsyncIterator[bytes]:
    """A streamed answer."""
    path, _, query = url.partition("?")
    answer = await client.request(Request("GET", path, parse_qsl(query), headers, b""))
    assert not isinstance(answer.body, bytes), answer.body
    for line in (await read(answer.body)).splitlines():
        yield line


async def call(client: Client, method: str, url: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    """(status, parsed answer) of one request; keyword `content_type="…"` is a header."""
    path, _, query = url.partition("?")
    named = {"accept": "application/json", "content-type": "application/json"}
    named |= {key.replace("_", "-"): value for key, value in headers.items()}
    raw = b"" if body is None else orjson.dumps(body)
    answer = await client.request(Request(method, path, parse_qsl(query, keep_blank_values=True), named, raw))
    assert isinstance(answer.body, bytes)
    return answer.status, orjson.loads(answer.body) if answer.body else None


def names(objects: list[dict[str, Any]]) -> list[str]:
    return [obj["metadata"]["name"] for obj in objects]


def revision(obj: dict[str, Any]) -> int:
    return int(obj["metadata"]["resourceVersion"])
