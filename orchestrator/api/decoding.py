"""Decoding: the one pass that turns a client's JSON into an object that the server can keep.

`decode` checks, prunes and completes in place: unknown fields and nulls go; quantities, times and empty optional values
become what Kubernetes would write back; structs that Go cannot leave out (`resources: {}`, `status: {}`) are added.
A value of the wrong type raises DecodeError in kube-apiserver's words (`json: cannot unmarshal string into Go struct
field DeploymentSpec.spec.replicas of type int32`): people search for them, scripts match them. `check` adds field
validation: unknown and duplicate fields are errors (Strict), warnings (Warn) or nothing (Ignore).
Expected cost: 40 µs for a Pod of 1.3 KB. Source: API conventions; KEP-2885 (server-side field validation).
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import orjson

from orchestrator.api import go_time, quantity, schema
from orchestrator.api.meta import Object, format_micro_time, format_time, parse_time
from orchestrator.api.resources import Resource
from orchestrator.api.schema import (
    ANY,
    ANY_TYPE,
    BOOL,
    BYTES,
    INT_OR_STRING,
    INTEGER,
    LIST,
    MAP,
    MICRO_TIME,
    NUMBER,
    QUANTITY,
    STRING,
    STRUCT,
    TIME,
    Field,
    Type,
    type_of,
)
from orchestrator.api.status import BadRequest

_STRICT_ERRORS_MAX = 100
TIME_MAX = 40  # characters of any time that is one
TIMES_KEPT = 1024
_SECONDS = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
_MICROS = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")


class DecodeError(ValueError):
    """JSON that does not fit its type; the text is kube-apiserver's."""


# -- the one pass ------------------------------------------------------------------------------------------------------


class _Found:
    """What the pass came upon: `unknown` fields, and the first value of a wrong type. Like Go's decoder it goes on
    after such a value, and tells of it only where no value that reads itself (a time, a quantity) stops it before."""

    __slots__ = ("mismatch", "unknown")

    def __init__(self) -> None:
        self.unknown: list[str] = []
        self.mismatch: DecodeError | None = None

    def told(self) -> list[str]:
        if self.mismatch is not None:
            raise self.mismatch
        return self.unknown


# Where the pass stands: (the trail of the parent, Field | list index | map key).
Trail = tuple[Any, Any] | None


def decode(obj: Object, kind: Type) -> list[str]:
    """Checks, prunes and canonicalizes `obj` in place; returns the unknown fields (`spec.foo`) in document order."""
    found = _Found()
    _struct(obj, kind, None, found)
    return found.told()


def _struct(obj: Object, kind: Type, trail: Trail, found: _Found) -> None:
    fields, zero = kind.fields, kind.zero
    drop: list[str] | None = None
    for key, value in obj.items():
        field = fields.get(key)
        if field is None:
            found.unknown.append(_json_path((trail, key)))
        elif value is None:
            pass
        elif type(value) is field.type.plain:
            if value or key not in zero:
                continue
        else:
            new = _decode(value, field.type, (trail, field), kind, found)
            if new is not value:
                obj[key] = new
            if new or field.is_null or not (field.type.kind in (LIST, MAP) or key in zero):
                continue
            if key == "managedFields":  # an empty list asks for the record to be cleared
                continue
        drop = drop or []
        drop.append(key)
    for key in drop or ():
        del obj[key]
    for key in kind.always:
        if key not in obj:
            obj[key] = blank(fields[key].type)


def blank(kind: Type) -> Any:
    """What Kubernetes writes for a field that was never set: `{}` with its own such fields, "", 0 or false."""
    if kind.kind == STRUCT:
        return {name: blank(kind.fields[name].type) for name in kind.always}
    return {BOOL: False, STRING: "", QUANTITY: "0"}.get(kind.kind, 0)


def _decode(value: Any, kind: Type, trail: Trail, owner: Type, found: _Found) -> Any:
    """`value` as `kind` keeps it; containers are changed in place. `owner` is the struct whose field this is."""
    if kind.kind == STRUCT:
        if type(value) is not dict:
            return _mismatched(value, kind, trail, owner, found)
        _struct(value, kind, trail, found)
    elif kind.kind == LIST:
        if type(value) is not list:
            return _mismatched(value, kind, trail, owner, found)
        _items(value, enumerate(value), kind.item or ANY_TYPE, trail, owner, found)
    elif kind.kind == MAP:
        if type(value) is not dict:
            return _mismatched(value, kind, trail, owner, found)
        _items(value, value.items(), kind.item or ANY_TYPE, trail, owner, found)
    elif kind.kind != ANY:
        return _decode_scalar(value, kind, trail, owner, found)
    elif kind.nested is not None:
        for item in value if type(value) is list else (value,):
            if type(item) is dict:
                inner = _Found()  # what it does not know goes without a word
                _struct(item, kind.nested, trail, inner)
                inner.told()
    return value


