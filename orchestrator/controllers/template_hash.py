"""The hash of a pod template: the suffix that names a ReplicaSet, a revision and their pods.

FNV-1a of 32 bits over the template's canonical JSON and the collision count, written in an alphabet without vowels and
without digits that look like letters, so that no hash spells a word.
Deviation: upstream hashes Go's print-out of its structs; the value differs, its form and use do not.
Source: Kubernetes `ComputeHash`, `rand.SafeEncodeString`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


def fnv32a(data: bytes) -> int:
    value = 0x811C9DC5
    for byte in data:
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value


def safe_encoded(text: str) -> str:
    return "".join(ALPHABET[ord(char) % len(ALPHABET)] for char in text)


def template_hash(template: Mapping[str, Any], collision_count: int = 0) -> str:
    data = orjson.dumps(template, option=orjson.OPT_SORT_KEYS)
    if collision_count:
        data += collision_count.to_bytes(8, "little")
    return safe_encoded(str(fnv32a(data)))
