"""Structured values: an object seen through its schema as granular or atomic parts.

A granular map or struct merges by key, a list of type `map` or `set` by item; everything else (scalars, atomic lists
and maps, unknown JSON) is a leaf that is replaced whole and owned whole. On this stand the four operations of
server-side apply: `compare`, `merge`, `remove`, and the `field_set` of what a value says.
Errors: StructureError lists what does not fit the schema, in the words of kube-apiserver. Source: KEP-555.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import orjson
from msgspec import Struct, field

from orchestrator.api import decoding, schema
from orchestrator.api.patch import field_sets
from orchestrator.api.patch.field_sets import FieldSet
from orchestrator.api.patch.nulls import NULLABLE
from orchestrator.api.schema import ANY, ANY_TYPE, BOOL, BYTES, INTEGER, LIST, MAP, NUMBER, STRING, STRUCT, Type

# Keys of list items that a schema default fills in: ports are TCP where they do not say.
KEY_DEFAULTS = {"protocol": "TCP"}
SHAPES_KEPT = 1024
NAMED_BY_DEFAULT = frozenset({"v1.LocalObjectReference"})  # items whose name may be left out: it is "" then


class Absent:
    """No value at all, where None is an explicit null."""


ABSENT = Absent()


class StructureError(ValueError):
    """A value that does not fit its schema."""


def is_map(kind: Type, value: Any) -> bool:
    """Whether a value of this kind is merged by key."""
    if kind.kind in (STRUCT, MAP):
        return kind.map_type != "atomic"
    return kind.kind == ANY and kind.map_type == "granular" and isinstance(value, dict)


def is_list(kind: Type) -> bool:
    """Whether a value of this kind is merged by item."""
    return kind.kind == LIST and kind.list_type in ("map", "set")


def inner_type(kind: Type, name: str) -> Type:
    """Of the value that a map or struct of this kind has under a name."""
    if kind.kind == STRUCT:
        known = kind.fields.get(name)
        return known.type if known else kind.rest or ANY_TYPE
    return kind.item or (kind if kind.kind == ANY else ANY_TYPE)


def element(kind: Type, item: Any) -> str:
    """The path element of a list item; StructureError where it has no key."""
    if kind.list_type == "set":
        if isinstance(item, (dict, list)) or item is None:
            what = "an explicit null" if item is None else "not a scalar"
            raise StructureError(f"associative list without keys has an element that's {what}")
        return field_sets.value(item)
    if not isinstance(item, dict):
        what = "a null element" if item is None else "non-map elements"
        raise StructureError(f"associative list with keys may not have {what}")
    if len(kind.list_keys) == 1 and (value := item.get(kind.list_keys[0])):
        return field_sets.single_key(kind.list_keys[0], value)  # nearly all
    found = {name: item[name] if name in item else _key_default(kind, name) for name in kind.list_keys}
    found = {name: value for name, value in found.items() if value is not None or name in item}
    if not found:
        keys = " ".join(f'"{name}"' for name in kind.list_keys)
        raise StructureError(
            f"associative list with keys has an element that omits all key fields [{keys}] "
            "(and doesn't have default values for any key fields)"
        )
    return field_sets.key(found)


def _key_default(kind: Type, name: str) -> Any:
    """What a key reads as where an item does not have it: a required one is never absent in Go."""
    known = kind.item.fields.get(name) if kind.item and kind.item.kind == STRUCT else None
    if known is not None and kind.item is not None and kind.item.name in NAMED_BY_DEFAULT:
        return ""
    if known is None or not known.required:
        return KEY_DEFAULTS.get(name)
    return KEY_DEFAULTS.get(name, 0 if known.type.kind == INTEGER else "")


def unset(kind: Type) -> dict[str, Any]:
    """A new object before anything was set: the parts that Kubernetes always writes, and null for required lists."""
    made: dict[str, Any] = {}
    for name in kind.always:
        inner = kind.fields[name].type
        made[name] = unset(inner) if inner.kind == STRUCT else decoding.blank(inner)
    for name, known in kind.fields.items():
        if known.is_null and known.type.kind in NULLABLE:
            made[name] = None
    return made


# -- compare -----------------------------------------------------------------------------------------------------------


class Comparison(Struct):
    added: FieldSet = field(default_factory=FieldSet)
    removed: FieldSet = field(default_factory=FieldSet)
    modified: FieldSet = field(default_factory=FieldSet)

    def changed(self) -> FieldSet:
        return self.added.union(self.modified)

    def attach(self, name: str, verdict: str, below: Comparison | None) -> None:
        if verdict:
            getattr(self, verdict).members.add(name)
        if below is not None:
            self.added.attach(name, below.added)
            self.removed.attach(name, below.removed)
            self.modified.attach(name, below.modified)


def compare(old: Any, new: Any, kind: Type) -> Comparison:
    """Which fields were added, removed, modified from `old` to `new`."""
    _, below = _compare(old, new, kind)
    return below or Comparison()


def _compare(old: Any, new: Any, kind: Type) -> tuple[str, Comparison | None]:
    """(what happened to the value as a whole, what happened inside it)."""
    if old is not ABSENT and new is not ABSENT and old == new and _alike(old, new):
        return "", None
    whole = "added" if old is ABSENT else "removed" if new is ABSENT else ""
    shape = new if old is ABSENT else old
    old_part = old if isinstance(old, (dict, list)) else None
    new_part = new if isinstance(new, (dict, list)) else None
    if kind.kind == ANY and old_part is not None and new_part is not None and type(old) is not type(new):
        return whole or "modified", _exchanged(old_part, new_part, kind)
    if (is_map(kind, shape) or is_list(kind)) and (old_part or new_part):
        if old is ABSENT and new_part:
            return whole, Comparison(added=_all_of(new_part, kind))
        inside = (_compare_lists if is_list(kind) else _compare_maps)(old_part, new_part, kind)
        return whole, inside
    return whole or "modified", None


def _alike(old: Any, new: Any) -> bool:
    """Of values that Python holds for equal, whether they are: a truth is no number."""
    if isinstance(old, (dict, list)) and orjson.dumps(old) == orjson.dumps(new):
        return True  # nearly always; else the order of keys may differ
    if isinstance(old, dict):
        return all(_alike(value, new[name]) for name, value in old.items())
    if isinstance(old, list):
        return all(map(_alike, old, new))
    return isinstance(old, bool) == isinstance(new, bool)


def _exchanged(old: Any, new: Any, kind: Type) -> Comparison:
    """Of a value without a type that was an object and is a list, or the reverse: the object's fields went or came."""
    gone = _all_of(old, kind) if is_map(kind, old) else FieldSet()
    return Comparison(added=_all_of(new, kind) if is_map(kind, new) else FieldSet(), removed=gone)


