"""Value rules of a structural schema: which values do not hold, in kube-apiserver's words.

`faults` walks a value along its schema: types, formats, bounds, patterns, enums, required fields, the combinations
(allOf, anyOf, oneOf, not), and that lists of type set and map have each item once. On an update what did not change is
not held against the client (ratcheting). Source: JSON Schema draft 4; KEP-4008.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import orjson

from orchestrator.api.kinds import faults as field_faults
from orchestrator.api.kinds import metadata
from orchestrator.api.status import Cause
from orchestrator.api.structural import formats
from orchestrator.api.structural.compiled import Structural

INTEGER_FORMATS = ("int32", "int64")
FLOAT32_MAX = 3.4028234663852886e38
WHOLE_MAX = 2**53 - 1
PLAIN_MAX = 1e21  # from which on Go writes an exponent
EPSILON = 1e-9
ABSENT = object()
Json = Mapping[str, Any]


def faults(value: Any, node: Structural, path: str = "", old: Any = ABSENT) -> list[Cause]:
    """What does not hold of `value`; `old` is the value that it replaces."""
    return list(_value(value, node, node.raw, path, old))


def _value(value: Any, node: Structural | None, raw: Json, path: str, old: Any) -> Iterator[Cause]:
    if old is not ABSENT and old == value and type(old) is type(value):
        return
    if value is None and raw.get("nullable"):
        return
    wrong = _wrong_type(value, raw, path)
    if wrong is not None:
        yield wrong
        if isinstance(value, float):
            yield from _number(value, raw, path)
        return
    if "enum" in raw and value not in raw["enum"]:
        yield _unsupported(path, value, raw["enum"])
    if isinstance(value, str):
        yield from _text(value, raw, path)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield from _number(value, raw, path)
    elif isinstance(value, list):
        yield from _list(value, node, raw, path, old)
    elif isinstance(value, dict):
        yield from _object(value, node, raw, path, old)
    yield from _combinations(value, raw, path, old)


# -- types -------------------------------------------------------------------------------------------------------------


def json_type(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    return {float: "number", str: "string", list: "array"}.get(type(value), "object")


def _wrong_type(value: Any, raw: Json, path: str) -> Cause | None:
    wanted = raw.get("type") or ""
    found = json_type(value)
    if raw.get("x-kubernetes-int-or-string"):
        if found in ("integer", "string"):
            return None
        wanted = "integer,string"
    elif not wanted or found == wanted or (wanted, found) == ("number", "integer"):
        return None
    if wanted == "integer" and isinstance(value, float) and value.is_integer():
        return None
    if isinstance(value, float) and raw.get("format") in INTEGER_FORMATS:
        found, wanted = "float64", raw["format"]
    shown = field_faults.shown(found)
    detail = f"{path} in body must be of type {wanted}: {shown}"
    return Cause(path or "<nil>", "FieldValueTypeInvalid", f"Invalid value: {shown}: {detail}")


def _invalid(path: str, value: Any, detail: str) -> Cause:
    if isinstance(value, float) and value.is_integer() and abs(value) < PLAIN_MAX:
        value = int(value)  # as Go writes it
    return field_faults.invalid(path or "<nil>", value, f"{path} in body {detail}")


def _unsupported(path: str, value: Any, allowed: list[Any]) -> Cause:
    shown = [item if isinstance(item, str) else orjson.dumps(item).decode() for item in allowed]
    return field_faults.not_supported(path or "<nil>", value, shown)


# -- scalars -----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=512)
def pattern(text: str) -> re.Pattern[str]:
    """A Go regular expression as Python reads it: nearly the same language; re.error where it is none."""
    text = re.sub(r"\\z", r"\\Z", text)
    text = re.sub(r"\[\[:(\^?)(alpha|digit|alnum|upper|lower|space|punct|xdigit):\]\]", _posix, text)
    return re.compile(text, re.ASCII)


def _posix(found: re.Match[str]) -> str:
    classes = {
        "alpha": "A-Za-z", "digit": "0-9", "alnum": "0-9A-Za-z", "upper": "A-Z", "lower": "a-z", "space": r"\s",
        "punct": r"!-/:-@[-`{-~", "xdigit": "0-9A-Fa-f",
    }  # fmt: skip
    return f"[{found[1]}{classes[found[2]]}]"


def _text(value: str, raw: Json, path: str) -> Iterator[Cause]:
    """A text that is too long or too short is not held against its pattern too."""
    # Lengths count characters; the message for too much is of field errors, the one for too little of the schema.
    if (longest := raw.get("maxLength")) is not None and len(value) > longest:
        yield field_faults.too_long(path or "<nil>", longest)
    elif (shortest := raw.get("minLength")) is not None and len(value) < shortest:
        yield _invalid(path, value, f"should be at least {shortest} chars long")
    elif (wanted := raw.get("pattern")) and not pattern(wanted).search(value):
        yield _invalid(path, value, f"should match '{wanted}'")
    form = raw.get("format") or ""
    if form and not raw.get("x-kubernetes-int-or-string") and not formats.holds(form, value):
        shown = field_faults.shown(value)
        detail = f"{path} in body must be of type {form}: {shown}"
        yield Cause(path or "<nil>", "FieldValueTypeInvalid", f"Invalid value: {shown}: {detail}")


def _number(value: float, raw: Json, path: str) -> Iterator[Cause]:
    """An integer is compared with integers: what a bound has of a fraction is cut off, as Go's conversion does."""
    if not _is_in_range(value, raw):
        form = f"with format {raw['format']}" if raw.get("format") else "(default format)"
        yield _of_whole(f"Checked value must be of type {raw['type']} {form} in {path}")
    bound = int if isinstance(value, int) else float
    if (step := raw.get("multipleOf")) is not None:
        yield from _multiple(value, bound(step), path)
    if (most := raw.get("maximum")) is not None:
        most = bound(most)
        if raw.get("exclusiveMaximum") and value >= most:
            yield _invalid(path, value, f"should be less than {_go_number(most)}")
        elif value > most:
            yield _invalid(path, value, f"should be less than or equal to {_go_number(most)}")
    if (least := raw.get("minimum")) is not None:
        least = bound(least)
        if raw.get("exclusiveMinimum") and value <= least:
            yield _invalid(path, value, f"should be greater than {_go_number(least)}")
        elif value < least:
            yield _invalid(path, value, f"should be greater than or equal to {_go_number(least)}")


