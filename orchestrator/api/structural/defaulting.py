"""Defaulting: fields that are missing get the value that the schema gives them, from the outside in.

A null where null is not allowed counts as missing: it becomes the default, or goes. Source: KEP-575.
"""

from __future__ import annotations

from typing import Any

from orchestrator.api.meta import copied
from orchestrator.api.structural.compiled import Structural


def default(value: Any, node: Structural) -> None:
    """Completes `value` in place."""
    if isinstance(value, dict):
        _complete(value, node)
        for key in list(value):
            inner = node.properties.get(key) or node.additional
            if inner is None:
                continue
            if value[key] is None and not inner.is_nullable:
                if key not in node.properties and "default" in inner.raw:
                    value[key] = _default_of(inner)
                else:
                    del value[key]
                    continue
            default(value[key], inner)
    elif isinstance(value, list) and node.items is not None:
        for index, item in enumerate(value):
            if item is None and not node.items.is_nullable and "default" in node.items.raw:
                value[index] = _default_of(node.items)
            default(value[index], node.items)


def _complete(value: dict[str, Any], node: Structural) -> None:
    if not node.has_defaults:
        return
    for key, inner in node.properties.items():
        if inner.raw.get("default") is None:
            continue
        if key not in value or (value[key] is None and not inner.is_nullable):
            value[key] = _default_of(inner)


def _default_of(node: Structural) -> Any:
    found = node.raw["default"]
    return copied(found) if isinstance(found, (dict, list)) else found
