"""The REST client: verbs on resources, with Kubernetes' errors as exceptions.

Every answer of 400 and above is raised as the `ApiError` that its Status stands for. An answer that says when to come
back (429, 503, 504 with Retry-After) is tried again a bounded number of times. A server that cannot be reached is a
ConnectionError: whether the request was carried out is then unknown, and the caller decides again from what it sees.
Objects are plain dicts; items of a list get the `apiVersion` and `kind` that lists leave out.
Source: Kubernetes API concepts; API conventions.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, Literal

import orjson
from msgspec import Struct

from orchestrator.api import meta, status
from orchestrator.api.meta import Object
from orchestrator.api.resources import Resource
from orchestrator.api.wire import Request, Response, Transport
from orchestrator.client import kubeconfig, watch
from orchestrator.client.watch import WatchEvent

PatchKind = Literal["merge", "strategic", "json", "apply"]
Propagation = Literal["Foreground", "Background", "Orphan"]
PATCH_TYPES: dict[str, str] = {
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "json": "application/json-patch+json",
    "apply": "application/apply-patch+yaml",
}
Query = list[tuple[str, str]]
RETRIES_MAX = 10
RETRY_AFTER_MAX_S = 30
RETRIED = (429, 503, 504)


class ObjectList(Struct, frozen=True):
    items: list[Object]
    resource_version: str
    continue_token: str = ""


class Client:
    """Verbs on resources over a transport."""

    def __init__(self, transport: Transport, user_agent: str = "sampan") -> None:
        self._transport = transport
        self.user_agent = user_agent

    @classmethod
    def from_kubeconfig(cls, path: str | Path, user_agent: str = "sampan", context: str = "") -> Client:
        from orchestrator.client.network import NetworkTransport  # aiohttp, for those alone that go out to a server

        return cls(NetworkTransport(kubeconfig.load(path, context)), user_agent)

    async def close(self) -> None:
        await self._transport.close()

    async def request(self, request: Request) -> Response:
        """The raw exchange: no retries, no errors but ConnectionError."""
        request.headers.setdefault("user-agent", self.user_agent)
        return await self._transport.send(request)

    async def get(
        self, resource: Resource, name: str, namespace: str = "", *, subresource: str = "", resource_version: str = ""
    ) -> Object:
        query = [("resourceVersion", resource_version)] if resource_version else []
        return await self._object("GET", resource.path(namespace, name, subresource), query)

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
        resource_version: str | None = None,
        limit: int | None = None,
        continue_token: str = "",
    ) -> ObjectList:
        """All objects, or one page of at most `limit` with the token of the next."""
        query = _selection(label_selector, field_selector)
        if resource_version is not None:
            query.append(("resourceVersion", resource_version))
        if limit:
            query.append(("limit", str(limit)))
        if continue_token:
            query.append(("continue", continue_token))
        found = await self._object("GET", resource.path(namespace or ""), query)
        items: list[Object] = found.get("items") or []
        for item in items:
            item.setdefault("apiVersion", resource.api_version)
            item.setdefault("kind", resource.kind)
        described = meta.metadata(found)
        return ObjectList(items, described.get("resourceVersion") or "", described.get("continue") or "")

    async def create(
        self,
        resource: Resource,
        obj: Object,
        namespace: str | None = None,
        *,
        subresource: str | None = None,
        name: str | None = None,
        field_manager: str | None = None,
    ) -> Object:
        namespace = meta.namespace(obj) if namespace is None else namespace
        path = resource.path(namespace, name or "", subresource or "")
        return await self._object("POST", path, _manager(field_manager), _typed(resource, obj, subresource))

    async def update(
        self, resource: Resource, obj: Object, *, subresource: str | None = None, field_manager: str | None = None
    ) -> Object:
        path = resource.path(meta.namespace(obj), meta.name(obj), subresource or "")
        return await self._object("PUT", path, _manager(field_manager), _typed(resource, obj, subresource))

    async def patch(
        self,
        resource: Resource,
        name: str,
        namespace: str,
        patch: Object | Sequence[Object],
        kind: PatchKind = "merge",
        *,
        subresource: str | None = None,
        field_manager: str | None = None,
        force: bool = False,
    ) -> Object:
        query = _manager(field_manager or (self.user_agent.partition("/")[0] if kind == "apply" else None))
        if force:
            query.append(("force", "true"))
        path = resource.path(namespace, name, subresource or "")
        return await self._object("PATCH", path, query, patch, PATCH_TYPES[kind])

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str = "",
        *,
        grace_period_s: int | None = None,
        propagation: Propagation | None = None,
        uid: str | None = None,
        resource_version: str | None = None,
    ) -> Object:
        """The object that is being deleted, or the Status that says it is gone."""
        options = _delete_options(grace_period_s, propagation, uid, resource_version)
        return await self._object("DELETE", resource.path(namespace, name), [], options)

    async def delete_collection(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        grace_period_s: int | None = None,
        propagation: Propagation | None = None,
    ) -> Object:
        options = _delete_options(grace_period_s, propagation, None, None)
        return await self._object(
            "DELETE", resource.path(namespace), _selection(label_selector, field_selector), options
        )

    async def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        resource_version: str = "",
        label_selector: str = "",
        field_selector: str = "",
        timeout_s: int | None = None,
        bookmarks: bool = False,
        send_initial_events: bool = False,
    ) -> AsyncIterator[WatchEvent]:
        """Events from a revision on, until the server ends the watch. Iterate under `contextlib.aclosing` where the
        loop may be left early. With `send_initial_events` the present state comes first and a bookmark after it
        (KEP-3157)."""
        query = [("watch", "true"), *_selection(label_selector, field_selector)]
        if resource_version:
            query.append(("resourceVersion", resource_version))
        if timeout_s is not None:
            query.append(("timeoutSeconds", str(timeout_s)))
        if bookmarks or send_initial_events:
            query.append(("allowWatchBookmarks", "true"))
        if send_initial_events:
            query += [("sendInitialEvents", "true"), ("resourceVersionMatch", "NotOlderThan")]
        response = await self._send("GET", resource.path(namespace or ""), query, b"", {})
        if isinstance(response.body, bytes):
            raise status.InternalError(f"watch of {resource.group_resource} was answered with one body")
        body = response.body
        try:
            async with aclosing(watch.decode(body)) as events:  # type: ignore[type-var]
                async for event in events:
                    yield event
        finally:
            await close_stream(body)

    async def _object(
        self,
        method: str,
        path: str,
        query: Query,
        body: Any = None,
        content_type: str = "application/json",
    ) -> Object:
        headers = {"content-type": content_type} if body is not None else {}
        response = await self._send(method, path, query, b"" if body is None else orjson.dumps(body), headers)
        content = response.body if isinstance(response.body, bytes) else await read(response.body)
        found: Object = orjson.loads(content) if content else {}
        return found

    async def _send(self, method: str, path: str, query: Query, body: bytes, headers: dict[str, str]) -> Response:
        """One request, tried again while the server asks for patience; errors are raised."""
        for attempt in range(RETRIES_MAX + 1):
            sent = Request(method, path, list(query), {"accept": "application/json", **headers}, body)
            response = await self.request(sent)
            if response.status < 400:
                return response
            patience = _retry_after_s(response)
            if response.status not in RETRIED or patience is None or attempt == RETRIES_MAX:
                raise await error_of(response)
            await asyncio.sleep(min(patience, RETRY_AFTER_MAX_S))
        raise AssertionError("the last attempt returns or raises")


async def read(stream: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in stream])


async def close_stream(stream: AsyncIterator[bytes]) -> None:
    """Ends a streamed answer that is not read to its end."""
    close = getattr(stream, "aclose", None)
    if close is not None:
        await close()


async def error_of(response: Response) -> status.ApiError:
    """The error that a response of 400 and above stands for, whoever wrote it."""
    body = response.body if isinstance(response.body, bytes) else await read(response.body)
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        parsed = None
    if not isinstance(parsed, dict) or parsed.get("kind") != "Status":
        parsed = {"message": body[:1024].decode(errors="replace") or f"HTTP {response.status}"}
    return status.from_status(parsed, response.status)


def _retry_after_s(response: Response) -> float | None:
    text = response.headers.get("retry-after", "")
    return float(text) if text.isdigit() else None


def _selection(label_selector: str, field_selector: str) -> Query:
    pairs = (("labelSelector", label_selector), ("fieldSelector", field_selector))
    return [pair for pair in pairs if pair[1]]


def _manager(field_manager: str | None) -> Query:
    return [("fieldManager", field_manager)] if field_manager else []


def _typed(resource: Resource, obj: Object, subresource: str | None) -> Object:
    """The body with its type named; a subresource may have a type of its own (Binding, Scale, Eviction)."""
    if obj.get("kind") and obj.get("apiVersion"):
        return obj
    named = resource.subresource(subresource) if subresource else None
    kind = named.kind if named and named.kind else resource.kind
    api_version = named.group_version if named and named.group_version else resource.api_version
    return {"apiVersion": api_version, "kind": kind, **obj}


def _delete_options(
    grace_period_s: int | None, propagation: Propagation | None, uid: str | None, resource_version: str | None
) -> Object | None:
    preconditions = {"uid": uid, "resourceVersion": resource_version}
    preconditions = {field: value for field, value in preconditions.items() if value is not None}
    options: Object = {}
    if grace_period_s is not None:
        options["gracePeriodSeconds"] = grace_period_s
    if propagation is not None:
        options["propagationPolicy"] = propagation
    if preconditions:
        options["preconditions"] = preconditions
    return {"apiVersion": "v1", "kind": "DeleteOptions", **options} if options else None
