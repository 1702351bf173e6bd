"""Conditions: the list of `{type, status, reason, message, lastTransitionTime}` in a status.

`status` is "True", "False" or "Unknown"; the transition time moves only when `status` does.
Source: API conventions, "Typical status properties".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Condition = dict[str, Any]


def find(conditions: Iterable[Condition] | None, kind: str) -> Condition | None:
    return next((condition for condition in conditions or () if condition.get("type") == kind), None)


def is_true(obj: Mapping[str, Any], kind: str) -> bool:
    condition = find((obj.get("status") or {}).get("conditions"), kind)
    return condition is not None and condition.get("status") == "True"


def updated(conditions: Iterable[Condition] | None, new: Condition, now: str) -> list[Condition]:
    """The list with `new` in place of the condition of its type; order is kept, a new type goes last."""
    current = list(conditions or ())
    old = find(current, new["type"])
    same = old is not None and old.get("status") == new["status"]
    merged = {**new, "lastTransitionTime": (old or {}).get("lastTransitionTime") if same else now}
    if old is None:
        return [*current, merged]
    return [merged if condition is old else condition for condition in current]
