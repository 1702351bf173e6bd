"""Strategic merge patch: a merge patch that knows which lists are maps, from the schema's merge keys.

Directives, all of them: `$patch: replace|delete|merge` in an object or a list item, `$deleteFromPrimitiveList/<list>`,
`$setElementOrder/<list>`, `$retainKeys`. A list without a merge strategy is replaced.
Order of a merged list: items that the patch names, in the order of `$setElementOrder` (or of the patch), with items
that only the server has put in where the old list had them.
Errors: BadPatchFormat, ListOfLists, and StrategicPatchError, which kube-apiserver answers as an internal error.
Source: sig-cli, "Strategic Merge Patch" and "Preserve order in strategic merge patch".
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from orchestrator.api.meta import copied
from orchestrator.api.patch.unstructured import go_kind
from orchestrator.api.schema import ANY_TYPE, RAW_EXTENSION, STRUCT, Field, Type
from orchestrator.api.status import BadRequest, InternalError, Invalid

DIRECTIVE = "$patch"
RETAIN_KEYS = "$retainKeys"
DELETE_PREFIX = "$deleteFromPrimitiveList/"
ORDER_PREFIX = "$setElementOrder/"

Json = dict[str, Any]


class StrategicPatchError(InternalError):
    """A patch whose directives contradict each other or its list items."""

    reason = ""


class BadPatchFormat(BadRequest):
    """A directive, or a key of a list's item, that is no such thing at all."""


class ListOfLists(Invalid):
    """A list to be merged has lists in it."""


def merge(original: Json, patch: Json, kind: Type) -> Json:
    """The patched copy of `original`; nulls delete, directives are carried out and gone."""
    return _merge_map(copied(original), copied(patch), kind)


def left_of(original: Json, patch: Json, kind: Type) -> str:
    """The patch as Go prints it after a merge, which takes directives out of it that it carried out."""
    patch = copied(patch)
    _merge_map(copied(original), patch, kind)
    return go_text(patch)


def _merge_map(original: Json, patch: Json, kind: Type) -> Json:
    if DIRECTIVE in patch:
        return _whole_map(patch)
    _retain_keys(original, patch)
    ordered = {key[len(ORDER_PREFIX) :]: patch.pop(key) for key in list(patch) if key.startswith(ORDER_PREFIX)}
    for key, order in ordered.items():
        _merge_ordered_list(original, patch, key, order, _known(kind, key))
    for key, value in patch.items():
        if key.startswith(DELETE_PREFIX):
            name = key[len(DELETE_PREFIX) :]
            if not isinstance(value, list):
                raise BadPatchFormat("invalid patch format of primitive list")
            if isinstance(original.get(name), list):
                original[name] = [item for item in original[name] if item not in value]
        elif value is None:
            original.pop(key, None)
        elif type(original.get(key)) is not type(value) or not isinstance(value, (dict, list)):
            _set(original, key, value)
        else:
            original[key] = _merge_value(original[key], value, _known(kind, key))
    return original


def _whole_map(patch: Json) -> Json:
    match patch.pop(DIRECTIVE):
        case "replace":
            return patch
        case "delete":
            return {}
        case other:
            raise _bad_directive(other, patch)


def _bad_directive(directive: Any, patch: Json) -> StrategicPatchError:
    return StrategicPatchError(f"unknown patch type: {directive} in map: {go_text({DIRECTIVE: directive, **patch})}")


def _field(kind: Type, name: str) -> Field | None:
    if kind.kind == STRUCT:
        return kind.fields.get(name)
    return Field(name, kind.item or ANY_TYPE, name, False, (), "")


def _known(kind: Type, name: str) -> Field:
    """The field whose merge strategy is needed."""
    found = _field(kind, name)
    if (found is None and kind.kind == STRUCT) or kind.name == RAW_EXTENSION:
        struct = kind.name.rpartition(".")[2]
        raise StrategicPatchError(f'unable to find api field in struct {struct} for the json field "{name}"')
    return found or Field(name, ANY_TYPE, name, False, (), "")


