"""Answers of `/openapi/v2` and `/openapi/v3`, in JSON or protobuf, each with an ETag.

`/openapi/v3` lists a document a group version, and one for each path that is no resource, with a hash in its URL, so
that clients may keep it for ever; an old hash is led to the present one. `/openapi/v2` is all of it in the older
format, with what other servers serve. A document is built when it is first asked for, and the last few are kept.
Source: Kubernetes docs, "OpenAPI"; k8s.io/kube-openapi pkg/handler and handler3.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from email.utils import formatdate
from typing import Any

import orjson

from orchestrator.api import schema
from orchestrator.api.clock import Clock
from orchestrator.api.resources import Resource, ResourceTable
from orchestrator.api.status import NotFound
from orchestrator.api.wire import Identity, Request, Response
from orchestrator.apiserver.asked import JSON_HEADERS, NOT_SERVED
from orchestrator.apiserver.encoding import JSON
from orchestrator.apiserver.negotiation import ranges
from orchestrator.apiserver.openapi import merging
from orchestrator.apiserver.openapi.documents import document_v2, document_v3
from orchestrator.apiserver.openapi.remote import RemoteDocuments
from orchestrator.apiserver.openapi.roots import Root, roots
from orchestrator.apiserver.protobuf import openapi_v2, openapi_v3

DOCUMENTS_KEPT = 4
KEPT_FOR_EVER = "public, immutable"
YEAR_S = 365 * 24 * 3600.0
_PROTOBUF = "application/com.github.proto-openapi.spec.{}+protobuf"
# As clients ask for them, and as they are answered: the older name of the second is still the one that most ask for.
_ENCODINGS = {
    version: {JSON: JSON, _PROTOBUF.format(f"{version}@v1.0"): name, name: name}
    for version in ("v2", "v3")
    for name in (_PROTOBUF.format(f"{version}.v1.0"),)
}
Write = Callable[[Any], bytes]


class OpenApi:
    """`remote` has the documents of other servers."""

    def __init__(self, table: ResourceTable, clock: Clock, remote: RemoteDocuments | None = None) -> None:
        self._table = table
        self._clock = clock
        self._remote = remote
        self._documents: OrderedDict[str, bytes] = OrderedDict()

    async def v3(self, request: Request) -> Response:
        """`/openapi/v3` and `/openapi/v3/PATH` for each path that it lists."""
        wanted = request.path.removeprefix("/openapi/v3").strip("/")
        if not wanted:
            return self._listed(request)
        ours = self._ours()
        if wanted not in ours and self._remote is not None:
            if (made := self._remote.converted(wanted)) is not None:
                digest = hashlib.sha512(made).hexdigest().upper()
                return self._document_v3(request, wanted, digest, lambda: orjson.loads(made))
            answer = await self._remote.proxied(request, request.identity or Identity("system:anonymous"), wanted)
            if answer is not None:
                return answer
        if wanted not in ours:
            raise NotFound(NOT_SERVED)
        rows, root = ours[wanted]
        return self._document_v3(
            request, wanted, _digest(rows, root), lambda: document_v3(rows, (root,) if root is not None else ())
        )

    def _listed(self, request: Request) -> Response:
        paths = {path: f"/openapi/v3/{path}?hash={_digest(*found)}" for path, found in self._ours().items()}
        if self._remote is not None:
            paths = {**self._remote.urls(), **paths}
        found = {"paths": {path: {"serverRelativeURL": url} for path, url in sorted(paths.items())}}
        return Response(200, dict(JSON_HEADERS), orjson.dumps(found))

    def _document_v3(self, request: Request, path: str, digest: str, build: Callable[[], Any]) -> Response:
        media_type = _encoding("v3", request)
        if media_type is None:
            return Response(406, {"vary": "Accept"})
        headers = {"content-type": media_type, "etag": f'"{digest}"', "vary": "Accept"}
        if asked := request.param("hash"):
            if asked != digest:
                return Response(301, {"location": f"/openapi/v3/{path}?hash={digest}", "vary": "Accept"})
            headers["cache-control"] = KEPT_FOR_EVER
            headers["expires"] = formatdate(self._clock.now() + YEAR_S, usegmt=True)
        if request.headers.get("if-none-match") == headers["etag"]:
            return Response(304, headers)
        write = orjson.dumps if media_type == JSON else openapi_v3.document
        return Response(200, headers, self._kept(f"{media_type} {path} {digest}", build, write))

    async def v2(self, request: Request) -> Response:
        """`/openapi/v2`: in JSON, or in protobuf, which some versions of kubectl ask for alone."""
        media_type = _encoding("v2", request)
        if media_type is None:
            return Response(406, {"vary": "Accept"})
        rows = list(self._table)
        others = self._remote.documents() if self._remote is not None else []
        etag = f'"{_digest(rows, None, *(one for one, _ in others))}"'
        headers = {"content-type": media_type, "etag": etag, "vary": "Accept"}
        if request.headers.get("if-none-match") == etag:
            return Response(304, headers)

        def build() -> Mapping[str, Any]:
            made = document_v2(rows, self._roots().values())
            for _, other in others:
                made = merging.merged(made, other)
            return made

        write = orjson.dumps if media_type == JSON else openapi_v2.document
        return Response(200, headers, self._kept(f"{media_type} {etag}", build, write))

    def _roots(self) -> dict[str, Root]:
        return roots({row.group: None for row in self._table if not row.is_custom})

    def _ours(self) -> dict[str, tuple[list[Resource], Root | None]]:
        """What this server publishes in version 3: the rows of a group version, or another path."""
        found: dict[str, tuple[list[Resource], Root | None]] = {
            path.strip("/"): ([], root) for path, root in self._roots().items()
        }
        for row in self._table:
            found.setdefault(row.root.strip("/"), ([], None))[0].append(row)
        return found

    def _kept(self, key: str, build: Callable[[], Any], write: Write) -> bytes:
        found = self._documents.get(key)
        if found is None:
            found = write(build())
            self._documents[key] = found
            if len(self._documents) > DOCUMENTS_KEPT:
                self._documents.popitem(last=False)
        self._documents.move_to_end(key)
        return found


def _encoding(version: str, request: Request) -> str | None:
    for wanted in ranges(request.headers.get("accept") or "*/*"):
        for asked, answered in _ENCODINGS[version].items():
            if wanted.covers(asked):
                return answered
    return None


def _digest(rows: list[Resource], root: Root | None, *others: str) -> str:
    """Of what a document is made of."""
    text = "\n".join([*(repr(row) for row in rows), repr(root), schema.VERSION, *others])
    text += "".join(orjson.dumps(row.custom.version).decode() for row in rows if row.custom is not None)
    return hashlib.sha512(text.encode()).hexdigest().upper()
