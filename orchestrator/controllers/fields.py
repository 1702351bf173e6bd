"""Reading the fields that controllers ask for most, where an absent field reads as its zero value."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from orchestrator.api.meta import Object


def spec(obj: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = obj.get("spec") or {}
    return found


def status_of(obj: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = obj.get("status") or {}
    return found


def with_status(obj: Object, status: Mapping[str, Any]) -> Object:
    """A copy with this status: what is sent to /status. Cached objects are never changed."""
    return {**obj, "status": dict(status)}


def replicas(obj: Mapping[str, Any]) -> int:
    """`spec.replicas`, 1 where it is absent."""
    found = spec(obj).get("replicas")
    return 1 if found is None else int(found)


def cleaned(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Without zero counts, empty lists and nulls: how Go encodes `omitempty`."""
    return {name: value for name, value in fields.items() if value not in (None, 0, "", [], {}) or value is False}


def scaled(value: int | str | None, total: int, *, round_up: bool) -> int:
    """An int-or-percentage against a total; absent is 0."""
    if value is None:
        return 0
    if isinstance(value, str):
        percent = int(value.removesuffix("%"))
        return -(-percent * total // 100) if round_up else percent * total // 100
    return value


def copied(obj: Object) -> Object:
    return copy.deepcopy(obj)
