"""JSON Merge Patch (RFC 7386): objects merge by key, null deletes, everything else replaces."""

from __future__ import annotations

from typing import Any


def merge(target: Any, patch: Any) -> Any:
    """The merged value; neither argument is changed, and parts that do not change are shared."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge(merged.get(key), value)
    return merged


def diff(old: Any, new: Any) -> Any:
    """The patch that turns `old` into `new`: `merge(old, diff(old, new)) == new` for objects without null."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    patch: dict[str, Any] = {key: None for key in old if key not in new}
    for key, value in new.items():
        if key not in old:
            patch[key] = value
        elif old[key] != value or type(old[key]) is not type(value):
            patch[key] = diff(old[key], value) if isinstance(old[key], dict) else value
    return patch
