"""Warning headers: what is told to a client whose request was carried out nevertheless.

A text with a control character is not told: it could end its header and begin another (a client names fields as it
likes); nor is one that was told already. All texts together have TOTAL_MAX characters: where they would have more, each
is cut to ITEM_MAX, and those are dropped that no longer fit.
Source: RFC 9111, 5.5 (of RFC 7234); upstream apiserver endpoints/filters/warning.go.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

TOTAL_MAX = 4096
ITEM_MAX = 256


def values(texts: Iterable[str]) -> list[str]:
    """`299 - "…"` for each text that can be told."""
    told = [text for text in dict.fromkeys(texts) if text and not _has_control(text)]
    if sum(map(len, told)) > TOTAL_MAX:
        told = _cut(told)
    return [f"299 - {_quoted(text)}" for text in told]


def _cut(texts: list[str]) -> list[str]:
    kept, written = [], 0
    for text in texts:
        if written >= TOTAL_MAX:
            break
        kept.append(text[:ITEM_MAX])
        written += len(kept[-1])
    return kept


def _has_control(text: str) -> bool:
    return any(unicodedata.category(letter) == "Cc" for letter in text)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
