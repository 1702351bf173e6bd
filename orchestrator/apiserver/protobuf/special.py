"""Messages that JSON writes in another way: each a pair of functions, message ↔ JSON value.

`SPECIAL` holds those whose message has nothing of the JSON value's shape; their functions work on the message's bytes.
`WRAPPED` holds those that stand for one of their fields (a list, or one of two); theirs work on the fields by name.
Source: apimachinery meta/v1 Time, MicroTime, FieldsV1, api/resource Quantity, util/intstr, runtime RawExtension;
apiextensions/v1 JSON, JSONSchemaPropsOr….
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson

from orchestrator.api import meta
from orchestrator.apiserver.protobuf.table import APIMACHINERY, EXTENSIONS, META
from orchestrator.apiserver.protobuf.wire import Malformed, delimited, fields, signed, text_or_bytes, varint

_INT, _STRING = 0, 1  # the types of IntOrString


def _numbers(data: bytes) -> dict[int, int]:
    return {number: signed(raw) for number, raw in fields(data) if isinstance(raw, int)}


def _bytes(data: bytes, wanted: int = 1) -> bytes:
    return {number: text_or_bytes(raw) for number, raw in fields(data) if number == wanted}.get(wanted, b"")


def _time(data: bytes) -> str | None:
    seconds = _numbers(data).get(1)
    return meta.format_time(seconds) if seconds is not None else None  # an empty message is the zero time: null


def _micro_time(data: bytes) -> str | None:
    found = _numbers(data)
    if not found:
        return None
    return meta.micro_time(datetime.fromtimestamp(found.get(1, 0), UTC).replace(microsecond=found.get(2, 0) // 1000))


def _of_time(text: str) -> bytes:
    return b"\x08%b\x10\x00" % varint(int(meta.parse_time(text) // 1))


def _of_micro_time(text: str) -> bytes:
    moment = datetime.fromisoformat(text)
    seconds = int(moment.replace(microsecond=0).timestamp())
    return b"\x08%b\x10%b" % (varint(seconds), varint(moment.microsecond * 1000))


def _quantity(data: bytes) -> str:
    return _bytes(data).decode() or "0"


def _of_quantity(value: str | float) -> bytes:
    return delimited(b"\x0a", str(value).encode())


def _int_or_string(data: bytes) -> int | str:
    found = _numbers(data)
    if found.get(1, _INT) == _INT:
        return found.get(2, 0)
    return _bytes(data, 3).decode()


def _of_int_or_string(value: int | str) -> bytes:
    if isinstance(value, str):
        return b"\x08\x01\x10\x00" + delimited(b"\x1a", value.encode())
    return b"\x08\x00\x10%b\x1a\x00" % varint(value)


def _json(data: bytes) -> Any:
    raw = _bytes(data)
    try:
        return orjson.loads(raw) if raw else None
    except orjson.JSONDecodeError as error:
        raise Malformed(f"embedded JSON: {error}") from error


def _of_json(value: Any) -> bytes:
    return delimited(b"\x0a", orjson.dumps(value))


Special = tuple[Callable[[bytes], Any], Callable[[Any], bytes]]
SPECIAL: dict[str, Special] = {
    META + "Time": (_time, _of_time),
    META + "MicroTime": (_micro_time, _of_micro_time),
    META + "FieldsV1": (_json, _of_json),
    APIMACHINERY + "api.resource.Quantity": (_quantity, _of_quantity),
    APIMACHINERY + "util.intstr.IntOrString": (_int_or_string, _of_int_or_string),
    APIMACHINERY + "runtime.RawExtension": (_json, _of_json),
    EXTENSIONS + "JSON": (_json, _of_json),
}

# -- messages that stand for one of their fields -----------------------------------------------------------------------

Wrapped = tuple[Callable[[dict[str, Any]], Any], Callable[[Any], dict[str, Any]]]
_LIST: Wrapped = (lambda found: found.get("items", []), lambda value: {"items": value})
_WRAPPED: dict[str, Wrapped] = {
    EXTENSIONS + "JSONSchemaPropsOrArray": (
        lambda found: found.get("schemas") or found.get("schema", []),
        lambda value: {"schemas" if isinstance(value, list) else "schema": value},
    ),
    EXTENSIONS + "JSONSchemaPropsOrBool": (
        lambda found: found.get("schema", found.get("allows", False)),
        lambda value: {"allows": value} if isinstance(value, bool) else {"allows": True, "schema": value},
    ),
    EXTENSIONS + "JSONSchemaPropsOrStringArray": (
        lambda found: found.get("schema", found.get("property", [])),
        lambda value: {"property" if isinstance(value, list) else "schema": value},
    ),
}


def wrapped(name: str) -> Wrapped | None:
    """Of `name`; named lists (ExtraValue, Verbs) are messages with one field, `items`."""
    return _LIST if name.endswith((".ExtraValue", ".Verbs")) else _WRAPPED.get(name)
