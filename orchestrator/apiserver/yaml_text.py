"""YAML text to plain JSON data, as kube-apiserver reads it: go-yaml's YAML 1.1, then its conversion to JSON.

`y`, `on` and `yes` are true, `0644` is octal, a date and `1:30` are text, tags of other types say nothing. Keys become
text, sorted: the first fault in that order is the one that is told.
What aliases stand for is written out, and bounded as go-yaml bounds it: of many values few may come from aliases, and
none may hold itself. So a short text cannot become a large object ("billion laughs").
Errors: YamlError, in go-yaml's words where it has them.
Source: go-yaml v2 decode.go, resolve.go; sigs.k8s.io/yaml.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Iterator
from typing import Any

import yaml

from orchestrator.api.kinds import faults
from orchestrator.api.nesting import DEPTH_MAX

_TAG = "tag:yaml.org,2002:"
_STR, _INT, _FLOAT, _BOOL, _NULL, _MERGE = (_TAG + name for name in ("str", "int", "float", "bool", "null", "merge"))
_WORDS: dict[str, tuple[str, Any]] = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), (_BOOL, True)),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), (_BOOL, False)),
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), (_NULL, None)),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), (_FLOAT, math.nan)),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), (_FLOAT, math.inf)),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), (_FLOAT, -math.inf)),
    "<<": (_MERGE, "<<"),
}
_INTEGER = re.compile(r"([-+]?)(?:0[xX]([0-9a-fA-F]+)|0[bB]([01]+)|0[oO]?([0-7]+)|(0|[1-9][0-9]*))")
_REAL = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_DIGITS_MAX = 70  # of a number of 64 bits, in base 2 too

# How much of a document may come from aliases: 99 % of a small one, 10 % of a large one.
_ALIASED_MIN, _DECODED_MIN = 100, 1000
_SMALL, _LARGE = 400_000, 4_000_000


class YamlError(ValueError):
    """Text that is no YAML, or none that can be JSON."""


class _Composer(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Text to nodes; what a scalar means is decided here, not by PyYAML. An untagged plain scalar has the tag ""."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

    def resolve(self, kind: Any, value: Any, implicit: Any) -> str:
        if kind is yaml.ScalarNode and implicit[0]:
            return ""
        return str(super().resolve(kind, value, implicit))


def load(text: bytes) -> Any:
    """The first document of the text as JSON data, None for an empty one."""
    node = _composed(text)
    return _Decoder().value(node, 0) if node is not None else None


def repeated_keys(text: bytes) -> Iterator[str]:
    """The keys that stand twice in one mapping: `line 9: key "foo" already set in map`, by the line of the value."""
    node = _composed(text)
    if node is not None:
        yield from _repeats(node)


def _composed(text: bytes) -> Any:
    try:
        loader = _Composer(text)
        try:
            return loader.get_single_node()
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError) as error:  # ValueError: an escape that is no character
        raise YamlError(str(error)) from error


class _Decoder:
    """One document. `_decoded` counts values, `_aliased` those of them that an alias brought in again."""

    def __init__(self) -> None:
        self._decoded = 0
        self._aliased = 0
        self._alias_depth = 0
        self._known: set[int] = set()  # nodes that were met: again is an alias
        self._open: set[int] = set()  # nodes that are being decoded

    def value(self, node: Any, depth: int) -> Any:
        found: Any
        known = isinstance(node, (yaml.MappingNode, yaml.SequenceNode)) and id(node) in self._known
        self._alias_depth += known
        self._count()
        if depth > DEPTH_MAX:
            raise YamlError(f"exceeded max depth of {DEPTH_MAX}")
        if isinstance(node, yaml.ScalarNode):
            found = _scalar(node)[1]
            if isinstance(found, float) and not math.isfinite(found):
                raise YamlError(f"json: unsupported value: {node.value}")
            return found
        if id(node) in self._open:
            raise YamlError("anchor value contains itself")
        self._known.add(id(node))
        self._open.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            found = [self.value(item, depth + 1) for item in node.value]
        else:
            found = dict(sorted(self._pairs(node, depth).items()))
        self._open.discard(id(node))
        self._alias_depth -= known
        return found

    def _count(self) -> None:
        self._decoded += 1
        self._aliased += self._alias_depth > 0
        if self._aliased <= _ALIASED_MIN or self._decoded <= _DECODED_MIN:
            return
        share = 0.99 - 0.89 * min(max((self._decoded - _SMALL) / (_LARGE - _SMALL), 0), 1)
        if self._aliased / self._decoded > share:
            raise YamlError("document contains excessive aliasing")

    def _pairs(self, node: Any, depth: int) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        for key_node, value_node in node.value:
            self._count()
            if not isinstance(key_node, yaml.ScalarNode):
                raise YamlError("invalid map key")
            tag, key = _scalar(key_node)
            if tag == _MERGE:
                merged |= self._merge(value_node, depth)
            else:
                own[_key(key)] = self.value(value_node, depth + 1)
        return merged | own

    def _merge(self, node: Any, depth: int) -> dict[str, Any]:
        """What `<<` brings in: a mapping, or several of which the first wins."""
        parts = node.value[::-1] if isinstance(node, yaml.SequenceNode) else [node]
        found: dict[str, Any] = {}
        for part in parts:
            if not isinstance(part, yaml.MappingNode):
                raise YamlError("map merge requires map or sequence of maps as the value")
            found |= self.value(part, depth + 1)
        return found


def _scalar(node: Any) -> tuple[str, Any]:
    """(tag, value) of a scalar, its own tag believed where the text fits it."""
    tag, text = node.tag, node.value
    if tag == _TAG + "binary":
        try:
            return _STR, base64.b64decode(text, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise YamlError("!!binary value contains invalid base64 data") from error
    if tag not in ("", _INT, _FLOAT, _BOOL, _NULL):
        return _STR, text
    found, value = _plain(text)
    if (tag, found) == (_FLOAT, _INT):
        return _FLOAT, float(value)
    if tag not in ("", found):
        raise YamlError(f"cannot decode !!{found.removeprefix(_TAG)} `{text}` as a !!{tag.removeprefix(_TAG)}")
    return found, value


def _plain(text: str) -> tuple[str, Any]:
    """What an unquoted scalar means."""
    if text in _WORDS:
        return _WORDS[text]
    bare = text.replace("_", "")
    if not bare or bare[0] not in "+-.0123456789":
        return _STR, text
    integer = _INTEGER.fullmatch(bare) if len(bare) <= _DIGITS_MAX else None
    if integer is not None:
        sign, *digits = integer.groups()
        value = next(int(part, base) for part, base in zip(digits, (16, 2, 8, 10), strict=True) if part is not None)
        value = -value if sign == "-" else value
        if -(2**63) <= value < 2**64:
            return _INT, value
    if _REAL.fullmatch(bare) and not math.isinf(real := float(bare)):
        is_whole = real.is_integer() and abs(real) < 2**63
        return _FLOAT, int(real) if is_whole else real  # as Go writes it to JSON
    return _STR, text


def _key(key: Any) -> str:
    if isinstance(key, bool):
        return "true" if key else "false"
    if key is None:
        raise YamlError("unsupported map key of type: %!s(<nil>), key: <nil>")
    return key if isinstance(key, str) else str(key)


def _repeats(node: Any) -> Iterator[str]:
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _repeats(item)
    elif isinstance(node, yaml.MappingNode):
        seen: set[Any] = set()
        for key_node, value in node.value:
            yield from _repeats(value)
            if not isinstance(key_node, yaml.ScalarNode):
                continue
            tag, key = _scalar(key_node)
            if tag == _MERGE:
                continue
            if (tag, key) in seen:
                yield f"line {value.start_mark.line + 1}: key {faults.shown(key)} already set in map"
            seen.add((tag, key))