def _retain_keys(original: Json, patch: Json) -> None:
    if RETAIN_KEYS not in patch:
        return
    keys = patch.pop(RETAIN_KEYS)
    named = [key for key, value in patch.items() if value is not None and not key.startswith("$")]
    if not isinstance(keys, list) or any(key not in keys for key in named):
        raise BadPatchFormat("invalid patch format of retainKeys")
    for key in [key for key in original if key not in keys]:
        del original[key]


def _set(original: Json, key: str, value: Any) -> None:
    kept, value = _without_directives(value)
    if kept:
        original[key] = value
    else:
        original.pop(key, None)


def _without_directives(value: Any) -> tuple[bool, Any]:
    """(whether the value stays at all, the value without directives and nulls in objects)."""
    if isinstance(value, dict):
        if DIRECTIVE in value:
            return False, None
        for name in [name for name, item in value.items() if item is None]:
            del value[name]
        parts = {key: _without_directives(item) for key, item in value.items()}
        return True, {key: item for key, (kept, item) in parts.items() if kept}
    if isinstance(value, list):
        return True, [item for kept, item in map(_without_directives, value) if kept]
    return True, value


def _merge_value(original: Any, patch: Any, field: Field | None) -> Any:
    strategies = field.strategies if field else ()
    kind = field.type if field else ANY_TYPE
    if isinstance(patch, dict):
        return patch if "replace" in strategies else _merge_map(original, patch, kind)
    if "merge" not in strategies:
        return patch
    return _merge_list(original, patch, patch, field.merge_key if field else "", kind)


# -- lists -------------------------------------------------------------------------------------------------------------


def _merge_ordered_list(original: Json, patch: Json, name: str, order: Any, field: Field | None) -> None:
    """A list that comes with `$setElementOrder`: merges it, then sorts by that order."""
    items = patch.pop(name, None)
    for given in (order, [] if items is None else items, original.get(name) or []):
        if not isinstance(given, list):
            raise StrategicPatchError(f"expected a []interface {{}}, but received a {_go_type(given)}")
    merge_key = field.merge_key if field else ""
    _check_order(items or [], order, merge_key)
    old = original.get(name)
    if old is None and items is None:
        return
    if items is None:
        merged = list(old or [])
    elif old is None:
        _, merged = _without_directives(items)
    else:
        merged = _merge_value(old, items, field)
    original[name] = _ordered(merged, order, old or [], merge_key)


def _check_order(items: list[Any], order: list[Any], merge_key: str) -> None:
    """The patch's items must occur in `order`, in that order (items to delete need not)."""
    if not order:
        return
    position = 0
    for item in items:
        if isinstance(item, dict) and DIRECTIVE in item:
            continue
        key = _key(item, merge_key)
        while position < len(order) and _key(order[position], merge_key) != key:
            position += 1
        if position == len(order):
            raise StrategicPatchError(
                f"The order in patch list:\n{go_text(items)}\n doesn't match $setElementOrder list:\n{go_text(order)}\n"
            )
        position += 1


def _key(item: Any, merge_key: str) -> Any:
    if not merge_key:
        if isinstance(item, list):
            raise ListOfLists("lists of lists are not supported")
        if isinstance(item, dict):
            raise BadPatchFormat(f"expected a scalar, but received a map: {go_text(item)}")
        return item
    if not isinstance(item, dict):
        raise StrategicPatchError(f"expected a map, but received a {go_kind(item)}")
    if merge_key not in item:
        raise StrategicPatchError(f"map: {go_text(item)} does not contain declared merge key: {merge_key}")
    key = item[merge_key]
    if isinstance(key, (dict, list)):
        raise BadPatchFormat(f"map: {go_text(item)} has no scalar as merge key: {merge_key}")
    return key


