"""Protobuf request bodies: what typed Go clients send (`kubectl create …` too), as the JSON that it stands for.

Such a body is the magic `k8s\\0` and a runtime.Unknown: a type, and the object's own message. `protobuf_fields.json`
holds, for each message by its OpenAPI name, number → [JSON name, kind]. A kind is s(tring), b(ool), i(nteger),
d(ouble), y (bytes) or a message; before it, `*` repeats it, `{` maps strings to it, and `~` inlines a message that JSON
does not show as one. Zero values that Go would leave out are pruned later, by the same decoding that JSON bodies pass.
Answers are never protobuf: these clients accept JSON too. Errors: BadRequest for bytes that do not parse.
Source: Kubernetes API concepts, "Kubernetes Protobuf encoding"; generated.proto of k8s.io/api and apimachinery, v1.36.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson

from orchestrator.api import meta, schema
from orchestrator.api.meta import Object
from orchestrator.api.status import BadRequest

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
MAGIC = b"k8s\x00"
_APIMACHINERY = "io.k8s.apimachinery.pkg."
_EXTENSIONS = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1."
_META = _APIMACHINERY + "apis.meta.v1."
_DEPTH_MAX = 100
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


class _Malformed(ValueError):
    pass


@lru_cache(maxsize=1)
def _messages() -> dict[str, dict[str, tuple[str, str]]]:
    """About 640 messages, read when the first such body comes."""
    found: dict[str, dict[str, tuple[str, str]]] = orjson.loads(
        (Path(__file__).parent / "protobuf_fields.json").read_bytes()
    )
    return found


def decode(body: bytes) -> Object:
    """The object that a protobuf body holds, with its apiVersion and kind."""
    try:
        if not body.startswith(MAGIC):
            raise _Malformed("the magic number is missing")
        envelope = _raw_envelope(body[len(MAGIC) :])
        name = _message_name(envelope["apiVersion"], envelope["kind"])
        found: Object = _message(envelope["raw"], name, 0)
    except (_Malformed, IndexError, KeyError, UnicodeDecodeError, struct.error) as error:
        raise BadRequest(f"the body of the request could not be decoded as protobuf: {error}") from error
    return {"kind": envelope["kind"], "apiVersion": envelope["apiVersion"], **found}


def _raw_envelope(data: bytes) -> dict[str, Any]:
    envelope: dict[str, Any] = {"apiVersion": "", "kind": "", "raw": b""}
    for number, value in _fields(data):
        if number == 1 and isinstance(value, bytes):
            types = {number: text for number, text in _fields(value) if isinstance(text, bytes)}
            envelope["apiVersion"], envelope["kind"] = types.get(1, b"").decode(), types.get(2, b"").decode()
        elif number == 2:
            envelope["raw"] = value
    return envelope


def _message_name(api_version: str, kind: str) -> str:
    group, _, version = api_version.rpartition("/")
    if kind in ("DeleteOptions", "CreateOptions", "UpdateOptions", "PatchOptions"):
        return _META + kind
    name = schema.definition_name(group, version, kind)
    if name not in _messages():
        raise _Malformed(f'no kind "{kind}" is registered for version "{api_version}"')
    return name


def _fields(data: bytes) -> list[tuple[int, int | bytes]]:
    """(field number, value) in order: integers as they are on the wire, all else as bytes."""
    found: list[tuple[int, int | bytes]] = []
    position, end = 0, len(data)
    while position < end:
        tag, position = _varint(data, position)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == _VARINT:
            value, position = _varint(data, position)
            found.append((number, value))
            continue
        if wire_type == _LENGTH:
            size, position = _varint(data, position)
        elif wire_type in (_FIXED64, _FIXED32):
            size = 8 if wire_type == _FIXED64 else 4
        else:
            raise _Malformed(f"wire type {wire_type}")
        if position + size > end:
            raise _Malformed("unexpected EOF")
        found.append((number, data[position : position + size]))
        position += size
    return found


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise _Malformed("integer overflow")


def _message(data: bytes, name: str, depth: int) -> Any:
    if depth > _DEPTH_MAX:
        raise _Malformed("nested too deeply")
    special = _SPECIAL.get(name)
    if special is not None:
        return special(data)
    types = _messages()[name]
    found: dict[str, Any] = {}
    for number, raw in _fields(data):
        known = types.get(str(number))
        if known is None:
            continue  # a field of a newer client
        field, kind = known
        if kind[0] == "~":
            found.update(_message(_bytes(raw), kind[1:], depth + 1))
        elif kind[0] == "*":
            found.setdefault(field, []).append(_value(raw, kind[1:], depth))
        elif kind[0] == "{":
            pair = dict(_fields(_bytes(raw)))
            key = _bytes(pair.get(1, b"")).decode()
            found.setdefault(field, {})[key] = _value(pair.get(2, _zero(kind[1:])), kind[1:], depth)
        else:
            value = _value(raw, kind, depth)
            if value is not None:
                found[field] = value
    if name.endswith(".ExtraValue"):
        return found.get("items", [])
    return _ONE_OF[name](found) if name in _ONE_OF else found


def _bytes(raw: int | bytes) -> bytes:
    if isinstance(raw, int):
        raise _Malformed("a number where bytes belong")
    return raw


def _zero(kind: str) -> int | bytes:
    return 0 if kind in ("b", "i") else b""


def _value(raw: int | bytes, kind: str, depth: int) -> Any:
    if kind == "s":
        return _bytes(raw).decode()
    if kind == "i":
        number = int.from_bytes(raw, "little") if isinstance(raw, bytes) else raw
        return number - (1 << 64) if number >= 1 << 63 else number
    if kind == "b":
        return bool(raw)
    if kind == "d":
        real = float(struct.unpack("<d", _bytes(raw))[0])
        return int(real) if real.is_integer() else real  # as Go writes it
    if kind == "y":
        return base64.b64encode(_bytes(raw)).decode()
    return _message(_bytes(raw), kind, depth + 1)


# -- messages that JSON writes in another way --------------------------------------------------------------------------


def _numbers(data: bytes) -> dict[int, Any]:
    return {number: _value(raw, "i", 0) if isinstance(raw, int) else raw for number, raw in _fields(data)}


def _time(data: bytes) -> str | None:
    found = _numbers(data)
    return meta.format_time(found[1]) if found.get(1) else None  # an empty message is the zero time: null


def _micro_time(data: bytes) -> str | None:
    found = _numbers(data)
    return meta.format_micro_time(found[1] + found.get(2, 0) / 1e9) if found.get(1) else None


def _quantity(data: bytes) -> str:
    return bytes(_numbers(data).get(1, b"0")).decode()


def _int_or_string(data: bytes) -> int | str:
    found = _numbers(data)
    return bytes(found.get(3, b"")).decode() if found.get(1) else int(found.get(2, 0))


def _json(data: bytes) -> Any:
    raw = bytes(_numbers(data).get(1, b""))
    try:
        return orjson.loads(raw) if raw else None
    except orjson.JSONDecodeError as error:
        raise _Malformed(f"embedded JSON: {error}") from error


# -- messages that stand for one of their fields -----------------------------------------------------------------------

_ONE_OF: dict[str, Callable[[dict[str, Any]], Any]] = {
    _EXTENSIONS + "JSONSchemaPropsOrArray": lambda found: found.get("jSONSchemas") or found.get("schema", []),
    _EXTENSIONS + "JSONSchemaPropsOrBool": lambda found: found.get("schema", found.get("allows", False)),
    _EXTENSIONS + "JSONSchemaPropsOrStringArray": lambda found: found.get("schema", found.get("property", [])),
}
_SPECIAL = {
    _EXTENSIONS + "JSON": _json,
    _META + "Time": _time,
    _META + "MicroTime": _micro_time,
    _META + "FieldsV1": _json,
    _APIMACHINERY + "api.resource.Quantity": _quantity,
    _APIMACHINERY + "util.intstr.IntOrString": _int_or_string,
    _APIMACHINERY + "runtime.RawExtension": _json,
}
