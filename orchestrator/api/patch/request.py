"""A PATCH body of the three client-side types, from bytes to the object that is to be admitted and stored.

The order is kube-apiserver's: parse the patch, patch the JSON of the current object, decode the result as its kind.
Errors: BadRequest for a body that is no patch, RequestEntityTooLarge for too many operations, Invalid (422) for a patch
that cannot be carried out or whose result does not decode, InternalError for contradicting strategic directives.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import orjson

from orchestrator.api import decoding, nesting, schema
from orchestrator.api.meta import Object
from orchestrator.api.patch import json_patch, merge_patch, strategic, unstructured
from orchestrator.api.resources import Resource
from orchestrator.api.status import BadRequest, Cause, Invalid, RequestEntityTooLarge, UnsupportedMediaType, invalid

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
NOT_OF_CUSTOM = (
    "the body of the request was in an unknown format - accepted media types include: "
    f"{JSON_PATCH}, {MERGE_PATCH}, {APPLY_PATCH}"
)
_OPERATION = schema.Type(schema.STRUCT, "handlers.jsonPatchOp")
_OPERATION.set_fields(
    {name: schema.Field(name, schema.ANY_TYPE, name, False, (), "") for name in ("op", "path", "from", "value")}
)
_OPERATIONS = schema.Type(schema.LIST, "[]handlers.jsonPatchOp", item=_OPERATION)
MEDIA_TYPES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH)


def patched(
    current: Object, body: bytes, media_type: str, resource: Resource, field_validation: str = "Warn"
) -> tuple[Object, list[str]]:
    """(the decoded result, warnings). `current` is not changed. Defaults, admission and validation come after."""
    kind = schema.type_of(resource)
    if media_type == STRATEGIC_PATCH and kind is not None and not resource.is_custom:
        patch = _parse(body, dict, "map[string]interface {}")
        result = strategic.merge(current, patch, kind)
        try:
            unstructured.restore(result, kind)
        except unstructured.NotRestorable as error:
            raise _invalid(strategic.left_of(current, patch, kind), str(error)) from error
        result |= {name: current[name] for name in ("apiVersion", "kind") if name in current}  # a Go type is what it is
        left = partial(strategic.left_of, current, patch, kind)
        return result, _decode(result, resource, field_validation, left, _repeats(body))
    if media_type == MERGE_PATCH:
        result = merge_patch.merge(current, _parse(body, dict, "map[string]interface {}"))
    elif media_type == JSON_PATCH:
        result = _json_patched(current, _parse(body, list, "[]handlers.jsonPatchOp"))
    else:
        raise UnsupportedMediaType("415: Unsupported Media Type")
    # Parts of `current` are shared by the result; decoding changes in place, so it works on a copy.
    text = orjson.dumps(result)
    result = orjson.loads(text)
    if why := _why_unreadable(result, resource):
        raise _invalid(text.decode(), why)
    strict = _strict_operations(body) if media_type == JSON_PATCH else _repeats(body)
    if not resource.is_custom and not result.get("apiVersion"):
        return _without_version(result, strict, text.decode(), field_validation)
    return result, _decode(result, resource, field_validation, text.decode, strict)


def _without_version(result: Object, strict: list[str], shown: str, field_validation: str) -> tuple[Object, list[str]]:
    """An object that says no version is read as kube-apiserver has it inside, where no field is called as in any."""
    known = {name: result[name] for name in ("apiVersion", "kind") if result.get(name)}
    faults = [*strict, *(f'unknown field "{name}"' for name in result if name not in ("apiVersion", "kind"))]
    if field_validation == "Ignore":
        return known, []
    if faults and field_validation == "Strict":
        raise _invalid(shown, f"strict decoding error: {', '.join(faults)}")
    return known, faults


def _why_unreadable(result: Object, resource: Resource) -> str:
    """A patch may not make an object one that cannot be read back."""
    for name in ("apiVersion", "kind"):
        if result.get(name) is not None and not isinstance(result[name], str):
            found = {bool: "bool", list: "array", dict: "object"}.get(type(result[name]), "number")
            where = f"Go struct field .{name} of type string"
            return f"couldn't get version/kind; json parse error: json: cannot unmarshal {found} into {where}"
    version, kind = result.get("apiVersion") or resource.api_version, result.get("kind") or resource.kind
    group, _, bare = version.rpartition("/")
    if resource.is_custom:
        return ""
    is_this = (group, kind) == (resource.group, resource.kind)
    if is_this and schema.type_of_kind(group, bare, kind) is not None:
        return ""
    return decoding.unconvertible(version, kind, resource)


def _repeats(body: bytes) -> list[str]:
    return decoding.strict_errors(body, schema.ANY_TYPE) if decoding.may_repeat(body) else []


def _strict_operations(body: bytes) -> list[str]:
    """What is wrong with operations that can be carried out nevertheless: fields twice, and fields that none has."""
    known = _OPERATION.fields.keys()
    if not decoding.may_repeat(body) and all(operation.keys() <= known for operation in orjson.loads(body)):
        return []
    return [f"json patch {fault}" for fault in decoding.strict_errors(body, _OPERATIONS)]


def _parse(body: bytes, wanted: type[Any], go_type: str) -> Any:
    try:
        patch = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"error decoding patch: {error}") from error
    if nesting.may_be_too_deep(body) and nesting.is_too_deep(patch):
        raise BadRequest("error decoding patch: exceeded max depth")
    if not isinstance(patch, wanted):
        shown = {str: "string", bool: "bool", list: "array", dict: "object"}.get(type(patch), "number")
        raise BadRequest(f"error decoding patch: json: cannot unmarshal {shown} into Go value of type {go_type}")
    return patch


def _json_patched(current: Object, operations: list[Any]) -> Any:
    limit = json_patch.OPERATIONS_MAX
    if len(operations) > limit:
        raise RequestEntityTooLarge(f"The allowed maximum operations in a JSON patch is {limit}, got {len(operations)}")
    try:
        result = json_patch.apply(current, operations)
    except json_patch.JsonPatchError as error:
        raise Invalid("the server rejected our request due to an error in our request") from error
    if not isinstance(result, dict) or nesting.is_too_deep(result):
        raise Invalid("the server rejected our request due to an error in our request")
    return result


def _decode(
    result: Object, resource: Resource, field_validation: str, shown: Callable[[], str], strict: list[str]
) -> list[str]:
    """`strict` is what strictness has against the patch itself."""
    kind = schema.type_of(resource)
    if kind is None:
        return []
    try:
        unknown = decoding.decode_as(result, resource)
    except decoding.DecodeError as error:
        raise _invalid(shown(), str(error)) from error
    faults = [*strict, *(f'unknown field "{path}"' for path in unknown)] if field_validation != "Ignore" else []
    if faults and field_validation == "Strict":
        raise _invalid(shown(), f"strict decoding error: {', '.join(faults)}")
    return faults


def _invalid(shown: str, why: str) -> Invalid:
    """kube-apiserver names neither kind nor object here, and shows the whole patched document (or strategic patch)."""
    return invalid(
        "",
        "",
        "",
        [Cause("patch", "FieldValueInvalid", f"Invalid value: {json.dumps(shown, ensure_ascii=False)}: {why}")],
    )
