"""Faults: a wrong field becomes a Cause with kube-apiserver's message, e.g. `Invalid value: "a_b": must …`.

The message has no field path; the path is JSON-like: `spec.containers[0].name`, `spec.limits[cpu]`.
Source: apimachinery, field errors; API conventions, "Status, details, causes".
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from orchestrator.api.status import Cause

IMMUTABLE = "field is immutable"
_ESCAPES = str.maketrans({mark: f"\\u{ord(mark):04x}" for mark in "<>&\u2028\u2029"})


def shown(value: Any) -> str:
    """A value as messages show it: numbers bare, strings quoted, anything else as JSON without blanks, in which Go
    writes the marks of HTML as escapes."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return text.translate(_ESCAPES)


def _cause(path: str, reason: str, title: str, detail: str) -> Cause:
    return Cause(path, reason, f"{title}: {detail}" if detail else title)


def invalid(path: str, value: Any, detail: str = "") -> Cause:
    return _cause(path, "FieldValueInvalid", f"Invalid value: {shown(value)}", detail)


def required(path: str, detail: str = "") -> Cause:
    return _cause(path, "FieldValueRequired", "Required value", detail)


def duplicate(path: str, value: Any) -> Cause:
    return _cause(path, "FieldValueDuplicate", f"Duplicate value: {shown(value)}", "")


def forbidden(path: str, detail: str) -> Cause:
    return _cause(path, "FieldValueForbidden", "Forbidden", detail)


def not_found(path: str, value: Any, detail: str = "") -> Cause:
    return _cause(path, "FieldValueNotFound", f"Not found: {shown(value)}", detail)


def not_supported(path: str, value: Any, supported: Iterable[str]) -> Cause:
    """`supported` is shown in the given order; kube-apiserver sorts it nearly everywhere."""
    values = ", ".join(shown(item) for item in supported)
    return _cause(path, "FieldValueNotSupported", f"Unsupported value: {shown(value)}", f"supported values: {values}")


def too_long(path: str, bytes_max: int) -> Cause:
    return _cause(path, "FieldValueTooLong", "Too long", f"may not be more than {bytes_max} bytes")


def too_many(path: str, count: int, count_max: int) -> Cause:
    items = "item" if count_max == 1 else "items"
    return _cause(path, "FieldValueTooMany", f"Too many: {count}", f"must have at most {count_max} {items}")


def each(path: str, value: Any, details: Iterable[str]) -> list[Cause]:
    """One invalid cause for each of a format's complaints."""
    return [invalid(path, value, detail) for detail in details]


def immutable(path: str, new: Any, old: Any) -> list[Cause]:
    return [] if new == old else [invalid(path, new, IMMUTABLE)]