def _items(held: Any, entries: Any, item: Type, trail: Trail, owner: Type, found: _Found) -> None:
    plain = item.plain
    for key, value in entries:
        if type(value) is plain:
            continue
        new = _zero_value(item) if value is None else _decode(value, item, (trail, key), owner, found)
        if new is not value:
            held[key] = new


def _zero_value(kind: Type) -> Any:
    """What Go makes of a null item."""
    made: dict[str, Any] = {STRUCT: {}, LIST: [], MAP: {}, STRING: "", BYTES: "", BOOL: False, QUANTITY: "0"}
    return made.get(kind.kind, 0 if kind.kind in (INTEGER, NUMBER, INT_OR_STRING) else None)


def _decode_scalar(value: Any, kind: Type, trail: Trail, owner: Type, found: _Found) -> Any:
    match kind.kind:
        case "int":
            limit = 2**31 if kind.name == "int32" else 2**63
            if type(value) is int and -limit <= value < limit:
                return value
        case "number":
            if type(value) in (int, float):
                return value
        case "string" | "bool":
            if type(value) is kind.plain:
                return value
        case "quantity":
            return _quantity(value)
        case "int-or-string":
            if type(value) is str or (type(value) is int and -(2**31) <= value < 2**31):
                return value
        case "time" | "micro-time":
            if type(value) is str:
                return _time(value, kind.kind)
        case "bytes":
            if type(value) is str:
                try:
                    return _bytes(value)
                except DecodeError as error:
                    found.mismatch = found.mismatch or error
                    return value
    if kind.kind in (INT_OR_STRING, TIME, MICRO_TIME):  # they read themselves
        raise _mismatch(value, kind, trail, owner)
    return _mismatched(value, kind, trail, owner, found)


def _mismatched(value: Any, kind: Type, trail: Trail, owner: Type, found: _Found) -> Any:
    found.mismatch = found.mismatch or _mismatch(value, kind, trail, owner)
    return value


def _quantity(value: Any) -> str:
    if type(value) not in (str, int, float):
        raise DecodeError(quantity.RULE)
    try:
        return quantity.canonical(value)
    except quantity.QuantityError as error:
        raise DecodeError(str(error)) from error


def _time(value: str, kind: str) -> str:
    layout = go_time.TIME if kind == TIME else go_time.MICRO_TIME
    if why := (_fault(value, layout) if len(value) <= TIME_MAX else go_time.fault(value, layout)):
        raise DecodeError(why)
    if (_SECONDS if kind == TIME else _MICROS).match(value):
        return value
    try:
        seconds = parse_time(value)
    except ValueError as error:  # years that a Python time has not
        raise DecodeError(f'parsing time "{value}": out of range') from error
    return format_time(seconds) if kind == TIME else format_micro_time(seconds)


_fault = lru_cache(maxsize=TIMES_KEPT)(go_time.fault)  # an object says the same moment many times, and with each write


def _bytes(value: str) -> str:
    text = value.replace("\n", "").replace("\r", "")
    try:
        base64.b64decode(text, validate=True)
    except ValueError as error:
        raise DecodeError(f"illegal base64 data at input byte {bad_base64_at(text)}") from error
    return text


def bad_base64_at(text: str) -> int:
    """Where Go's decoder gives up: at what is no digit, or where a group of four begins that is not whole."""
    bad = re.search(r"[^A-Za-z0-9+/]", text)
    if bad is None:
        return len(text) // 4 * 4
    at = bad.start()
    if text[at] != "=" or at % 4 < 2:
        return at
    end = at + 2 - at % 4 // 3  # one or two signs fill a group
    if len(text) < end:
        return len(text)
    return at if text[at:end].strip("=") else end


def json_kind(value: Any, kind: Type) -> str:
    """What Go's decoder says it found where it wanted `kind`."""
    shown = {str: "string", bool: "bool", list: "array", dict: "object"}.get(type(value), "number")
    if shown == "number" and kind.kind in (INTEGER, INT_OR_STRING):
        return f"number {orjson.dumps(value).decode()}"
    return shown


def _mismatch(value: Any, kind: Type, trail: Trail, owner: Type) -> DecodeError:
    shown = json_kind(value, kind)
    path = [step.go_path for step in _steps(trail) if isinstance(step, Field)]
    struct = owner.name.rpartition(".")[2]
    return DecodeError(
        f"json: cannot unmarshal {shown} into Go struct field {'.'.join([struct, *path])} of type {kind.name}"
    )


def _steps(trail: Trail) -> list[Any]:
    steps = []
    while trail is not None:
        trail, step = trail
        steps.append(step)
    return steps[::-1]


def _json_path(trail: Trail) -> str:
    path = ""
    for step in _steps(trail):
        if isinstance(step, int):
            path += f"[{step}]"
        else:
            path += f".{step.name if isinstance(step, Field) else step}"
    return path.removeprefix(".")


