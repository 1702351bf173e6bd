"""What the creator of an object owns, as `managedFields[].fieldsV1` writes it, in one pass over the new object.

The same as `structured.compare` of the new object with the one that Kubernetes starts from, less what nobody owns; but
creates are the most frequent writes, and comparing, uniting, subtracting and writing down were a fifth of each.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any

from orchestrator.api.meta import Object
from orchestrator.api.patch import field_sets, nulls, structured
from orchestrator.api.patch.field_sets import FieldSet
from orchestrator.api.patch.structured import is_list, is_map
from orchestrator.api.schema import ANY_TYPE, STRUCT, Type

Fields = dict[str, Any]

SHAPES_KEPT = 1024


def owned(new: Object, kind: Type, ignored: FieldSet) -> Fields:
    """The fieldsV1 of the creator of `new`, its nulls shown; StructureError where items cannot be told apart."""
    found = _added(_start(kind), new, kind)
    _subtract(found, ignored)
    _strip_identity(found)
    return found


def _strip_identity(fields: Fields) -> None:
    """Exactly the paths of IDENTITY: what else lies below metadata stays."""
    for element in field_sets.IDENTITY.members:
        below = fields.pop(element, None)
        if below and (nobodys := field_sets.IDENTITY.children.get(element)):
            left = {name: inner for name, inner in below.items() if name != "." and name not in nobodys.members}
            if left:
                fields[element] = left


@cache
def _start(kind: Type) -> Object:
    """A new object before anything was set. It is shared: not to be changed."""
    start: Object = nulls.shown(structured.unset(kind), kind)
    return start


def _added(old: Object, new: Object, kind: Type) -> Fields:
    """Of a struct that was there before anything was set: what `new` says beyond that."""
    found: Fields = {}
    for name in sorted(new):
        item, path = new[name], field_sets.field(name)
        if name not in old:
            found[path] = _whole(item, structured.inner_type(kind, name))
            continue
        before = old[name]
        if before == item and isinstance(before, bool) == isinstance(item, bool):
            continue
        within = structured.inner_type(kind, name)
        if within.kind == STRUCT and is_map(within, before) and isinstance(before, dict) and isinstance(item, dict):
            if below := _added(before, item, within):
                found[path] = below
        elif not item or not (is_map(within, item) or is_list(within)):
            found[path] = {}
        elif below := _all(item, within):
            found[path] = below
    return found


def _whole(item: Any, kind: Type) -> Fields:
    """Of a member: itself, and all below it."""
    if item and isinstance(item, (dict, list)) and (is_map(kind, item) or is_list(kind)):
        return {".": {}, **_all(item, kind)}
    return {}


def _all(value: Any, kind: Type) -> Fields:
    if is_list(kind):
        inner = kind.item or ANY_TYPE
        items = structured.indexed(value, kind)
        return {path: _whole(items[path][0], inner) if len(items[path]) == 1 else {} for path in sorted(items)}
    structured.expect_map(value)
    for item in value.values():
        if item and isinstance(item, (dict, list)):
            return {
                field_sets.field(name): _whole(value[name], structured.inner_type(kind, name)) for name in sorted(value)
            }
    return _leaves(tuple(value))


@lru_cache(maxsize=SHAPES_KEPT)
def _leaves(names: tuple[str, ...]) -> Fields:
    """Of a map of leaves: the same for all that have its keys, as the variables of a container do."""
    return {field_sets.field(name): {} for name in sorted(names)}


def _subtract(fields: Fields, gone: FieldSet) -> None:
    """Takes the paths of `gone` away, with all below them."""
    for element in gone.members:
        fields.pop(element, None)
    for element, child in gone.children.items():
        if below := fields.get(element):
            fields[element] = below = dict(below)
            _subtract(below, child)
            if not below:
                del fields[element]
            elif below.keys() == {"."}:
                fields[element] = {}
