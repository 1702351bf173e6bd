"""Pulumi's property values: between protobuf structs and plain Python.

A whole number becomes an int (protobuf knows only doubles). A secret is unwrapped, and the name of the top-level
property that holds it is remembered, so that whatever goes back under that name is a secret again. A value that is not
known yet (only in a preview) is `UNKNOWN`, at any depth.
Source: pulumi/pulumi sdk/proto/provider.proto; the signature keys are those of pulumi.runtime.rpc.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from google.protobuf import struct_pb2
from pulumi.runtime import rpc


class Unknown:
    """A value that only the update itself will know; there is one instance."""

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN: Final = Unknown()
Values = dict[str, Any]  # JSON and UNKNOWN


@dataclass(frozen=True, slots=True)
class Properties:
    values: Values
    secret: frozenset[str] = field(default_factory=frozenset)  # top-level names


def decode(struct: struct_pb2.Struct) -> Properties:
    """The properties, without Pulumi's own (their names start with two underscores)."""
    secret: set[str] = set()
    values: Values = {}
    for name, value in struct.fields.items():
        if name.startswith("__"):
            continue
        plain, holds_secret = _decode(value)
        values[name] = plain
        if holds_secret:
            secret.add(name)
    return Properties(values, frozenset(secret))


def encode(values: Mapping[str, Any], secret: Iterable[str] = ()) -> struct_pb2.Struct:
    struct = struct_pb2.Struct()
    hidden = frozenset(secret)
    for name, value in values.items():
        encoded = _encode(value)
        if name in hidden and value is not UNKNOWN:
            wrapped = struct_pb2.Struct()
            wrapped.fields[rpc._special_sig_key].string_value = rpc._special_secret_sig
            wrapped.fields["value"].CopyFrom(encoded)
            encoded = struct_pb2.Value(struct_value=wrapped)
        struct.fields[name].CopyFrom(encoded)
    return struct


def known(value: Any) -> Any:
    """The value without what is unknown: such members and elements are left out."""
    if isinstance(value, dict):
        return {name: known(member) for name, member in value.items() if member is not UNKNOWN}
    if isinstance(value, list):
        return [known(element) for element in value if element is not UNKNOWN]
    return value


def _decode(value: struct_pb2.Value) -> tuple[Any, bool]:
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        return (UNKNOWN if value.string_value == rpc.UNKNOWN else value.string_value), False
    if kind == "bool_value":
        return value.bool_value, False
    if kind == "number_value":
        number = value.number_value
        return (int(number) if number.is_integer() else number), False
    if kind == "list_value":
        elements = [_decode(element) for element in value.list_value.values]
        return [element for element, _ in elements], any(holds for _, holds in elements)
    if kind == "struct_value":
        fields = value.struct_value.fields
        signature = fields[rpc._special_sig_key].string_value if rpc._special_sig_key in fields else ""
        if signature == rpc._special_secret_sig:
            return _decode(fields["value"])[0], True
        if signature == rpc._special_output_value_sig:
            inner = _decode(fields["value"])[0] if "value" in fields else UNKNOWN
            return inner, "secret" in fields and fields["secret"].bool_value
        members = {name: _decode(member) for name, member in fields.items()}
        return {name: member for name, (member, _) in members.items()}, any(holds for _, holds in members.values())
    return None, False


def _encode(value: Any) -> struct_pb2.Value:
    if value is None:
        return struct_pb2.Value(null_value=struct_pb2.NULL_VALUE)
    if value is UNKNOWN:
        return struct_pb2.Value(string_value=rpc.UNKNOWN)
    if isinstance(value, bool):
        return struct_pb2.Value(bool_value=value)
    if isinstance(value, int | float):
        return struct_pb2.Value(number_value=value)
    if isinstance(value, str):
        return struct_pb2.Value(string_value=value)
    if isinstance(value, Mapping):
        members = {name: _encode(member) for name, member in value.items()}
        return struct_pb2.Value(struct_value=struct_pb2.Struct(fields=members))
    return struct_pb2.Value(list_value=struct_pb2.ListValue(values=[_encode(element) for element in value]))
