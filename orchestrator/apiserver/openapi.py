"""OpenAPI: the published schemas and the paths of what is served, for `kubectl explain`, apply and client generators.

`/openapi/v3` lists a document a group version, each with a hash in its URL, so that clients may keep it for ever; a
document is built when it is first asked for, and the last few are kept. `/openapi/v2` is all of it in the older format.
Paths carry the verbs, the query parameters and the kinds, which is what clients look for in them; answers are described
by their schema only. Source: Kubernetes docs, "OpenAPI"; KEP-2896.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import orjson

from orchestrator.api import schema
from orchestrator.api.resources import Resource, ResourceTable
from orchestrator.api.status import NotFound
from orchestrator.api.wire import Request, Response
from orchestrator.apiserver import openapi_custom
from orchestrator.apiserver.aggregation.aggregator import Aggregator
from orchestrator.apiserver.deletion import ANSWERS_OBJECT
from orchestrator.apiserver.encoding import JSON
from orchestrator.apiserver.negotiation import ranges
from orchestrator.apiserver.protobuf import openapi_v2
from orchestrator.apiserver.verbs import JSON_HEADERS, NOT_SERVED

DOCUMENTS_KEPT = 4
_KEPT_FOR_EVER = "public, immutable, max-age=31536000"
_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_REFERENCE = "#/$defs/"
_GVK = "x-kubernetes-group-version-kind"
_METHODS = {"get": "get", "list": "get", "create": "post", "update": "put", "patch": "patch", "delete": "delete"}
_ACTIONS = {"get": "get", "list": "list", "create": "post", "update": "put", "patch": "patch", "delete": "delete"}
_OK, _CREATED, _ACCEPTED = ("200", "OK"), ("201", "Created"), ("202", "Accepted")
_CODES = {
    "": (_OK,),
    "create": (_OK, _CREATED, _ACCEPTED),
    "update": (_OK, _CREATED),
    "patch": (_OK, _CREATED),
    "delete": (_OK, _ACCEPTED),
}
_PATCHES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
_SELECTION = (
    ("labelSelector", "string"), ("fieldSelector", "string"), ("limit", "integer"), ("continue", "string"),
    ("resourceVersion", "string"), ("resourceVersionMatch", "string"), ("watch", "boolean"),
    ("allowWatchBookmarks", "boolean"), ("sendInitialEvents", "boolean"), ("timeoutSeconds", "integer"),
)  # fmt: skip
_WRITING = (("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string"))
_DELETION = (("dryRun", "string"), ("gracePeriodSeconds", "integer"), ("propagationPolicy", "string"))
_PARAMETERS: dict[str, tuple[tuple[str, str], ...]] = {
    "list": _SELECTION,
    "create": _WRITING,
    "update": _WRITING,
    "patch": (*_WRITING, ("force", "boolean")),
    "delete": _DELETION,
    "deletecollection": (*_SELECTION, *_DELETION),
}


_PROTOBUF_V2 = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
# As clients ask for them, and as they are answered: the older name of the second is still the one that most ask for.
_ENCODINGS_V2 = {
    JSON: JSON,
    "application/com.github.proto-openapi.spec.v2@v1.0+protobuf": _PROTOBUF_V2,
    _PROTOBUF_V2: _PROTOBUF_V2,
}


class OpenApi:
    """Documents of groups that other servers serve are asked of them (`aggregator`), in v3."""

    def __init__(self, table: ResourceTable, aggregator: Aggregator | None = None) -> None:
        self._table = table
        self._aggregator = aggregator
        self._documents: OrderedDict[str, bytes] = OrderedDict()

    async def v3(self, request: Request) -> Response:
        """`/openapi/v3` and `/openapi/v3/{api/v1,apis/GROUP/VERSION}`."""
        wanted = request.path.removeprefix("/openapi/v3").strip("/")
        if not wanted:
            paths = {root.strip("/"): {"serverRelativeURL": self._url(root)} for root in self._roots()}
            for remote in self._aggregator.remotes() if self._aggregator is not None else ():
                if remote.is_available:
                    paths[remote.root.strip("/")] = {"serverRelativeURL": f"/openapi/v3{remote.root}"}
            return Response(200, dict(JSON_HEADERS), orjson.dumps({"paths": paths}))
        if self._aggregator is not None and (found := await self._aggregator.document(request.path)) is not None:
            return found
        if not any(named.covers(JSON) for named in ranges(request.headers.get("accept") or "*/*")):
            return Response(406, {"vary": "Accept"})
        root = f"/{wanted}"
        if root not in self._roots():
            raise NotFound(NOT_SERVED)
        etag = f'"{self._hash(root)}"'
        headers = {**JSON_HEADERS, "etag": etag}
        if request.param("hash"):
            headers["cache-control"] = _KEPT_FOR_EVER
        if request.headers.get("if-none-match") == etag:
            return Response(304, headers)
        return Response(200, headers, self._kept(f"{root}?{self._hash(root)}", lambda: document_v3(self._rows(root))))

    async def v2(self, request: Request) -> Response:
        """`/openapi/v2`: in JSON, or in protobuf, which some versions of kubectl ask for alone."""
        media_type = _encoding_v2(request.headers.get("accept") or "*/*")
        if media_type is None:
            return Response(406, {"vary": "Accept"})
        rows = list(self._table)
        etag = f'"{_digest(rows)}"'
        headers = {"content-type": media_type, "etag": etag, "vary": "Accept"}
        if request.headers.get("if-none-match") == etag:
            return Response(304, headers)
        write = orjson.dumps if media_type == JSON else openapi_v2.document
        return Response(200, headers, self._kept(f"{media_type}?{etag}", lambda: document_v2(rows), write))

    def _roots(self) -> list[str]:
        return sorted({row.root for row in self._table})

    def _rows(self, root: str) -> list[Resource]:
        return [row for row in self._table if row.root == root]

    def _hash(self, root: str) -> str:
        return _digest(self._rows(root))

    def _url(self, root: str) -> str:
        return f"/openapi/v3{root}?hash={self._hash(root)}"

    def _kept(self, key: str, build: Any, write: Callable[[Any], bytes] = orjson.dumps) -> bytes:
        found = self._documents.get(key)
        if found is None:
            found = write(build())
            self._documents[key] = found
            if len(self._documents) > DOCUMENTS_KEPT:
                self._documents.popitem(last=False)
        self._documents.move_to_end(key)
        return found


def _encoding_v2(accept: str) -> str | None:
    for wanted in ranges(accept):
        for asked, answered in _ENCODINGS_V2.items():
            if wanted.covers(asked):
                return answered
    return None


def _digest(rows: list[Resource]) -> str:
    text = "\n".join(repr(row) for row in rows) + schema.VERSION
    text += "".join(orjson.dumps(row.custom.version).decode() for row in rows if row.custom is not None)
    return hashlib.sha256(text.encode()).hexdigest().upper()[:32]


# -- documents ---------------------------------------------------------------------------------------------------------


def document_v3(rows: list[Resource]) -> dict[str, Any]:
    rows = _served(rows)
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": schema.VERSION},
        "paths": _paths(rows, version=3),
        "components": {"schemas": dict(_needed(rows, version=3))},
    }


def document_v2(rows: list[Resource]) -> dict[str, Any]:
    rows = _served(rows)
    return {
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": schema.VERSION},
        "paths": _paths(rows, version=2),
        "definitions": dict(_needed(rows, version=2)),
    }


def _served(rows: list[Resource]) -> list[Resource]:
    """Without the versions of custom kinds that things are only stored in."""
    return [row for row in rows if row.verbs or row.subresources]


def _place(version: int) -> str:
    return "#/components/schemas/" if version == 3 else "#/definitions/"


def _needed(rows: list[Resource], version: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """The definitions of these kinds and their lists, and all that they refer to."""
    known = schema.definitions()
    place = _place(version)
    for row in rows:
        if row.custom is not None:
            yield from openapi_custom.definitions(row, version, lambda name: f"{place}{name}")
    kinds = ("DeleteOptions", "Status", "Patch", *(("ObjectMeta", "ListMeta") if any(map(_is_custom, rows)) else ()))
    waiting = [f"{_META}{kind}" for kind in kinds]
    for row in rows:
        for kind in (row.kind, row.list_kind, *(sub.kind for sub in row.subresources if sub.kind)):
            waiting.append(schema.definition_name(row.group, row.version, kind))
        for sub in row.subresources:
            if sub.kind and sub.group_version:
                group, _, served = sub.group_version.rpartition("/")
                waiting.append(schema.definition_name(group, served, sub.kind))
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen or name not in known:
            continue
        seen.add(name)
        definition = known.read(name)
        waiting += _references(definition)
        yield name, _converted(definition, place)


def _is_custom(row: Resource) -> bool:
    return row.is_custom


def _name_of(group: str, version: str, kind: str, *, is_custom: bool) -> str:
    if is_custom:
        return openapi_custom.definition_name(group, version, kind)
    return schema.definition_name(group, version, kind)


def _references(value: Any) -> list[str]:
    found: list[str] = []
    if isinstance(value, dict):
        if isinstance(reference := value.get("$ref"), str):
            found.append(reference.removeprefix(_REFERENCE))
        for inner in value.values():
            found += _references(inner)
    elif isinstance(value, list):
        for inner in value:
            found += _references(inner)
    return found


def _converted(value: Any, place: str) -> Any:
    """A definition in terms of the document: no null types, references into `place`."""
    if isinstance(value, list):
        return [_converted(inner, place) for inner in value]
    if not isinstance(value, dict):
        return value
    found: dict[str, Any] = {}
    for key, inner in value.items():
        if key == "properties" and isinstance(inner, dict):
            # Names of fields, of which JSONSchemaProps has some that are keywords elsewhere: $ref, type, enum.
            found[key] = {name: _converted(field, place) for name, field in inner.items()}
        elif key == "type" and isinstance(inner, list):
            found["type"] = next(kind for kind in inner if kind != "null")
        elif key == "enum" and len(inner) == 1:
            continue  # apiVersion and kind of a strict validator, not of the API
        elif key == "$ref":
            reference = {"$ref": place + inner.removeprefix(_REFERENCE)}
            # Nothing may stand beside a reference in version 3.
            found.update({"allOf": [reference]} if len(value) > 1 and "components" in place else reference)
        else:
            found[key] = _converted(inner, place)
    if "oneOf" in found and "components" not in place:
        del found["oneOf"]  # version 2 has no choice: Quantity and IntOrString are text there
        found["type"] = "string"
    if found.get("oneOf") and any(kind.get("type") == "integer" for kind in found["oneOf"]):
        found["format"] = "int-or-string"
    return found


def _paths(rows: list[Resource], version: int) -> dict[str, Any]:
    paths: dict[str, Any] = {}
    for row in rows:
        scope = f"{row.root}/namespaces/{{namespace}}/{row.plural}" if row.namespaced else f"{row.root}/{row.plural}"
        collection = {_verb_method(verb): _operation(row, verb, version) for verb in row.verbs if verb in
                      ("list", "create", "deletecollection")}  # fmt: skip
        single = {
            _verb_method(verb): _operation(row, verb, version)
            for verb in row.verbs
            if verb in ("get", "update", "patch", "delete")
        }
        if row.namespaced and "list" in row.verbs:
            paths[f"{row.root}/{row.plural}"] = {"get": _operation(row, "list", version)}
        paths[scope] = {**collection, "parameters": _path_parameters(row, named=False, version=version)}
        if single:
            paths[f"{scope}/{{name}}"] = {**single, "parameters": _path_parameters(row, named=True, version=version)}
        for sub in row.subresources:
            operations: dict[str, Any] = {
                _verb_method(verb): _operation(row, verb, version, sub.kind, sub.group_version, sub.name)
                for verb in sub.verbs
            }
            operations["parameters"] = _path_parameters(row, named=True, version=version)
            paths[f"{scope}/{{name}}/{sub.name}"] = operations
    return paths


def _verb_method(verb: str) -> str:
    return _METHODS.get(verb, "delete")


def _path_parameters(row: Resource, *, named: bool, version: int) -> list[dict[str, Any]]:
    names = (["name"] if named else []) + (["namespace"] if row.namespaced else [])
    return [
        {"name": name, "in": "path", "required": True, "uniqueItems": True} | _typed("string", version)
        for name in names
    ]


def _typed(kind: str, version: int) -> dict[str, Any]:
    return {"schema": {"type": kind}} if version == 3 else {"type": kind}


def _operation(
    row: Resource, verb: str, version: int, kind: str = "", group_version: str = "", subresource: str = ""
) -> dict[str, Any]:
    group, _, served = (group_version or row.api_version).rpartition("/")
    kind = kind or row.kind
    shown = row.list_kind if verb == "list" else kind
    place = _place(version)
    is_custom = row.is_custom and not group_version
    name = _name_of(group, served, shown, is_custom=is_custom)
    body = {"$ref": place + (name if is_custom or name in schema.definitions() else f"{_META}Status")}
    keeps = verb == "delete" and not subresource and row.group_resource in ANSWERS_OBJECT
    is_gone = verb in ("delete", "deletecollection") and not keeps
    answered = {"$ref": f"{place}{_META}Status"} if is_gone else body
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "query", "uniqueItems": True} | _typed(kind_, version)
        for name, kind_ in _PARAMETERS.get(verb, ())
    ]
    scope = "Namespaced" if row.namespaced else ""
    operation: dict[str, Any] = {
        "operationId": f"{verb}{row.group.title().replace('.', '')}{row.version.title()}{scope}{row.kind}"
        f"{subresource.title()}",
        "tags": [f"{row.group or 'core'}_{row.version}"],
        "x-kubernetes-action": _ACTIONS.get(verb, verb),
        _GVK: {"group": group, "version": served, "kind": kind},
        "parameters": parameters,
    }
    sent = body if verb in ("create", "update") else {"$ref": f"{place}{_META}Patch"} if verb == "patch" else None
    patches = tuple(media for media in _PATCHES if not (row.is_custom and "strategic" in media))
    media_types = patches if verb == "patch" else ("application/json", "application/yaml")
    if version == 3:
        if sent:
            operation["requestBody"] = {"content": {media: {"schema": sent} for media in media_types}}
        content = {media: {"schema": answered} for media in ("application/json", "application/yaml")}
        operation["responses"] = _answers(verb, {"content": content})
        return operation
    if sent:
        parameters.append({"name": "body", "in": "body", "required": True, "schema": sent})
        operation["consumes"] = list(media_types)
    operation["produces"] = ["application/json", "application/yaml"]
    operation["responses"] = _answers(verb, {"schema": answered})
    return operation


def _answers(verb: str, what: dict[str, Any]) -> dict[str, Any]:
    """What is answered where all is well, by status code."""
    return {code: {"description": description, **what} for code, description in _CODES.get(verb, _CODES[""])}
