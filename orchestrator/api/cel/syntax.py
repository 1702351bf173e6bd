"""The syntax tree of a checked expression, read from its serialized form (cel.expr.CheckedExpr).

Only what is asked of it is kept: names, selections, calls and comprehensions, and the place of each in the text.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec import Struct, field

IDENT, SELECT, CALL, LIST, STRUCT, LOOP, CONST = "ident", "select", "call", "list", "struct", "loop", "const"


class Node(Struct):
    """`name` is an identifier, a field, a function, or the type of a constant; `parts` what it is made of: of a loop
    the range, start, condition, step and result, of a call the target (where it has one) and arguments."""

    kind: str
    name: str = ""
    parts: list[Node] = field(default_factory=list)
    variables: tuple[str, ...] = ()  # of a loop: iteration variables, then the accumulator
    has_target: bool = False
    is_test: bool = False
    value: Any = None
    at: int = 0  # offset in the expression, of characters


# What a constant is, by the number of the field that holds it.
_CONSTANTS = {1: "null", 2: "bool", 3: "int", 4: "uint", 5: "double", 6: "string", 7: "bytes"}


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
        elif wire == 2:
            size, at = _varint(data, at)
            yield number, data[at : at + size]
            at += size
        else:
            size = 8 if wire == 1 else 4
            yield number, data[at : at + size]
            at += size


def parse(serialized: bytes) -> Node:
    any_value = dict(_fields(serialized)).get(2, b"")
    checked = dict(_fields(any_value))
    places: dict[int, int] = {}
    for number, raw in _fields(checked.get(5, b"")):
        if number == 4:
            pair = dict(_fields(raw))
            places[pair.get(1, 0)] = pair.get(2, 0)
    return _node(checked.get(4, b""), places)


def _node(data: bytes, places: dict[int, int]) -> Node:
    found = dict(_fields(data))
    made = _of_kind(found, places)
    made.at = places.get(found.get(2, 0), 0)
    return made


def _of_kind(found: dict[int, Any], places: dict[int, int]) -> Node:
    if 4 in found:
        return Node(IDENT, _text(dict(_fields(found[4])).get(1, b"")))
    if 5 in found:
        select = dict(_fields(found[5]))
        parts = [_node(select.get(1, b""), places)]
        return Node(SELECT, _text(select.get(2, b"")), parts, is_test=bool(select.get(3)))
    if 6 in found:
        target = [_node(raw, places) for number, raw in _fields(found[6]) if number == 1]
        arguments = [_node(raw, places) for number, raw in _fields(found[6]) if number == 3]
        name = _text(dict(_fields(found[6])).get(2, b""))
        return Node(CALL, name, target + arguments, has_target=bool(target))
    if 7 in found:
        return Node(LIST, parts=[_node(raw, places) for number, raw in _fields(found[7]) if number == 1])
    if 8 in found:
        entries = [dict(_fields(raw)) for number, raw in _fields(found[8]) if number == 2]
        return Node(STRUCT, parts=[_node(entry[4], places) for entry in entries if 4 in entry])
    if 9 in found:
        loop = dict(_fields(found[9]))
        variables = tuple(_text(loop[number]) for number in (1, 8, 3) if loop.get(number))
        return Node(
            LOOP, parts=[_node(loop.get(number, b""), places) for number in (2, 4, 5, 6, 7)], variables=variables
        )
    constant = dict(_fields(found.get(3, b"")))
    text = constant.get(6)
    value = _text(text) if isinstance(text, bytes) else next(iter(constant.values()), None)
    return Node(CONST, _CONSTANTS.get(next(iter(constant), 0), ""), value=value)


def _text(raw: Any) -> str:
    return raw.decode() if isinstance(raw, bytes) else ""


def walk(node: Node) -> Iterator[Node]:
    yield node
    for part in node.parts:
        yield from walk(part)


def identifiers(node: Node) -> Iterator[str]:
    return (one.name for one in walk(node) if one.kind == IDENT)


def place(expression: str, offset: int) -> tuple[str, str]:
    """A place in an expression as messages name it: what it is called, and the line with a mark below."""
    before = expression[:offset]
    line, column = before.count("\n"), offset - (before.rfind("\n") + 1)
    text = expression.split("\n")[line]
    return f"ERROR: <input>:{line + 1}:{column + 1}", f"\n | {text}\n | {'.' * column}^"
