"""The documents of aggregated servers: version 2 is fetched, to be joined to ours; of version 3 the list is, and each
document is asked of its server when a client asks for it.

A server that has no version 3 gets its older document converted. What a server publishes is looked at when its
APIService changes, every UPDATE_S, and after a failure with growing pauses; what was seen last stays meanwhile.
Source: k8s.io/kube-aggregator pkg/controllers/openapi and openapiv3.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote, urlsplit

import orjson
from msgspec import Struct, field

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.api.resources import APISERVICES
from orchestrator.api.wire import Identity, Request, Response
from orchestrator.apiserver.aggregation.aggregator import Aggregator
from orchestrator.apiserver.aggregation.remote import Remote
from orchestrator.apiserver.encoding import JSON
from orchestrator.apiserver.lookup import Lookup
from orchestrator.apiserver.openapi import converting, merging

log = logging.getLogger(__name__)

UPDATE_S = 60.0
RETRY_S, RETRY_MAX_S = 1.0, 3600.0
TIMEOUT_S = 60.0
DOCUMENT_BYTES_MAX = 64 << 20
DOWNLOADER = Identity("system:aggregator")
ROOT_V3 = "/openapi/v3"

Serve = Callable[[Request, Identity, Remote], Awaitable[Response]]


class NoDocument(Exception):
    """A server does not say what it serves; the text says why."""


class Published(Struct):
    """Of one APIService: the document of version 2 and its ETag, and of version 3 the URLs by path, or what was made of
    the older one."""

    remote: Remote
    etag: str = ""
    document: dict[str, Any] | None = None
    urls: dict[str, str] = field(default_factory=dict)
    converted: bytes | None = None


class RemoteDocuments:
    """`start` once the cache is loaded."""

    def __init__(self, aggregator: Aggregator, lookup: Lookup) -> None:
        self._aggregator, self._lookup = aggregator, lookup
        self._published: dict[str, Published] = {}
        self._keeping: dict[str, tuple[asyncio.Task[None], asyncio.Event]] = {}

    def start(self) -> None:
        self._lookup.subscribe(APISERVICES, self._changed)

    async def close(self) -> None:
        tasks = [task for task, _ in self._keeping.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def documents(self) -> list[tuple[str, dict[str, Any]]]:
        """(ETag, document of version 2) of each server that has one, in the order of discovery."""
        found = []
        for remote in self._aggregator.remotes():
            one = self._published.get(remote.name)
            if one is not None and one.document is not None:
                found.append((one.etag, one.document))
        return found

    def urls(self) -> dict[str, str]:
        """Of version 3: path as `apis/GROUP/VERSION` → URL with a hash in it."""
        return {path: url for one in self._published.values() for path, url in one.urls.items()}

    def converted(self, path: str) -> bytes | None:
        """What was made of an older document."""
        for one in self._published.values():
            if one.converted is not None and path in one.urls:
                return one.converted
        return None

    async def proxied(self, request: Request, user: Identity, path: str) -> Response | None:
        """The answer of the server that lists the path; None where none does."""
        for one in self._published.values():
            if path in one.urls:
                return await self._aggregator.serve(request, user, one.remote)
        return None

    # -- keeping them --------------------------------------------------------------------------------------------------

    def _changed(self, old: Object | None, new: Object | None) -> None:
        name = meta.name(new or old or {})
        if new is None or Remote.of(new) is None:
            self._published.pop(name, None)
            if (running := self._keeping.pop(name, None)) is not None:
                running[0].cancel()
        elif name not in self._keeping:
            changed = asyncio.Event()
            task = asyncio.get_running_loop().create_task(self._keep(name, changed))
            self._keeping[name] = task, changed
        elif old is None or Remote.of(old) != Remote.of(new):
            self._keeping[name][1].set()

    async def _keep(self, name: str, changed: asyncio.Event) -> None:
        pause_s = RETRY_S
        while True:
            changed.clear()
            found = self._lookup.get(APISERVICES, "", name)
            remote = Remote.of(found) if found is not None else None
            wait_s = UPDATE_S
            if remote is not None and remote.is_available:
                try:
                    self._published[name] = await self._look(remote, self._published.get(name))
                    pause_s = RETRY_S
                except (NoDocument, TimeoutError, ConnectionError, ValueError) as error:
                    log.warning("no OpenAPI of an API service", extra={"name": name, "error": str(error)})
                    wait_s, pause_s = pause_s, min(pause_s * 2, RETRY_MAX_S)
            try:
                await asyncio.wait_for(changed.wait(), wait_s)
            except TimeoutError:
                pass

    async def _look(self, remote: Remote, before: Published | None) -> Published:
        found = Published(remote)
        etag = before.etag if before is not None else ""
        answer, body = await self._get(remote, "/openapi/v2", {"if-none-match": etag} if etag else {})
        if answer.status == 304 and before is not None:
            found.etag, found.document = before.etag, before.document
        elif answer.status == 200:
            prefix = f"{remote.root}/"
            document = merging.of_paths(_object(body), lambda path: path.startswith(prefix))
            found.etag, found.document = answer.headers.get("etag") or _etag(body), document
        elif answer.status != 404:
            raise NoDocument(f"failed to retrieve openAPI spec, http error: {answer.status}")
        answer, body = await self._get(remote, ROOT_V3, {})
        path = remote.root.strip("/")
        if answer.status == 200:
            found.urls = _urls(_object(body))
        elif answer.status == 404 and found.document is not None:
            found.converted = orjson.dumps(converting.document_v3(found.document))
            found.urls = {path: f"{ROOT_V3}/{path}?hash={hashlib.sha512(found.converted).hexdigest().upper()}"}
        elif answer.status != 404:
            raise NoDocument(f"failed to retrieve the list of OpenAPI documents, http error: {answer.status}")
        return found

    async def _get(self, remote: Remote, path: str, headers: dict[str, str]) -> tuple[Response, bytes]:
        async with asyncio.timeout(TIMEOUT_S):
            request = Request("GET", path, headers={"accept": JSON, **headers})
            answer = await self._aggregator.serve(request, DOWNLOADER, remote)
            if isinstance(answer.body, bytes):
                return answer, answer.body
            pieces, size = [], 0
            async for piece in answer.body:
                pieces.append(piece)
                size += len(piece)
                if size > DOCUMENT_BYTES_MAX:
                    raise NoDocument(f"{path} has more than {DOCUMENT_BYTES_MAX} bytes")
            return answer, b"".join(pieces)


def _object(body: bytes) -> dict[str, Any]:
    found = orjson.loads(body)
    if not isinstance(found, dict):
        raise NoDocument("what it publishes is no JSON object")
    return found


def _urls(document: dict[str, Any]) -> dict[str, str]:
    """Of a list of documents; what is no URL below `/openapi/v3` is left out."""
    found = {}
    for path, entry in (document.get("paths") or {}).items():
        url = entry.get("serverRelativeURL") if isinstance(entry, dict) else None
        if isinstance(url, str) and unquote(urlsplit(url).path) == f"{ROOT_V3}/{path}":
            found[path] = url
    return found


def _etag(body: bytes) -> str:
    """For a server that names none."""
    return f'"{hashlib.sha512(body).hexdigest().upper()}"'