# -- field validation --------------------------------------------------------------------------------------------------


def check(
    obj: Object,
    resource: Resource,
    field_validation: str = "Warn",
    body: bytes | None = None,
    repeats: Sequence[str] = (),
) -> list[str]:
    """Decodes `obj` in place as `resource`'s kind and returns warnings (texts for `Warning` headers).

    `field_validation` is Ignore, Warn or Strict. `body`, the JSON that `obj` was parsed from, is needed to see
    duplicate fields; `repeats` tells of those that the YAML before it had.
    Raises BadRequest for a wrong type, and with Strict for unknown and duplicate fields.
    """
    kind = type_of(resource) if resource.custom is None else ANY_TYPE
    if kind is None:
        return []
    is_repeated = body is not None and field_validation != "Ignore" and may_repeat(body)
    try:
        unknown = decode_as(obj, resource)
    except DecodeError as error:
        raise _cannot_handle(resource, str(error)) from error
    if field_validation == "Ignore":
        return []
    faults = strict_errors(body, kind) if body and is_repeated else []
    if resource.custom is not None or not faults:  # those of a built-in kind have the unknown fields among them
        faults += _unique(f'unknown field "{path}"' for path in unknown)
    if field_validation == "Strict" and (faults or repeats):
        told = [yaml_error(repeats), *faults] if repeats else faults
        raise _cannot_handle(resource, f"strict decoding error: {', '.join(told)}")
    return [*repeats, *faults]


def yaml_error(repeats: Iterable[str]) -> str:
    """What is told of keys that a YAML mapping has twice, each as `line 9: key "foo" already set in map`."""
    return "\n  ".join(["yaml: unmarshal errors:", *repeats])


# kube-apiserver names the place in its code, and people search for the whole line.
SCHEME = "pkg/runtime/scheme.go:111"


def unregistered(api_version: str, kind: str) -> str:
    """Why a body of an unknown kind cannot be read."""
    shown = f"no kind {json.dumps(kind, ensure_ascii=False)} is registered for version"
    return f'{shown} {json.dumps(api_version, ensure_ascii=False)} in scheme "{SCHEME}"'


def unconvertible(api_version: str, kind: str, resource: Resource) -> str:
    """Why a body of another kind is not this one: it is nothing that is known, or cannot become this."""
    group, _, version = api_version.rpartition("/")
    if schema.type_of_kind(group, version, kind) is None:
        return unregistered(api_version, kind)
    package = resource.group.partition(".")[0] or "core"
    return f"converting ({version}.{kind}) to ({package}.{resource.kind}): unknown conversion"


def decode_as(obj: Object, resource: Resource) -> list[str]:
    """`decode` for the kind of a resource, built in or custom."""
    if resource.custom is not None:
        return resource.custom.decode(obj)
    kind = type_of(resource)
    return decode(obj, kind) if kind is not None else []


def _cannot_handle(resource: Resource, why: str) -> BadRequest:
    kind = resource.kind
    return BadRequest(f'{kind} in version "{resource.version}" cannot be handled as a {kind}: {why}')


def _unique(faults: Iterator[str]) -> list[str]:
    return list(dict.fromkeys(faults))[:_STRICT_ERRORS_MAX]


def may_repeat(body: bytes) -> bool:
    """Whether a key may occur twice: there are more `":` in the text than in what it parses to, written anew. Text
    with blanks before colons is looked at closely for nothing."""
    return _colons(body) != _colons(orjson.dumps(orjson.loads(body)))


def _colons(text: bytes) -> int:
    """Of keys: in a string a quote is escaped."""
    return text.count(b'":') - text.count(b'\\":')


class _Pairs(list[tuple[str, Any]]):
    """An object as its pairs, repeats and order kept."""


def strict_errors(body: bytes, kind: Type) -> list[str]:
    """`unknown field "…"` and `duplicate field "…"` in document order, each once. Slow (Python's own parser)."""
    tree = json.loads(body, object_pairs_hook=_Pairs)
    return _unique(_strict(tree, kind, None))


def _strict(value: Any, kind: Type, trail: Trail) -> Iterator[str]:
    if isinstance(value, _Pairs) and kind.kind in (STRUCT, MAP, ANY):
        seen: set[str] = set()
        for key, item in value:
            inner = kind.item or ANY_TYPE
            if kind.kind == STRUCT:
                if key not in kind.fields:
                    yield f'unknown field "{_json_path((trail, key))}"'
                    continue
                inner = kind.fields[key].type
            if key in seen:
                yield f'duplicate field "{_json_path((trail, key))}"'
            seen.add(key)
            yield from _strict(item, inner, (trail, key))
    elif isinstance(value, list) and kind.kind in (LIST, ANY):
        for index, item in enumerate(value):
            yield from _strict(item, kind.item or ANY_TYPE, (trail, index))