def _is_in_range(value: float, raw: Json) -> bool:
    """Whether the format, by default 64 bits, has room for it."""
    kind, form = raw.get("type"), raw.get("format")
    if kind == "number":
        return form != "float" or abs(value) <= FLOAT32_MAX
    if kind != "integer":
        return True
    limit = 2**31 if form == "int32" else 2**63
    return float(value).is_integer() and -limit <= value < limit


def _multiple(value: float, step: float, path: str) -> Iterator[Cause]:
    if step <= 0:
        detail = f"factor MultipleOf declared for {path} must be positive: {_go_number(step)}"
        yield field_faults.invalid(path or "<nil>", step, detail)
    elif value % step if isinstance(value, int) else not _is_whole(1 / step * value if step < 1 else value / step):
        yield _invalid(path, value, f"should be a multiple of {_go_number(step)}")


def _is_whole(value: float) -> bool:
    """Nearly: 0.3 is three tenths. What JSON numbers cannot tell apart is none."""
    if abs(value) > WHOLE_MAX:
        return False
    whole = int(value)
    rest = abs(value - whole)
    return rest == 0 or (whole != 0 and rest / (abs(value) + abs(whole)) < EPSILON)


def _go_number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() and abs(value) < PLAIN_MAX else repr(value)


# -- lists and objects -------------------------------------------------------------------------------------------------


def _list(value: list[Any], node: Structural | None, raw: Json, path: str, old: Any) -> Iterator[Cause]:
    if (most := raw.get("maxItems")) is not None and len(value) > most:
        yield field_faults.too_many(path or "<nil>", len(value), most)
    if (least := raw.get("minItems")) is not None and len(value) < least:
        yield _invalid(path, value, f"should have at least {least} items")
    items = raw.get("items")
    if isinstance(items, dict):
        before = _by_key(old, node)
        for index, item in enumerate(value):
            previous = before.get(_key(item, node), ABSENT) if before else ABSENT
            yield from _value(item, node.items if node else None, items, f"{path}[{index}]", previous)


def _key(item: Any, node: Structural | None) -> str:
    keys = node.list_keys if node else ()
    if not isinstance(item, dict):
        return ""
    return orjson.dumps([item.get(key) for key in keys]).decode()


def _by_key(old: Any, node: Structural | None) -> dict[str, Any]:
    """The items that an update may be compared with: those of a list of type map."""
    if node is None or node.list_type != "map" or not isinstance(old, list):
        return {}
    return {_key(item, node): item for item in old}


def _object(value: dict[str, Any], node: Structural | None, raw: Json, path: str, old: Any) -> Iterator[Cause]:
    for name in raw.get("required") or ():
        if name not in value:
            yield field_faults.required(_child(path, name))
    if (most := raw.get("maxProperties")) is not None and len(value) > most:
        yield field_faults.too_many(path or "<nil>", len(value), most)
    if (least := raw.get("minProperties")) is not None and len(value) < least:
        yield _invalid(path, value, f"should have at least {least} properties")
    properties, additional = raw.get("properties") or {}, raw.get("additionalProperties")
    before = old if isinstance(old, dict) else {}
    for name, item in value.items():
        inner = properties.get(name)
        below = node.properties.get(name) if node else None
        if inner is None and isinstance(additional, dict):
            inner, below = additional, node.additional if node else None
        if inner is not None:
            yield from _value(item, below, inner, _child(path, name), before.get(name, ABSENT))


