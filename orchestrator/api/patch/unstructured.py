"""From plain data to the types of a kind, as kube-apiserver converts a strategically patched or applied object.

Unlike the decoding of a body, which names the field of a wrong type, this conversion is Go's between kinds of values:
an integer too large for its field is cut to the field's width, a float without fraction is an integer, and what cannot
be converted is said without its place. Values with a form of their own (times, quantities) are left to the decoding.
Source: apimachinery, DefaultUnstructuredConverter.
"""

from __future__ import annotations

from base64 import b64decode
from typing import Any

from orchestrator.api import decoding
from orchestrator.api.decoding import bad_base64_at
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
    STRING,
    STRUCT,
    TIME,
    Type,
)


class NotRestorable(ValueError):
    """A value that is no value of its field's type."""


def restore(value: Any, kind: Type) -> Any:
    """The value as `kind` holds it; containers are changed in place, what is right already is left at a glance."""
    held = kind.kind
    if value is None or held == ANY:
        return value
    if held == STRUCT:
        if not isinstance(value, dict):
            raise NotRestorable(f"cannot restore struct from: {go_kind(value)}")
        fields = kind.fields
        for key, item in value.items():
            field = fields.get(key)
            if field is not None and type(item) is not field.type.plain:
                value[key] = restore(item, field.type)
    elif held == LIST:
        if not isinstance(value, list):
            raise NotRestorable(f"cannot restore slice from {go_kind(value)}")
        value[:] = _restored(value, kind.item or ANY_TYPE)
    elif held == MAP:
        if not isinstance(value, dict):
            raise NotRestorable(f"cannot restore map from {go_kind(value)}")
        for key, item in zip(value, _restored([*value.values()], kind.item or ANY_TYPE), strict=True):
            value[key] = item
    elif held in (STRING, BOOL, INTEGER, NUMBER):
        return _scalar(value, kind)
    else:
        _check_special(value, kind)
    return value


def _restored(items: list[Any], kind: Type) -> list[Any]:
    plain = kind.plain
    return [item if type(item) is plain else restore(item, kind) for item in items]


def _check_special(value: Any, kind: Type) -> None:
    held = kind.kind
    if held == BYTES and isinstance(value, str):
        _check_bytes(value)
    elif (held in (TIME, MICRO_TIME) and not isinstance(value, str)) or (
        held == INT_OR_STRING and (isinstance(value, bool) or not isinstance(value, str | int))
    ):
        found = decoding.json_kind(value, kind)
        raise NotRestorable(f"json: cannot unmarshal {found} into Go value of type {kind.name}")
    elif held == INT_OR_STRING and isinstance(value, int) and not -(2**31) <= value < 2**31:
        raise NotRestorable(f"json: cannot unmarshal number {value} into Go value of type int32")


def _scalar(value: Any, kind: Type) -> Any:
    wanted = {STRING: "string", BOOL: "bool", NUMBER: "float64"}.get(kind.kind, kind.name)
    if kind.kind in (INTEGER, NUMBER) and isinstance(value, int | float) and not isinstance(value, bool):
        return _number(value, kind, wanted)
    if isinstance(value, {STRING: str, BOOL: bool}.get(kind.kind, ())):
        return value
    if kind.kind == STRING and type(value) is int:
        raise NotRestorable(f"cannot convert int64 to {wanted}")
    raise NotRestorable(f"unrecognized type: {wanted}")


def _number(value: float, kind: Type, wanted: str) -> float:
    if kind.kind == NUMBER:
        return value
    if isinstance(value, float):
        if not value.is_integer():
            raise NotRestorable(f"cannot convert float64 to {wanted}")
        value = int(value)
    if not -(2**63) <= value < 2**63:
        value = -(2**63)  # what the processor makes of a float that is too large
    bits = 32 if kind.name == "int32" else 64
    return (int(value) + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1)


def _check_bytes(text: str) -> None:
    text = text.replace("\n", "").replace("\r", "")
    try:
        b64decode(text, validate=True)
    except ValueError as error:  # also what is no ASCII
        place = bad_base64_at(text)
        raise NotRestorable(f"error decoding from json: illegal base64 data at input byte {place}") from error


def go_kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    return {str: "string", int: "int64", float: "float64", list: "slice", dict: "map"}.get(type(value), "nil")
