"""How deep JSON may nest: functions that call themselves walk what a client sends, and orjson writes 254 levels.

Deviation: kube-apiserver reads 10,000 levels; no kind has more than some dozens.
"""

from __future__ import annotations

from typing import Any

DEPTH_MAX = 200


def is_too_deep(value: Any) -> bool:
    """Whether objects and lists lie more than DEPTH_MAX deep in each other; looked at level by level."""
    level = [value]
    for _ in range(DEPTH_MAX + 1):
        level = [inner for held in level for inner in _inner(held) if type(inner) in (dict, list)]
        if not level:
            return False
    return True


def may_be_too_deep(text: bytes) -> bool:
    """False for all texts of usual size, by a glance at the bytes."""
    return text.count(b"{") + text.count(b"[") > DEPTH_MAX


def _inner(held: Any) -> Any:
    if type(held) is dict:
        return held.values()
    return held if type(held) is list else ()
