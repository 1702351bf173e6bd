"""CEL's string extensions: the library's own would claim names (indexOf) that Kubernetes has for lists as well.

Source: cel-go ext.Strings, version 2.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any


def char_at(text: str, index: int) -> str:
    if not 0 <= index <= len(text):
        raise ValueError(f"index out of range: {index}")
    return text[index : index + 1]


def index_of(text: str, part: str, start: int = 0) -> int:
    if not 0 <= start <= len(text):
        raise ValueError(f"index out of range: {start}")
    return text.find(part, start)


def last_index_of(text: str, part: str, end: int | None = None) -> int:
    if end is not None and not 0 <= end <= len(text):
        raise ValueError(f"index out of range: {end}")
    return text.rfind(part) if end is None else text.rfind(part, 0, end + len(part))


def replace(text: str, old: str, new: str, count: int = -1) -> str:
    return text.replace(old, new, count)


def split(text: str, mark: str, limit: int = -1) -> list[str]:
    if limit == 0:
        return []
    if not mark:
        return list(text) if limit < 0 else [*text[: limit - 1], text[limit - 1 :]]
    return text.split(mark) if limit < 0 else text.split(mark, limit - 1)


def substring(text: str, start: int, end: int | None = None) -> str:
    end = len(text) if end is None else end
    if not 0 <= start <= end <= len(text):
        raise ValueError(f"invalid substring range. start: {start}, end: {end}")
    return text[start:end]


def join(items: list[Any], mark: str = "") -> str:
    return mark.join(items)


def quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def lower_ascii(text: str) -> str:
    return "".join(char.lower() if char.isascii() else char for char in text)


def upper_ascii(text: str) -> str:
    return "".join(char.upper() if char.isascii() else char for char in text)


def formatted(text: str, values: list[Any]) -> str:
    """`"%s is %d".format(["a", 3])`. Errors: ValueError for what does not fit."""
    made, at, used = [], 0, 0
    while at < len(text):
        if text[at] != "%":
            made.append(text[at])
            at += 1
            continue
        if text[at + 1 : at + 2] == "%":
            made.append("%")
            at += 2
            continue
        end = at + 1
        while end < len(text) and (text[end] == "." or text[end].isdecimal()):
            end += 1
        if end == len(text) or used == len(values):
            raise ValueError(f"index {used} out of range" if end < len(text) else "unexpected end of string")
        precision = text[at + 1 : end].removeprefix(".")
        made.append(_one(text[end], values[used], int(precision) if precision else 6))
        at, used = end + 1, used + 1
    return "".join(made)


def _one(clause: str, value: Any, precision: int) -> str:
    match clause:
        case "s":
            return shown(value)
        case "d":
            return str(int(value)) if not isinstance(value, float) else shown(value)
        case "f" | "e":
            return f"{float(value):.{precision}{clause}}"
        case "b" | "o" | "x" | "X":
            if isinstance(value, (str, bytes)):
                data = value.encode() if isinstance(value, str) else value
                return data.hex().upper() if clause == "X" else data.hex()
            return format(int(value), clause)
    raise ValueError(f'could not parse formatting clause: unrecognized formatting clause "{clause}"')


def shown(value: Any) -> str:
    """A value as `%s` shows it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}s"
    if isinstance(value, list):
        return f"[{', '.join(map(shown, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{shown(key)}: {shown(value[key])}" for key in sorted(value, key=shown)) + "}"
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
