"""Checking an expression against what its values are: fields that there are not, and operators that do not take them.

The expression must have been compiled with its names of any type; here its tree is walked once more, with types. Where
a type is not known nothing is said: a warning is only given where kube-apiserver gives it too, in its words and at its
place. Functions other than those below are taken to answer with anything.
Source: CEL language definition, standard functions; cel-go's checker; Kubernetes docs, "Type checking" of policies.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from orchestrator.api.cel import syntax
from orchestrator.api.cel.objects import unescaped
from orchestrator.api.cel.syntax import Node
from orchestrator.api.cel.types import (
    BOOL,
    BYTES,
    DOUBLE,
    DURATION,
    DYN,
    INT,
    NULL,
    STRING,
    TIMESTAMP,
    UINT,
    Fields,
    List,
    Map,
    Scalar,
    Type,
    shown,
)

NUMBERS = (INT, UINT, DOUBLE)
_ORDERED = (*NUMBERS, STRING, BOOL, BYTES, TIMESTAMP, DURATION)
_ADDED = {(kind, kind): kind for kind in (*NUMBERS, STRING, BYTES, DURATION)} | {
    (TIMESTAMP, DURATION): TIMESTAMP,
    (DURATION, TIMESTAMP): TIMESTAMP,
}
_SUBTRACTED = {(kind, kind): kind for kind in (*NUMBERS, DURATION)} | {
    (TIMESTAMP, TIMESTAMP): DURATION,
    (TIMESTAMP, DURATION): TIMESTAMP,
}
_MULTIPLIED = {(kind, kind): kind for kind in NUMBERS}
_ARITHMETIC: dict[str, dict[tuple[Scalar, Scalar], Scalar]] = {
    "_+_": _ADDED,
    "_-_": _SUBTRACTED,
    "_*_": _MULTIPLIED,
    "_/_": _MULTIPLIED,
    "_%_": {(kind, kind): kind for kind in (INT, UINT)},
}
_EQUALITY = ("_==_", "_!=_")
_ORDER = ("_<_", "_<=_", "_>_", "_>=_")
_OF_STRINGS = {  # functions of a string and its arguments
    **dict.fromkeys(("startsWith", "endsWith", "contains", "matches"), BOOL),
    **dict.fromkeys(("lowerAscii", "upperAscii", "trim"), STRING),
}
# What others of a string make, whatever they are given.
_MADE_OF_STRINGS: dict[str, Type] = {
    **dict.fromkeys(("charAt", "replace", "substring", "format"), STRING),
    **dict.fromkeys(("indexOf", "lastIndexOf"), INT),
    "split": List(STRING),
}
_CONVERSIONS: dict[str, Type] = {
    "int": INT, "uint": UINT, "double": DOUBLE, "string": STRING, "bool": BOOL, "bytes": BYTES, "timestamp": TIMESTAMP,
    "duration": DURATION,
}  # fmt: skip


ERROR = Scalar("!error!")  # of what was told already: it takes and gives anything
_ANYTHING = (DYN, ERROR)


class Issue(Struct, frozen=True):
    at: int  # offset in the expression, of characters
    text: str


def issues(tree: Node, names: Mapping[str, Type]) -> tuple[list[Issue], Type]:
    """(what is wrong, by its place; what the expression makes). A name like `variables.x` is a variable by itself."""
    checker = _Checker(names)
    made = checker.type_of(tree, {})
    return sorted(dict.fromkeys(checker.issues), key=lambda issue: issue.at), made


def told(expression: str, found: list[Issue]) -> str:
    """The issues as messages show them, each with its line and a mark below."""
    lines = []
    for issue in found:
        place, mark = syntax.place(expression, issue.at)
        lines.append(f"{place}: {issue.text}{mark}")
    return "\n".join(lines)


def _fits(one: Type, other: Type) -> bool:
    """Whether one may stand where the other is wanted."""
    if one in _ANYTHING or other in _ANYTHING or one == other:
        return True
    if isinstance(one, List) and isinstance(other, List):
        return _fits(one.item, other.item)
    if isinstance(one, Map) and isinstance(other, Map):
        return _fits(one.key, other.key) and _fits(one.value, other.value)
    if isinstance(one, Fields) and isinstance(other, Fields):
        return one.name == other.name
    null, rest = (one, other) if one == NULL else (other, one)
    return null == NULL and (isinstance(rest, Fields) or rest in (TIMESTAMP, DURATION))


class _Checker:
    def __init__(self, names: Mapping[str, Type]) -> None:
        self._names = names
        self.issues: list[Issue] = []

    def type_of(self, node: Node, scope: Mapping[str, Type]) -> Type:
        match node.kind:
            case syntax.IDENT:
                return scope.get(node.name) or self._names.get(node.name, DYN)
            case syntax.SELECT:
                return self._selected(node, scope)
            case syntax.CALL:
                return self._called(node, scope)
            case syntax.LIST:
                return List(_common([self.type_of(part, scope) for part in node.parts]))
            case syntax.STRUCT:
                for part in node.parts:
                    self.type_of(part, scope)
                return DYN
            case syntax.LOOP:
                return self._looped(node, scope)
        return _constant(node)

    def _say(self, node: Node, text: str) -> Type:
        self.issues.append(Issue(node.at, text))
        return ERROR

    def _no_overload(self, node: Node, name: str, kinds: list[Type]) -> Type:
        arguments = ", ".join(map(shown, kinds[1:] if node.has_target else kinds))
        target = f"{shown(kinds[0])}." if node.has_target else ""
        return self._say(node, f"found no matching overload for '{name}' applied to '{target}({arguments})'")

    def _selected(self, node: Node, scope: Mapping[str, Type]) -> Type:
        of = node.parts[0]
        if of.kind == syntax.IDENT and of.name not in scope and (own := self._names.get(f"{of.name}.{node.name}")):
            return own
        found = self.type_of(of, scope)
        if isinstance(found, Fields):
            field = found.find(unescaped(node.name))
            if field is None:
                return self._say(node, f"undefined field '{node.name}'")
        elif isinstance(found, Map):
            field = found.value
        elif found in _ANYTHING:
            field = found
        else:
            return self._say(node, f"type '{shown(found)}' does not support field selection")
        return BOOL if node.is_test else field

    def _called(self, node: Node, scope: Mapping[str, Type]) -> Type:
        kinds = [self.type_of(part, scope) for part in node.parts]
        name = node.name
        if name in ("_&&_", "_||_"):
            for part, kind in zip(node.parts, kinds, strict=True):
                if not _fits(kind, BOOL):
                    self._say(part, f"expected type 'bool' but found '{shown(kind)}'")
            return BOOL
        if name == "!_":
            return BOOL if _fits(kinds[0], BOOL) else self._no_overload(node, name, kinds)
        if name == "_?_:_":
            if not _fits(kinds[0], BOOL) or not _fits(kinds[1], kinds[2]):
                return self._no_overload(node, name, kinds)
            return _common(kinds[1:])
        if name in _EQUALITY:
            return BOOL if _fits(*kinds) else self._no_overload(node, name, kinds)
        if name in _ORDER:
            return BOOL if _is_ordered(*kinds) else self._no_overload(node, name, kinds)
        if name in _ARITHMETIC:
            return self._arithmetic(node, kinds)
        if name == "_[_]":
            return self._indexed(node, kinds)
        if name == "@in":
            held = kinds[1].item if isinstance(kinds[1], List) else getattr(kinds[1], "key", None)
            known = kinds[1] in _ANYTHING or (held is not None and _fits(kinds[0], held))
            return BOOL if known else self._no_overload(node, name, kinds)
        return self._function(node, kinds)

    def _arithmetic(self, node: Node, kinds: list[Type]) -> Type:
        left, right = kinds
        if node.name == "_+_" and isinstance(left, List) and isinstance(right, List) and _fits(left, right):
            return List(_common([left.item, right.item]))
        made = [
            result
            for (first, second), result in _ARITHMETIC[node.name].items()
            if _fits(left, first) and _fits(right, second)
        ]
        if made:
            return made[0] if len(set(made)) == 1 else DYN
        if node.name == "_+_" and all(kind in _ANYTHING or isinstance(kind, List) for kind in kinds):
            return DYN
        return self._no_overload(node, node.name, kinds)

    def _indexed(self, node: Node, kinds: list[Type]) -> Type:
        of, by = kinds
        if of in _ANYTHING:
            return DYN
        if isinstance(of, List) and _fits(by, INT):
            return of.item
        if isinstance(of, Map) and _fits(by, of.key):
            return of.value
        return self._no_overload(node, "_[_]", kinds)

    def _function(self, node: Node, kinds: list[Type]) -> Type:
        name = node.name
        if name == "size" and len(kinds) == 1:
            is_sized = isinstance(kinds[0], List | Map) or kinds[0] in (STRING, BYTES, *_ANYTHING)
            return INT if is_sized else self._no_overload(node, name, kinds)
        if name in _OF_STRINGS and node.has_target:
            sound = all(_fits(kind, STRING) for kind in kinds)
            return _OF_STRINGS[name] if sound else self._no_overload(node, name, kinds)
        if name == "-_":
            is_signed = kinds[0] in (INT, DOUBLE, *_ANYTHING)
            return kinds[0] if is_signed else self._no_overload(node, name, kinds)
        if name == "_?._":  # what is optional is not followed further
            field = node.parts[1].value
            if isinstance(kinds[0], Fields) and isinstance(field, str) and kinds[0].find(unescaped(field)) is None:
                self._say(node, f"undefined field '{field}'")
            return DYN
        if node.has_target and kinds[0] == STRING and name in _MADE_OF_STRINGS:
            return _MADE_OF_STRINGS[name]
        if node.has_target and kinds[0] == List(STRING) and name == "join":
            return STRING
        if name == "@not_strictly_false":
            return BOOL
        return _CONVERSIONS.get(name, DYN) if not node.has_target and len(kinds) == 1 else DYN

    def _looped(self, node: Node, scope: Mapping[str, Type]) -> Type:
        over, start, condition, step, result = node.parts
        *variables, accumulator = node.variables
        of = self.type_of(over, scope)
        if isinstance(of, List):
            firsts: tuple[Type, ...] = (of.item,) if len(variables) == 1 else (INT, of.item)
        elif isinstance(of, Map):
            firsts = (of.key, of.value)
        else:
            firsts = (DYN, DYN)
            if of not in _ANYTHING:
                what = "(must be list, map, or dynamic)"
                self._say(over, f"expression of type '{shown(of)}' cannot be range of a comprehension {what}")
        inner = {**scope, **dict(zip(variables, firsts, strict=False)), accumulator: self.type_of(start, scope)}
        self.type_of(condition, inner)
        inner[accumulator] = self.type_of(step, inner)
        return self.type_of(result, inner)


def _common(kinds: list[Type]) -> Type:
    """What all of them are, as far as that is one thing."""
    first = next((kind for kind in kinds if kind not in (*_ANYTHING, List(DYN))), kinds[0] if kinds else DYN)
    return first if all(_fits(kind, first) for kind in kinds) else DYN


def _is_ordered(left: Type, right: Type) -> bool:
    if left in _ANYTHING or right in _ANYTHING:
        known = right if left in _ANYTHING else left
        return known in _ANYTHING or known in _ORDERED
    both_numbers = left in NUMBERS and right in NUMBERS
    return both_numbers or (left == right and left in _ORDERED)


def _constant(node: Node) -> Type:
    return Scalar(node.name) if node.name else DYN
