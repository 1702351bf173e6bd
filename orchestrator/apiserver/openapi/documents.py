"""Documents of the resource table: paths and definitions of its rows, in version 2 or 3 of the format.

Paths carry the verbs, the query parameters and the kinds, which is what clients look for in them; answers are described
by their schema only. Source: Kubernetes docs, "OpenAPI"; the published schemas.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from orchestrator.api import schema
from orchestrator.api.resources import Resource
from orchestrator.apiserver.deletion import ANSWERS_OBJECT
from orchestrator.apiserver.openapi import custom
from orchestrator.apiserver.openapi.roots import Root, group_version

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
_INFO = {"title": "Kubernetes", "version": schema.VERSION}
_SECURITY = {
    "BearerToken": {
        "type": "apiKey",
        "description": "Bearer Token authentication",
        "name": "authorization",
        "in": "header",
    }
}


def document_v3(rows: list[Resource], roots: Iterable[Root] = ()) -> dict[str, Any]:
    """Of one group version, or of one of `roots`."""
    rows = _served(rows)
    schemas = dict(_needed(rows, roots, version=3))
    return {
        "openapi": "3.0.0",
        "info": _INFO,
        "paths": {**_root_paths(roots, version=3), **_paths(rows, version=3)},
        "components": {**({"schemas": schemas} if schemas else {}), "securitySchemes": _SECURITY},
    }


def document_v2(rows: list[Resource], roots: Iterable[Root] = ()) -> dict[str, Any]:
    rows = _served(rows)
    return {
        "swagger": "2.0",
        "info": _INFO,
        "paths": {**_root_paths(roots, version=2), **_paths(rows, version=2)},
        "definitions": dict(_needed(rows, roots, version=2)),
        "securityDefinitions": _SECURITY,
        "security": [{name: [] for name in _SECURITY}],
    }


def _root_paths(roots: Iterable[Root], version: int) -> dict[str, Any]:
    return {f"{root.path}/": root.path_item(version) for root in roots}


def _served(rows: list[Resource]) -> list[Resource]:
    """Without the versions of custom kinds that things are only stored in."""
    return [row for row in rows if row.verbs or row.subresources]


def _place(version: int) -> str:
    return "#/components/schemas/" if version == 3 else "#/definitions/"


def _needed(rows: list[Resource], roots: Iterable[Root], version: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """The definitions of these kinds and their lists, and all that they refer to."""
    known = schema.definitions()
    place = _place(version)
    for row in rows:
        if row.custom is not None:
            yield from custom.definitions(row, version, lambda name: f"{place}{name}")
    kinds = ("DeleteOptions", "Status", "Patch", *(("ObjectMeta", "ListMeta") if any(map(_is_custom, rows)) else ()))
    waiting = [f"{_META}{kind}" for kind in kinds] if rows else []
    waiting += [f"{_META}APIResourceList"] if rows else []
    waiting += [root.shows for root in roots if root.shows]
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
        return custom.definition_name(group, version, kind)
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
    versions = {row.root: group_version(row.group, row.version) for row in rows}
    paths = _root_paths(versions.values(), version)
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
        paths[scope] = {**collection, **_shared_parameters(row, named=False, version=version)}
        if single:
            paths[f"{scope}/{{name}}"] = {**single, **_shared_parameters(row, named=True, version=version)}
        for sub in row.subresources:
            operations: dict[str, Any] = {
                _verb_method(verb): _operation(row, verb, version, sub.kind, sub.group_version, sub.name)
                for verb in sub.verbs
            }
            operations |= _shared_parameters(row, named=True, version=version)
            paths[f"{scope}/{{name}}/{sub.name}"] = operations
    return paths


def _verb_method(verb: str) -> str:
    return _METHODS.get(verb, "delete")


def _shared_parameters(row: Resource, *, named: bool, version: int) -> dict[str, Any]:
    """Those of a path, where it has any: a document says nothing that is empty, since Go's types would not keep it."""
    names = (["name"] if named else []) + (["namespace"] if row.namespaced else [])
    made = [
        {"name": name, "in": "path", "required": True, "uniqueItems": True} | _typed("string", version)
        for name in names
    ]
    return {"parameters": made} if made else {}


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
    }
    sent = body if verb in ("create", "update") else {"$ref": f"{place}{_META}Patch"} if verb == "patch" else None
    patches = tuple(media for media in _PATCHES if not (row.is_custom and "strategic" in media))
    media_types = patches if verb == "patch" else ("application/json", "application/yaml")
    if sent and version == 2:
        parameters.append({"name": "body", "in": "body", "required": True, "schema": sent})
    if parameters:
        operation["parameters"] = parameters
    if version == 3:
        if sent:
            operation["requestBody"] = {"content": {media: {"schema": sent} for media in media_types}}
        content = {media: {"schema": answered} for media in ("application/json", "application/yaml")}
        operation["responses"] = _answers(verb, {"content": content})
        return operation
    if sent:
        operation["consumes"] = list(media_types)
    operation["produces"] = ["application/json", "application/yaml"]
    operation["responses"] = _answers(verb, {"schema": answered})
    return operation


def _answers(verb: str, what: dict[str, Any]) -> dict[str, Any]:
    """What is answered where all is well, by status code."""
    return {code: {"description": description, **what} for code, description in _CODES.get(verb, _CODES[""])}
