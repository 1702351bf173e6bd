"""Pruning: what a structural schema does not specify is not stored.

The metadata of the resource, and of resources embedded in it, is decoded as ObjectMeta, which prunes it as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from orchestrator.api.structural.compiled import META_FIELDS, Structural


def prune(obj: Any, node: Structural | None) -> list[str]:
    """Removes in place what is not specified; returns the paths of what went (`spec.foo[0].bar`), sorted."""
    return sorted(_prune(obj, node, "", keep=False))


def _prune(value: Any, node: Structural | None, path: str, *, keep: bool) -> Iterator[str]:
    """`keep`: what the node does not specify stays, but what it does specify is pruned all the same."""
    keep = keep or (node is not None and node.preserves)
    if isinstance(value, dict):
        yield from _fields(value, node, path, keep)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _prune(item, node.items if node else None, f"{path}[{index}]", keep=keep)


def _fields(value: dict[str, Any], node: Structural | None, path: str, keep: bool) -> Iterator[str]:
    for key in list(value):
        if node is not None and node.is_resource and key in META_FIELDS:
            continue
        below = f"{path}.{key}" if path else key
        if node is not None and key in node.properties:
            yield from _prune(value[key], node.properties[key], below, keep=False)
        elif node is not None and node.has_additional:
            yield from _prune(value[key], node.additional, below, keep=False)
        elif not keep:
            yield below
            del value[key]