def _merge_list(original: list[Any], patch: list[Any], order: list[Any], merge_key: str, kind: Type) -> list[Any]:
    if not any(isinstance(item, dict) for item in (*original, *patch)):
        merged = original + [item for item in patch if item not in original]
        return _ordered(list({_key(item, ""): item for item in merged}), order, original, "")
    if not merge_key:
        raise StrategicPatchError(f"cannot merge lists without merge key for {kind.name}")
    old = list(original)
    kept, items = _list_directives(old, patch, merge_key)
    if not items:
        return kept
    item_kind = kind.item or ANY_TYPE
    for item in items:
        key = _key(item, merge_key)
        found = next((index for index, held in enumerate(kept) if held.get(merge_key) == key), None)
        if found is None:
            kept.append(_without_directives(item)[1])
        else:
            kept[found] = _merge_map(kept[found], dict(item), item_kind)
    return _ordered(kept, items, old, merge_key)


def _list_directives(original: list[Any], patch: list[Any], merge_key: str) -> tuple[list[Any], list[Any]]:
    """(the items that stay as they are, the patch's items to merge into them)."""
    items = [item for item in patch if not (isinstance(item, dict) and DIRECTIVE in item)]
    kept, replace = list(original), False
    for item in patch:
        if not isinstance(item, dict) or DIRECTIVE not in item:
            continue
        match item[DIRECTIVE]:
            case "delete":
                key = _key(item, merge_key)
                kept = [held for held in kept if held.get(merge_key) != key]
            case "replace":
                replace = True
            case "merge":
                raise StrategicPatchError("merging lists cannot yet be specified in the patch")
            case other:
                raise _bad_directive(other, {key: value for key, value in item.items() if key != DIRECTIVE})
    # A list that replaces is taken as it is: two of its items may even share a key (a Node's addresses).
    return (items, []) if replace else (kept, items)


def _ordered(merged: list[Any], order: list[Any], old: list[Any], merge_key: str) -> list[Any]:
    """`merged` with the items of `order` first in that order, others merged in by their place in `old`."""
    rank = _ranks(order, merge_key)
    place = _ranks(old, merge_key)
    named = sorted((item for item in merged if _key(item, merge_key) in rank), key=lambda i: rank[_key(i, merge_key)])
    others = [item for item in merged if _key(item, merge_key) not in rank]
    others.sort(key=lambda item: place.get(_key(item, merge_key), len(place)))
    result: list[Any] = []
    while others and named:
        ours, theirs = place.get(_key(others[0], merge_key)), place.get(_key(named[0], merge_key))
        before = ours is not None and theirs is not None and ours < theirs
        result.append(others.pop(0) if before else named.pop(0))
    return result + others + named


def _ranks(items: list[Any], merge_key: str) -> dict[Any, int]:
    ranks: dict[Any, int] = {}
    for index, item in enumerate(items):
        ranks.setdefault(_key(item, merge_key), index)
    return ranks


# -- what Go would say -------------------------------------------------------------------------------------------------


def _go_type(value: Any) -> str:
    return {"map": "map[string]interface {}", "slice": "[]interface {}", "nil": "<nil>"}.get(
        kind := go_kind(value), kind
    )


def go_text(value: Any) -> str:
    """A JSON value as Go prints it: `map[a:1 b:[x y]]`."""
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{go_text(item)}' for key, item in sorted(value.items()))}]"
    if isinstance(value, list):
        return f"[{' '.join(map(go_text, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value) if isinstance(value, int) and -(2**63) <= value < 2**63 else go_float(value)
    return "<nil>" if value is None else str(value)


def go_float(value: float) -> str:
    """As Go prints a float: the shortest digits, with an exponent from a million and below a ten-thousandth."""
    number = Decimal(repr(float(value))).normalize()
    if not number:
        return "-0" if number.is_signed() else "0"
    if -4 <= number.adjusted() < 6:
        return f"{number:f}"
    digits, _, exponent = f"{number:e}".partition("e")
    return f"{digits}e{exponent[0]}{exponent[1:]:0>2}"
