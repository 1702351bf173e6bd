"""What a text or a number of a field may be: values that mean something there, and values that mean trouble.

Meaningful words of a field are those of its name in the bodies, and the quoted ones in its published description.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from orchestrator.api import schema

BAD_NAMES = ("", "A", "a_b", "-a", "a-", "a..b", "a.b", "a/b", "a b", "x" * 64, "x" * 254, "é", "1", "kubernetes.io/x")
BAD_TEXTS = (
    "",
    " ",
    "\n",
    "a\tb",
    "x" * 300,
    "/",
    "../x",
    "a=b",
    "*",
    "$(A)",
    "http://x",
    "{",
    "%",
    "0",
    "true",
    "None",
)
QUANTITIES = (
    "0",
    "1",
    "-1",
    "1.5",
    "100m",
    "1Ki",
    "1e3",
    "1E",
    "0.1n",
    "1x",
    "",
    "1 Gi",
    "9999999999999999999Ei",
    "+1",
    ".5",
    "1.",
)
NUMBERS = (0, -1, 1, 2, 100, 101, 65535, 65536, 2**31 - 1, 2**31, -(2**31), 2**63 - 1, 2**63, 1.0, 1.5, 1e3, -0.5)
TIMES = ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00.123456Z", "2026-01-01T01:00:00+01:00", "2026-01-01", "x", "")
BYTES = ("YWJj", "YWJj\n", "a", "====", "YQ", "")
PERCENTS = (0, 1, -1, "0%", "50%", "101%", "-1%", "x", "%", "1", 2**31)
ADDRESSES = ("1.2.3.4", "::1", "fd00::1", "127.0.0.1", "169.254.1.1", "1.2.3", "01.2.3.4", "1.2.3.4/33", "10.0.0.0/8")
_QUOTED = re.compile(r'["`]([A-Za-z][A-Za-z0-9./_-]{1,40})["`]')


class Words:
    def __init__(self, bodies: Iterable[Mapping[str, Any]]) -> None:
        self._of_field: dict[str, set[str]] = defaultdict(set)
        for body in bodies:
            self._note(body, "")
        for name in schema.definitions():
            for field, about in (schema.definitions().read(name).get("properties") or {}).items():
                self._of_field[field] |= set(_QUOTED.findall(about.get("description", "")))
                self._of_field[field] |= set(about.get("enum") or ())
        self._sorted = {name: sorted(words) for name, words in self._of_field.items()}

    def _note(self, value: Any, name: str) -> None:
        if isinstance(value, Mapping):
            for key, item in value.items():
                self._note(item, key)
        elif isinstance(value, list):
            for item in value:
                self._note(item, name)
        elif isinstance(value, str):
            self._of_field[name].add(value)

    def text(self, rng: random.Random, field: str) -> str:
        """Mostly what could stand in `field`."""
        if (known := self._sorted.get(field)) and rng.random() < 0.7:
            return rng.choice(known)
        if re.search("ip|cidr|address", field, re.IGNORECASE) and rng.random() < 0.7:
            return rng.choice(ADDRESSES)
        return rng.choice((*BAD_NAMES, *BAD_TEXTS, "a", "b", "app", "v1", "x.example.com/y"))