def _child(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


# -- combinations ------------------------------------------------------------------------------------------------------


def _combinations(value: Any, raw: Json, path: str, old: Any) -> Iterator[Cause]:
    def holds(inner: Json) -> bool:
        return next(_value(value, None, inner, path, ABSENT), None) is None

    shown = field_faults.shown(path)
    if all_of := raw.get("allOf"):
        against = [list(_value(value, None, inner, path, old)) for inner in all_of]
        for found in against:
            yield from found
        if any(against):
            none = ". None validated" if all(against) else ""
            yield _of_whole(f"{shown} must validate all the schemas (allOf){none}")
    if (any_of := raw.get("anyOf")) and not any(map(holds, any_of)):
        yield _of_whole(f"{shown} must validate at least one schema (anyOf)")
        yield from _nearest(value, any_of, path)
    if one_of := raw.get("oneOf"):
        count = sum(map(holds, one_of))
        if count != 1:
            amount = "Found none valid" if count == 0 else f"Found {count} valid alternatives"
            yield _of_whole(f"{shown} must validate one and only one schema (oneOf). {amount}")
            if count == 0:
                yield from _nearest(value, one_of, path)
    if (wrong := raw.get("not")) is not None and holds(wrong):
        yield _of_whole(f"{shown} must not validate the schema (not)")


def _of_whole(detail: str) -> Cause:
    """What is told of no field."""
    return field_faults.invalid("<nil>", "", detail)


def _nearest(value: Any, alternatives: list[Json], path: str) -> Iterator[Cause]:
    """What is wrong with the alternative that the value is nearest to."""
    found = [list(_value(value, None, inner, path, ABSENT)) for inner in alternatives]
    yield from min(found, key=len, default=[])


# -- what values alone do not show -------------------------------------------------------------------------------------


def list_faults(value: Any, node: Structural, path: str = "") -> list[Cause]:
    """Items that occur twice in lists of type set and map."""
    return list(_repeats(value, node, path))


def _repeats(value: Any, node: Structural, path: str) -> Iterator[Cause]:
    if isinstance(value, dict):
        for name, item in value.items():
            if name in node.properties:
                yield from _repeats(item, node.properties[name], _child(path, name))
            elif node.additional is not None:
                yield from _repeats(item, node.additional, f"{path}[{name}]")
    elif isinstance(value, list):
        yield from _repeated_items(value, node, path)
        if node.items is not None:
            for index, item in enumerate(value):
                yield from _repeats(item, node.items, f"{path}[{index}]")


def _repeated_items(value: list[Any], node: Structural, path: str) -> Iterator[Cause]:
    if node.list_type == "map":
        for index, item in enumerate(value):
            if item is not None and not isinstance(item, dict):
                rule = "must be an object for an array of list-type map"
                yield field_faults.invalid(f"{path}[{index}]", item, rule)
                return
        names = [{key: item[key] for key in node.list_keys if key in item} if item else {} for item in value]
    elif node.list_type == "set":
        names = value
    else:
        return
    seen: dict[bytes, int] = {}
    for index, name in enumerate(names):
        text = orjson.dumps(name, option=orjson.OPT_SORT_KEYS)
        seen[text] = seen.get(text, 0) + 1
        if seen[text] == 2:
            yield field_faults.duplicate(f"{path}[{index}]", name)


def embedded_faults(value: Any, node: Structural, path: str = "", *, is_root: bool = True) -> list[Cause]:
    """Resources inside the resource say what they are, and their metadata holds."""
    found: list[Cause] = []
    if isinstance(value, dict):
        if node.is_resource and not is_root:
            for name in ("apiVersion", "kind"):
                if not value.get(name):
                    found.append(field_faults.required(_child(path, name), "must not be empty"))
            found += [
                Cause(f"{path}.{cause.field}", cause.reason, cause.message)
                for cause in metadata.embedded(value.get("metadata") or {})
            ]
        for name, item in value.items():
            inner = node.properties.get(name) or node.additional
            if inner is not None:
                found += embedded_faults(item, inner, _child(path, name), is_root=False)
    elif isinstance(value, list) and node.items is not None:
        for index, item in enumerate(value):
            found += embedded_faults(item, node.items, f"{path}[{index}]", is_root=False)
    return found
