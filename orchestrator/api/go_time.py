"""Why Go cannot read a time, in the words of its time package: the part of the layout that did not fit, and the text.

A layout is read as its elements and the marks between them, from left to right; the first that does not fit is told:
`parsing time "2026-01-01" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "T"`. Source: Go, time.Parse.
"""

from __future__ import annotations

import calendar
import re

TIME = "2006-01-02T15:04:05Z07:00"
MICRO_TIME = "2006-01-02T15:04:05.000000Z07:00"
_ELEMENT = re.compile(r"2006|01|02|15|04|05|\.000000|Z07:00|.", re.DOTALL)
_NUMBERS = {  # element → (its pattern, the name and the range that its number must be in)
    "01": (r"\d\d", "month", 1, 12),
    "15": (r"\d\d?", "hour", 0, 23),
    "04": (r"\d\d", "minute", 0, 59),
    "05": (r"\d\d", "second", 0, 59),
}
_PATTERNS = {"2006": r"\d\d\d\d", "02": r"\d\d", ".000000": r"[.,]\d{6}", "Z07:00": r"Z|[+-]\d\d:\d\d"}


def fault(text: str, layout: str) -> str:
    """What Go says of `text`; "" where it is a time."""
    rest, numbers = text, {}
    for element in _ELEMENT.findall(layout):
        pattern, name, low, high = _NUMBERS.get(element, (_PATTERNS.get(element, re.escape(element)), "", 0, 0))
        if (found := re.match(pattern, rest, re.ASCII)) is None:
            about = f"parsing time {_quoted(text)} as {_quoted(layout)}"
            return f"{about}: cannot parse {_quoted(rest)} as {_quoted(element)}"
        rest = rest[found.end() :]
        if name and not low <= int(found[0]) <= high:
            return f"parsing time {_quoted(text)}: {name} out of range"
        if element == "Z07:00" and found[0] != "Z" and (int(found[0][1:3]) > 24 or int(found[0][4:]) > 60):
            part = "hour" if int(found[0][1:3]) > 24 else "minute"
            return f"parsing time {_quoted(text)}: time zone offset {part} out of range"
        if element.isdecimal():
            numbers[element] = int(found[0])
        if element == "05" and layout != MICRO_TIME:  # a fraction may stand here all the same
            rest = rest[_end_of_fraction(rest) :]
    if rest:
        return f"parsing time {_quoted(text)}: extra text: {_quoted(rest)}"
    year, month, day = numbers["2006"], numbers["01"], numbers["02"]
    if not 1 <= day <= (calendar.monthrange(year, month)[1] if year else 29 if month == 2 else 31):
        return f"parsing time {_quoted(text)}: day out of range"
    return ""


def _end_of_fraction(rest: str) -> int:
    found = re.match(r"[.,]\d+", rest, re.ASCII)
    return found.end() if found else 0


def _quoted(text: str) -> str:
    """As Go's time package quotes: what is not printable ASCII byte by byte."""
    shown = "".join(
        f"\\{char}" if char in '"\\' else char if " " <= char <= "~" else "".join(f"\\x{b:02x}" for b in char.encode())
        for char in text
    )
    return f'"{shown}"'