def _all_of(value: Any, kind: Type) -> FieldSet:
    """What `compare` finds in a value that is new as a whole: every field on every level was added."""
    result = FieldSet()
    if is_list(kind):
        inner = kind.item or ANY_TYPE
        for path, items in indexed(value, kind).items():
            result.members.add(path)
            if len(items) == 1:
                _attach_all(result, path, items[0], inner)
        return result
    expect_map(value)
    if not any(item and isinstance(item, (dict, list)) for item in value.values()):
        return _leaves(tuple(value))
    for name, item in value.items():
        path = field_sets.field(name)
        result.members.add(path)
        if item and isinstance(item, (dict, list)):  # most are leaves
            _attach_all(result, path, item, inner_type(kind, name))
    return result


@lru_cache(maxsize=SHAPES_KEPT)
def _leaves(names: tuple[str, ...]) -> FieldSet:
    """Of a map of leaves: the same for all that have its keys, as the variables of a container do."""
    result = FieldSet()
    result.members = {field_sets.field(name) for name in names}
    return result


def _attach_all(result: FieldSet, path: str, item: Any, kind: Type) -> None:
    if item and isinstance(item, (dict, list)) and (is_map(kind, item) or is_list(kind)):
        result.attach(path, _all_of(item, kind))


def expect_map(value: Any) -> None:
    """StructureError for a list where the schema has an object: a custom one is looked at before it is validated."""
    if not isinstance(value, dict):
        raise StructureError(f"expected map, got {_go(value)}")


def _compare_maps(old: Any, new: Any, kind: Type) -> Comparison:
    result, old, new = Comparison(), old or {}, new or {}
    expect_map(old)
    expect_map(new)
    for name in {**old, **new}:
        verdict, below = _compare(old.get(name, ABSENT), new.get(name, ABSENT), inner_type(kind, name))
        result.attach(field_sets.field(name), verdict, below)
    return result


