"""The JSONPath of printer columns and scale paths: `.spec.rules[0].host`, `.status.conditions[?(@.type=="Ready")]`.

Fields (`.name`, `['name']`), indexes, slices, wildcards, `..` and filters that compare with a constant, as kubectl has
them. A field that is missing has no result. Source: kubectl docs, "JSONPath Support".
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import orjson

Step = Callable[[Any], Iterator[Any]]
_NAME = re.compile(r"(?:[^.\[\\]|\\.)+")
_FILTER = re.compile(r"^@(?P<path>.*?)\s*(?:(?P<compare>==|!=|<=|>=|<|>)\s*(?P<value>.+?))?\s*$")
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


class PathError(ValueError):
    """Not a JSONPath; the text says where."""


@lru_cache(maxsize=1024)
def parse(text: str) -> tuple[Step, ...]:
    """The steps of a path. Errors: PathError."""
    steps: list[Step] = []
    at = 0
    while at < len(text):
        if text.startswith("..", at):
            steps.append(_descend)
            at += 1 if text.startswith("..[", at) else 2
            if at < len(text) and text[at] not in ".[":
                at -= 1
        elif text[at] == ".":
            found = _NAME.match(text, at + 1)
            if found is None:
                if at + 1 == len(text) or text[at + 1] == "[":
                    at += 1
                    continue
                raise PathError(f"unexpected character at {at} of {text!r}")
            name = re.sub(r"\\(.)", r"\1", found[0])
            steps.append(_every if name == "*" else _field(name))
            at = found.end()
        elif text[at] == "[":
            end = _closing(text, at)
            steps.append(_bracket(text[at + 1 : end].strip()))
            at = end + 1
        else:
            raise PathError(f"must start with a dot or a bracket at {at} of {text!r}")
    return tuple(steps)


def _closing(text: str, start: int) -> int:
    depth, quote = 0, ""
    for at in range(start, len(text)):
        char = text[at]
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char == "[":
            depth += 1
        elif char == "]":
            depth -= 1
            if depth == 0:
                return at
    raise PathError(f"unterminated array in {text!r}")


def _field(name: str) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, dict) and name in value:
            yield value[name]

    return step


def _every(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _descend(value: Any) -> Iterator[Any]:
    yield value
    for inner in _every(value):
        yield from _descend(inner)


def _bracket(text: str) -> Step:
    if text == "*":
        return _every
    if text.startswith("?(") and text.endswith(")"):
        return _filter(text[2:-1].strip())
    if text[:1] in ("'", '"') and text[-1:] == text[:1] and len(text) > 1:
        return _field(text[1:-1])
    if re.fullmatch(r"-?\d+", text):
        return _index(int(text))
    if found := re.fullmatch(r"(-?\d*):(-?\d*)(?::(-?\d*))?", text):
        numbers = [int(part) if part else None for part in found.groups(default="")]
        return _slice(slice(*numbers))
    raise PathError(f"invalid array index {text!r}")


def _index(index: int) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, list) and -len(value) <= index < len(value):
            yield value[index]

    return step


def _slice(part: slice) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, list):
            yield from value[part]

    return step


def _filter(text: str) -> Step:
    found = _FILTER.match(text)
    if found is None:
        raise PathError(f"unrecognized filter {text!r}")
    path, compare = parse(found["path"]), found["compare"]
    try:
        wanted = orjson.loads(re.sub(r"^'(.*)'$", r'"\1"', found["value"])) if compare else None
    except orjson.JSONDecodeError as error:
        raise PathError(f"unrecognized value in filter {text!r}") from error

    def step(value: Any) -> Iterator[Any]:
        for item in value if isinstance(value, list) else ():
            results = _walk(item, path)
            if not compare:
                if results:
                    yield item
            elif results and isinstance(results[0], type(wanted)) and _COMPARE[compare](results[0], wanted):
                yield item

    return step


def _walk(value: Any, steps: tuple[Step, ...]) -> list[Any]:
    values = [value]
    for step in steps:
        values = [inner for one in values for inner in step(one)]
    return values


def find(value: Any, path: str) -> list[Any]:
    """Everything that the path leads to. Errors: PathError."""
    return _walk(value, parse(path))
