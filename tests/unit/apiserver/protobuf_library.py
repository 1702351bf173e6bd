"""The protobuf library as a judge: message classes made from a table of messages, and what they do not know."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.unknown_fields import UnknownFieldSet

_KINDS = {"s": 9, "b": 8, "i": 3, "d": 1, "y": 12}  # of FieldDescriptorProto
_MESSAGE, _OPTIONAL, _REPEATED = 11, 1, 3


def classes(messages: Any, opaque: Collection[str] = ()) -> dict[str, Any]:
    """Classes by the messages' names, of proto2; the messages in `opaque` are bytes to them."""
    file = descriptor_pb2.FileDescriptorProto(name="all.proto", package="all", syntax="proto2")
    names = {name: f"M{place}" for place, name in enumerate(messages)}
    for name, fields in messages.items():
        made = file.message_type.add(name=names[name])
        for number, (_, kind) in fields.items():
            label = _REPEATED if kind[0] in "*{" else _OPTIONAL
            field = made.field.add(name=f"f{number}", number=int(number), label=label)
            if kind[0] == "{":
                entry = made.nested_type.add(name=f"F{number}Entry")
                entry.options.map_entry = True
                entry.field.add(name="key", number=1, type=_KINDS["s"], label=_OPTIONAL)
                _describe(entry.field.add(name="value", number=2, label=_OPTIONAL), kind[1:], names, opaque)
                field.type, field.type_name = _MESSAGE, f".all.{names[name]}.F{number}Entry"
            else:
                _describe(field, kind.lstrip("*~"), names, opaque)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"all.{names[name]}")) for name in names}


def _describe(field: Any, kind: str, names: dict[str, str], opaque: Collection[str]) -> None:
    if kind in names:
        field.type, field.type_name = _MESSAGE, f".all.{names[kind]}"
    else:
        field.type = _KINDS["y"] if kind in opaque else _KINDS[kind]


def inner(parsed: Any) -> Iterator[Any]:
    """The messages within a message."""
    for descriptor, value in parsed.ListFields():
        if descriptor.type == _MESSAGE:
            values = value.values() if descriptor.message_type.GetOptions().map_entry else value
            for one in values if descriptor.is_repeated else [value]:
                if hasattr(one, "ListFields"):
                    yield one


def has_unknown(parsed: Any) -> bool:
    """Whether there is a field that the table does not have, or that has another type there."""
    return bool(len(UnknownFieldSet(parsed))) or any(has_unknown(one) for one in inner(parsed))