def _compare_lists(old: Any, new: Any, kind: Type) -> Comparison:
    result = Comparison()
    before, after = indexed(old or [], kind), indexed(new or [], kind)
    for name in {**before, **after}:
        lefts, rights = before.get(name, []), after.get(name, [])
        if len(lefts) > 1 or len(rights) > 1:  # an item that occurs twice is one leaf
            _compare_repeated(result, name, lefts, rights, kind.item or ANY_TYPE)
            continue
        left, right = (lefts[0] if lefts else ABSENT), (rights[0] if rights else ABSENT)
        result.attach(name, *_compare(left, right, kind.item or ANY_TYPE))
    return result


def _compare_repeated(result: Comparison, name: str, lefts: list[Any], rights: list[Any], item: Type) -> None:
    if len(lefts) > 1 and len(rights) > 1:
        result.attach(name, "modified" if lefts != rights else "", None)
    elif len(lefts) > 1:
        if rights:
            result.attach(name, *_compare(ABSENT, rights[0], item))
        result.removed.members.add(name)
    else:
        if lefts:
            result.attach(name, *_compare(lefts[0], ABSENT, item))
        result.added.members.add(name)


def indexed(items: list[Any], kind: Type) -> dict[str, list[Any]]:
    """The items of a list of type map or set, by path element; StructureError where one has no key."""
    if not isinstance(items, list):
        raise StructureError(f"expected list, got {_go(items)}")
    found: dict[str, list[Any]] = {}
    for item in items:
        found.setdefault(element(kind, item), []).append(item)
    return found


# -- what a value says -------------------------------------------------------------------------------------------------


def field_set(value: Any, kind: Type) -> FieldSet:
    """The fields that `value` sets: its leaves, and the keys of its granular maps and lists."""
    result = FieldSet()
    if is_map(kind, value):
        for name, item in (value or {}).items():
            inner, path = inner_type(kind, name), field_sets.field(name)
            nested = is_map(inner, item) or is_list(inner)
            if nested:
                result.attach(path, field_set(item, inner))
            if not nested or item is None or item == {} or not (kind.kind == STRUCT and name in kind.fields):
                result.members.add(path)
    elif is_list(kind):
        for path, items in indexed(value or [], kind).items():
            result.members.add(path)
            inner = kind.item or ANY_TYPE
            if len(items) == 1 and is_map(inner, items[0]):
                result.attach(path, field_set(items[0], inner))
    return result


def with_named_fields(fields: FieldSet, kind: Type) -> FieldSet:
    """`fields`, with every struct field on the way to one of them a member as well."""
    result = FieldSet()
    result.members = set(fields.members)
    for path, child in fields.children.items():
        if path.startswith("f:"):
            name = path[2:]
            if kind.kind == STRUCT and name in kind.fields:
                result.members.add(path)
            inner = inner_type(kind, name)
        else:
            inner = kind.item or ANY_TYPE
        result.attach(path, with_named_fields(child, inner))
    return result


# -- merge and remove --------------------------------------------------------------------------------------------------


def merge(live: Any, applied: Any, kind: Type) -> Any:
    """`applied` laid over `live`: granular parts are merged, leaves replaced. Parts may be shared with both."""
    if applied is ABSENT:
        return live
    if live is ABSENT or live is None:
        return applied
    if not applied and (is_map(kind, live) or is_list(kind)):
        return live or applied  # an empty or null granular part adds nothing
    if is_map(kind, applied) and isinstance(live, dict) and isinstance(applied, dict):
        names = {**live, **applied}
        return {n: merge(live.get(n, ABSENT), applied.get(n, ABSENT), inner_type(kind, n)) for n in names}
    if is_list(kind) and isinstance(live, list) and isinstance(applied, list):
        return _merge_lists(live, applied, kind)
    return applied


def _merge_lists(live: list[Any], applied: list[Any], kind: Type) -> list[Any]:
    """Applied items in their order; items that only `live` has stay before the shared item that they preceded."""
    wanted = {element(kind, item): item for item in applied}
    held = [(element(kind, item), item) for item in live]
    first = dict(reversed(held))
    shared = [name for name in wanted if name in first]
    result: list[Any] = []
    merged: set[str] = set()

    def take(name: str) -> None:
        merged.add(name)
        result.append(merge(first.get(name, ABSENT), wanted[name], kind.item or ANY_TYPE))
        if shared and shared[0] == name:
            shared.pop(0)

    queue = list(wanted)
    for name, item in held:
        if name not in wanted:
            result.append(item)
            continue
        if name in merged or (shared and shared[0] != name):
            continue
        while queue and name not in merged:
            take(queue.pop(0))
    for name in queue:
        take(name)
    return result


