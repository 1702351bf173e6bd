"""Before a rule runs: does it name fields that its schema has, and how much work can it be at worst?

Fields are followed from `self` and `oldSelf` through selections, indexes and loops, as far as the schema says. The cost
counts steps, with the largest sizes that the schema allows, or that a request has room for where it sets no bound.
Source: Reference, "Validation rules", resource use by validation functions; KEP-2876, cost estimation.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from orchestrator.api.cel import syntax
from orchestrator.api.cel.syntax import Node
from orchestrator.api.structural.compiled import META_FIELDS, Structural

REQUEST_BYTES_MAX = 3 << 20
COST_MAX = 10_000_000  # of one rule, times how often it may have to run
DEFINITION_COST_MAX = 100_000_000
RESERVED = frozenset(
    ("true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import",
     "let", "loop", "package", "namespace", "return", "var", "void", "while")
)  # fmt: skip
_SCAN = 0.1  # a step for ten characters
_REGEX = 0.25
_SCANS = (
    "contains",
    "startsWith",
    "endsWith",
    "find",
    "findAll",
    "split",
    "replace",
    "lowerAscii",
    "upperAscii",
    "trim",
)


def escaped(name: str) -> str:
    """A property's name as CEL can say it."""
    if name in RESERVED:
        return f"__{name}__"
    for char, text in (("__", "__underscores__"), (".", "__dot__"), ("-", "__dash__"), ("/", "__slash__")):
        name = name.replace(char, text)
    return name


# -- sizes -------------------------------------------------------------------------------------------------------------


def smallest(node: Structural | None) -> int:
    """The least bytes of JSON that a value of the schema takes."""
    if node is None:
        return 1
    match node.type:
        case "object":
            required = node.raw.get("required") or ()
            return 2 + sum(len(name) + 4 + smallest(node.properties.get(name)) for name in required)
        case "array" | "string":
            return 2
        case "boolean":
            return 4
    return 1


def largest(node: Structural | None) -> int:
    """The most items, entries or characters that a value of the schema may have."""
    if node is None:
        return REQUEST_BYTES_MAX
    match node.type:
        case "array":
            bound = node.raw.get("maxItems")
            return int(bound) if bound is not None else REQUEST_BYTES_MAX // (smallest(node.items) + 1)
        case "object":
            bound = node.raw.get("maxProperties")
            return int(bound) if bound is not None else REQUEST_BYTES_MAX // (smallest(node.additional) + 4)
        case "string":
            bound = node.raw.get("maxLength")
            if bound is None and node.raw.get("enum"):
                return max(len(str(value)) for value in node.raw["enum"])
            fixed = {"date": 10, "date-time": 30, "duration": 30}.get(node.raw.get("format") or "")
            return int(bound) if bound is not None else fixed or REQUEST_BYTES_MAX
    return 1


# -- following an expression -------------------------------------------------------------------------------------------


class Found(Struct, frozen=True):
    """`schema` is that of the value, None where it is not known; `size` its largest size; `fault` the first fault."""

    schema: Structural | None
    cost: float
    size: int
    fault: tuple[str, int] | None = None  # (text, offset)


def estimate(tree: Node, known: Mapping[str, Structural | None]) -> Found:
    """`known` maps variables to their schemas."""
    match tree.kind:
        case syntax.IDENT:
            schema = known.get(tree.name)
            return Found(schema, 1, largest(schema) if schema is not None else 1)
        case syntax.CONST:
            return Found(None, 0, len(tree.value) if isinstance(tree.value, str) else 1)
        case syntax.SELECT:
            return _select(tree, known)
        case syntax.LOOP:
            return _loop(tree, known)
        case syntax.CALL:
            return _call(tree, known)
    parts = [estimate(part, known) for part in tree.parts]
    return Found(None, sum(part.cost for part in parts) + 10, max(1, len(parts)), _first(parts))


def _first(parts: list[Found]) -> tuple[str, int] | None:
    return next((part.fault for part in parts if part.fault), None)


def _select(tree: Node, known: Mapping[str, Structural | None]) -> Found:
    held = estimate(tree.parts[0], known)
    schema, fault = held.schema, held.fault
    inner: Structural | None = None
    if schema is not None and fault is None:
        names = {escaped(name): one for name, one in schema.properties.items()}
        if tree.name in names:
            inner = names[tree.name]
        elif schema.additional is not None:
            inner = schema.additional
        elif schema.is_resource and tree.name in META_FIELDS:
            inner = _METADATA if tree.name == "metadata" else _TEXT
        elif schema.type == "object" and not schema.has_additional:
            fault = (f"undefined field '{tree.name}'", tree.at)
        elif schema.type in ("string", "integer", "number", "boolean", "array"):
            kind = {"integer": "int", "number": "double", "boolean": "bool", "array": "list"}.get(schema.type, "string")
            fault = (f"type '{kind}' does not support field selection", tree.at)
    return Found(inner, held.cost + 1, largest(inner) if inner is not None else held.size, fault)


def _loop(tree: Node, known: Mapping[str, Structural | None]) -> Found:
    ranged = estimate(tree.parts[0], known)
    schema = ranged.schema
    item = None
    if schema is not None and schema.type == "array":
        item = schema.items
    inner = {**known, **dict.fromkeys(tree.variables)}
    if tree.variables:
        inner[tree.variables[0]] = item
    start, condition, step, result = (estimate(part, inner) for part in tree.parts[1:])
    parts = [ranged, start, condition, step, result]
    is_binding = tree.parts[0].kind == syntax.LIST and not tree.parts[0].parts  # cel.bind
    times = 1 if is_binding else ranged.size
    cost = ranged.cost + start.cost + times * (condition.cost + step.cost) + result.cost
    return Found(None, cost, ranged.size, _first(parts))


def _call(tree: Node, known: Mapping[str, Structural | None]) -> Found:
    parts = [estimate(part, known) for part in tree.parts]
    cost, schema = sum(part.cost for part in parts) + 1, None
    size = max((part.size for part in parts), default=1)
    if tree.name == "_[_]" and parts[0].schema is not None:
        schema = parts[0].schema.items if parts[0].schema.type == "array" else parts[0].schema.additional
        size = largest(schema) if schema is not None else size
    elif tree.name in ("_==_", "_!=_", "@in"):
        cost += _SCAN * min((part.size for part in parts), default=1) if tree.name != "@in" else parts[-1].size
    elif tree.name == "matches":
        cost += _SCAN * parts[0].size * max(1.0, _REGEX * parts[-1].size)
    elif tree.name in _SCANS:
        cost += _SCAN * parts[0].size
    elif tree.name in ("size", "_<_", "_<=_", "_>_", "_>=_"):
        size = 1
    elif tree.name == "_?_:_" and parts[1].schema is parts[2].schema:
        schema = parts[1].schema
    return Found(schema, cost, size, _first(parts))


_TEXT = Structural({"type": "string", "maxLength": 253})
_METADATA = Structural({"type": "object"}, properties={"name": _TEXT, "generateName": _TEXT})
