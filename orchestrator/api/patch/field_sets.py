"""Field sets: which fields of an object someone owns, as `managedFields[].fieldsV1` writes it.

A set is a tree. An element of a path is written as in fieldsV1: `f:name` a field or map key, `k:{"name":"c"}` the item
of a list with keys, `v:"x"` the item of a set, `i:0` an index. A member may also have children: `{".":{},"f:a":{}}`.
Sets are not changed once they are shared; the algebra returns new sets. Source: KEP-555; meta/v1 FieldsV1.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import orjson

Path = tuple[str, ...]
KEYS_KEPT = 4096


class FieldSet:
    """`members` are the paths of one element in this set; `children` hold the longer ones. `written` is what `encode`
    makes of a set that many share, if someone keeps it."""

    __slots__ = ("children", "members", "written")

    def __init__(self) -> None:
        self.members: set[str] = set()
        self.children: dict[str, FieldSet] = {}
        self.written: dict[str, Any] | None = None

    def __bool__(self) -> bool:
        return bool(self.members or self.children)  # a child is never empty

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FieldSet) and set(self.paths()) == set(other.paths())

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"FieldSet({json.dumps(encode(self))})"

    def add(self, *path: str) -> FieldSet:
        """Adds a path while the set is being built; returns the set."""
        at = self
        for element in path[:-1]:
            at = at.children.setdefault(element, FieldSet())
        at.members.add(path[-1])
        return self

    def attach(self, element: str, child: FieldSet) -> None:
        if child:
            self.children[element] = child

    def has(self, path: Path) -> bool:
        at = self
        for element in path[:-1]:
            if element not in at.children:
                return False
            at = at.children[element]
        return path[-1] in at.members

    def child(self, element: str) -> FieldSet:
        return self.children.get(element) or FieldSet()

    def paths(self, prefix: Path = ()) -> Iterator[Path]:
        """Every path: those of this level first, each level sorted."""
        for element in sorted(self.members):
            yield (*prefix, element)
        for element in sorted(self.children):
            yield from self.children[element].paths((*prefix, element))

    def union(self, other: FieldSet) -> FieldSet:
        if not other:
            return self
        if not self:
            return other
        result = FieldSet()
        result.members = self.members | other.members
        result.children = {**self.children, **other.children}
        for element in self.children.keys() & other.children.keys():
            result.children[element] = self.children[element].union(other.children[element])
        return result

    def intersection(self, other: FieldSet) -> FieldSet:
        result = FieldSet()
        result.members = self.members & other.members
        for element, child in self.children.items():
            if element in other.children:
                result.attach(element, child.intersection(other.children[element]))
        return result

    def difference(self, other: FieldSet) -> FieldSet:
        """Without exactly the paths of `other`: what lies below a removed path stays."""
        if not other:
            return self
        result = FieldSet()
        result.members = self.members - other.members
        for element, child in self.children.items():
            theirs = other.children.get(element)
            result.attach(element, child if theirs is None else child.difference(theirs))
        return result

    def without(self, other: FieldSet) -> FieldSet:
        """Without the paths of `other` and all below them."""
        if not other:
            return self
        result = FieldSet()
        result.members = self.members - other.members
        for element, child in self.children.items():
            if element not in other.members:
                theirs = other.children.get(element)
                result.attach(element, child if theirs is None else child.without(theirs))
        return result


# Fields that nobody owns: identity, and what the server alone writes.
IDENTITY = FieldSet().add("f:apiVersion").add("f:kind").add("f:metadata")
for _name in (
    "name", "namespace", "creationTimestamp", "selfLink", "uid", "clusterName", "generation", "managedFields",
    "resourceVersion",
):  # fmt: skip
    IDENTITY.add("f:metadata", f"f:{_name}")


def decode(fields: Mapping[str, Any]) -> FieldSet:
    """The set that a fieldsV1 object stands for; ValueError where it is malformed."""
    result = FieldSet()
    for element, below in fields.items():
        if element == ".":
            continue
        if element[:2] not in ("f:", "k:", "v:", "i:") or not isinstance(below, dict):
            raise ValueError(f"invalid path element: {element!r}")
        if not below or "." in below:
            result.members.add(element)
        result.attach(element, decode(below))
    return result


def encode(fields: FieldSet) -> dict[str, Any]:
    """fieldsV1 of a set, keys sorted."""
    if not fields.children:
        return {element: {} for element in sorted(fields.members)}
    result: dict[str, Any] = {}
    for element in sorted(fields.members | fields.children.keys()):
        below = encode(fields.children[element]) if element in fields.children else {}
        result[element] = {".": {}, **below} if element in fields.members and below else below
        if not below and element not in fields.members:
            del result[element]
    return result


def field(name: str) -> str:
    return f"f:{name}"


def key(keys: Mapping[str, Any]) -> str:
    return f"k:{orjson.dumps(dict(keys), option=orjson.OPT_SORT_KEYS).decode()}"


def single_key(name: str, item: Any) -> str:
    return _text_key(name, item) if item.__class__ is str else key({name: item})


@lru_cache(maxsize=KEYS_KEPT)
def _text_key(name: str, item: str) -> str:
    return key({name: item})


def value(item: Any) -> str:
    return f"v:{json.dumps(item, separators=(',', ':'), ensure_ascii=False)}"


def show(path: Path) -> str:
    """As messages show a path: `.spec.containers[name="c"].image`."""
    return "".join(map(show_element, path))


def show_element(element: str) -> str:
    kind, rest = element[:2], element[2:]
    if kind == "f:":
        return f".{rest}"
    if kind == "k:":
        pairs = ",".join(f"{name}={json.dumps(item)}" for name, item in json.loads(rest).items())
        return f"[{pairs}]"
    return f"[={rest}]" if kind == "v:" else f"[{rest}]"
