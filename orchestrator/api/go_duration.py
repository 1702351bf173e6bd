"""Lengths of time as Go writes them, `1h30m`, `300ms`; what is none in its words. Source: Go, time.ParseDuration."""

from __future__ import annotations

import re

_UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_NUMBER = re.compile(r"(\d*)(?:\.(\d*))?", re.ASCII)
_UNIT = re.compile(r"[^.0-9]*")
_MAX_S = 2**63 / 1e9  # nanoseconds in 64 bits


def seconds(text: str) -> float:
    """ValueError in Go's words."""
    unsigned = text[1:] if text[:1] in ("-", "+") else text
    if unsigned == "0":
        return 0.0
    total, rest, quoted = 0.0, unsigned, f'"{text}"'
    if not rest:
        raise ValueError(f"time: invalid duration {quoted}")
    while rest:
        number = _NUMBER.match(rest)
        if number is None or not (number[1] or number[2]):
            raise ValueError(f"time: invalid duration {quoted}")
        rest = rest[number.end() :]
        unit = _UNIT.match(rest)
        name = unit[0] if unit is not None else ""
        if not name:
            raise ValueError(f"time: missing unit in duration {quoted}")
        if name not in _UNITS_S:
            raise ValueError(f'time: unknown unit "{name}" in duration {quoted}')
        rest = rest[len(name) :]
        total += float(f"{number[1] or 0}.{number[2] or 0}") * _UNITS_S[name]
        if total >= _MAX_S:
            raise ValueError(f"time: invalid duration {quoted}")
    return -total if text[0] == "-" else total