def remove(value: Any, fields: FieldSet, kind: Type) -> Any:
    """`value` without the given fields and items; what becomes empty becomes null."""
    if is_map(kind, value) and isinstance(value, dict) and value:
        kept = {name: item for name, item in value.items() if field_sets.field(name) not in fields.members}
        for name, item in kept.items():
            if below := fields.children.get(field_sets.field(name)):
                kept[name] = remove(item, below, inner_type(kind, name))
        return kept or None
    if is_list(kind) and isinstance(value, list) and value:
        items = []
        for item in value:
            name = element(kind, item)
            if name not in fields.members:
                below = fields.children.get(name)
                items.append(remove(item, below, kind.item or ANY_TYPE) if below else item)
        return items or None
    return None if isinstance(value, (dict, list)) else value


# -- does it fit -------------------------------------------------------------------------------------------------------


def check(value: Any, kind: Type, *, repeats: bool = False) -> None:
    """StructureError where `value` does not fit `kind`; `repeats` allows an item twice in a list of type map or set."""
    faults = [f"{path}: {what}" if path else what for path, what in _faults(value, kind, repeats)]
    if len(faults) == 1:
        raise StructureError(faults[0])
    if faults:
        raise StructureError("\n  ".join(["errors:", *faults]))


def _faults(value: Any, kind: Type, repeats: bool) -> Iterator[tuple[str, str]]:
    if value is None or kind.kind == ANY:
        return
    if kind.kind in (STRUCT, MAP):
        if not isinstance(value, dict):
            yield "", f"expected map, got {_go(value)}"
            return
        for name, item in sorted(value.items()):
            if kind.kind == STRUCT and name not in kind.fields and kind.rest is None:
                yield f".{name}", "field not declared in schema"
                return
            for path, what in _faults(item, inner_type(kind, name), repeats):
                yield f".{name}{path}", what
    elif kind.kind == LIST:
        if not isinstance(value, list):
            yield "", f"expected list, got {_go(value)}"
            return
        yield from _item_faults(value, kind, repeats)
    else:
        yield from _scalar_faults(value, kind)


def _item_faults(items: list[Any], kind: Type, repeats: bool) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for index, item in enumerate(items):
        shown = f"[{index}]"
        if is_list(kind):
            try:
                name = element(kind, item)
            except StructureError as error:
                yield "", f"element {index}: {error}"
                return
            shown = field_sets.show_element(name)
            if name in seen and not repeats:
                yield "", f"duplicate entries for key {shown}"
            seen.add(name)
        for path, what in _faults(item, kind.item or ANY_TYPE, repeats):
            yield f"{shown}{path}", what


_ANY_SCALAR = (schema.QUANTITY, schema.INT_OR_STRING, schema.TIME, schema.MICRO_TIME)  # they have their own decoders


def _scalar_faults(value: Any, kind: Type) -> Iterator[tuple[str, str]]:
    if isinstance(value, (dict, list)) and kind.kind in _ANY_SCALAR:
        yield "", f"expected any scalar, got {_go(value)}"
    elif kind.kind in (STRING, BYTES) and not isinstance(value, str):
        yield "", f"expected string, got &value.valueUnstructured{{Value:{_go_syntax(value)}}}"
    elif kind.kind == BOOL and not isinstance(value, bool):
        yield "", f"expected boolean, got {_go(value)}"
    elif kind.kind in (INTEGER, NUMBER) and (isinstance(value, bool) or not isinstance(value, (int, float))):
        yield "", f"expected numeric (int or float), got {_go_type(value)}"


def _go(value: Any) -> str:
    if isinstance(value, dict):
        return f"&{{map[{' '.join(f'{name}:{_go(item)[2:-1]}' for name, item in sorted(value.items()))}]}}"
    if isinstance(value, list):
        return f"&{{[{' '.join(_go(item)[2:-1] for item in value)}]}}"
    return f"&{{{str(value).lower() if isinstance(value, bool) else value}}}"


def _go_syntax(value: Any) -> str:
    """A value as Go source."""
    if isinstance(value, dict):
        pairs = ", ".join(f"{json.dumps(name)}:{_go_syntax(item)}" for name, item in sorted(value.items()))
        return f"map[string]interface {{}}{{{pairs}}}"
    if isinstance(value, list):
        return f"[]interface {{}}{{{', '.join(map(_go_syntax, value))}}}"
    return "interface {}(nil)" if value is None else json.dumps(value)


def _go_type(value: Any) -> str:
    if isinstance(value, dict):
        return "map[string]interface {}"
    return {str: "string", bool: "bool", list: "[]interface {}"}.get(type(value), "interface {}")
