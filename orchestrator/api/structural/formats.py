"""Formats of strings in a schema: which of them are looked at, and what they allow. An unknown format allows all.

Source: apiextensions/v1 JSONSchemaProps, `format`.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable
from datetime import date, datetime
from urllib.parse import urlsplit

from orchestrator.api import go_duration
from orchestrator.api.kinds import formats as names

_UUID = "^[0-9a-f]{8}-?[0-9a-f]{4}-?%s-?%s-?[0-9a-f]{12}$"
_HEX = "[0-9a-f]{4}"
_LENGTH = re.compile(r"(\d+)\s*([A-Za-zµ]+)", re.ASCII)
# Seconds by the names of units; of the last name of each line whatever begins with it is one too: `minutes`.
_UNITS_S = (
    (1e-9, "ns", "nano"),
    (1e-6, "us", "µs", "micro"),
    (1e-3, "ms", "milli"),
    (1, "s", "sec"),
    (60, "m", "min"),
    (3600, "h", "hr", "hour"),
    (86400, "d", "day"),
    (604800, "w", "wk", "week"),
)


def duration_s(text: str) -> float:
    """As Go writes it, or by words (`1 hour 2 minutes`, `3d`), of which what is no length is passed over: `1.5d` is
    five days. ValueError where nothing is one."""
    try:
        return go_duration.seconds(text)
    except ValueError:
        found = [int(number) * unit for number, name in _LENGTH.findall(text) if (unit := _unit_s(name.lower()))]
        if not found:
            raise
        return sum(found)


def _unit_s(name: str) -> float:
    for seconds, *known in _UNITS_S:
        if name in known or name.startswith(known[-1]):
            return seconds
    return 0


def _matches(expression: str, flags: int = 0) -> Callable[[str], bool]:
    compiled = re.compile(expression, flags)
    return lambda text: compiled.match(text) is not None


def _parses(parse: Callable[[str], object]) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        try:
            parse(text)
        except (ValueError, binascii.Error):
            return False
        return True

    return check


def _date_time(text: str) -> None:
    if not re.match(r"^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$", text):
        raise ValueError(text)
    datetime.fromisoformat(text.upper().replace(" ", "T"))


def _uri(text: str) -> None:
    parts = urlsplit(text)
    if not (text.startswith("/") or (parts.scheme and (parts.netloc or parts.path))) or " " in text:
        raise ValueError(text)


def _ip(version: int) -> Callable[[str], bool]:
    return _parses({4: ipaddress.IPv4Address, 6: ipaddress.IPv6Address}[version])


_FORMATS: dict[str, Callable[[str], bool]] = {
    "bsonobjectid": _matches("^[0-9a-fA-F]{24}$"),
    "uri": _parses(_uri),
    "email": _matches(r"^([^<>]*<)?[^@\s<>]+@[^@\s<>]+>?$"),
    "hostname": _matches(
        r"^([a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)(\.[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*\.?$"
    ),
    "ipv4": _ip(4),
    "ipv6": _ip(6),
    "cidr": _parses(lambda text: ipaddress.ip_network(text, strict=False) if "/" in text else int("x")),
    "mac": _matches(
        r"^([0-9a-fA-F]{2}[:-]){5}([0-9a-fA-F]{2})(([:-][0-9a-fA-F]{2}){2})?$|^([0-9a-fA-F]{4}\.){2,3}[0-9a-fA-F]{4}$"
    ),
    "uuid": _matches(_UUID % (_HEX, _HEX), re.IGNORECASE),
    "uuid3": _matches(_UUID % ("3[0-9a-f]{3}", _HEX), re.IGNORECASE),
    "uuid4": _matches(_UUID % ("4[0-9a-f]{3}", "[89ab][0-9a-f]{3}"), re.IGNORECASE),
    "uuid5": _matches(_UUID % ("5[0-9a-f]{3}", "[89ab][0-9a-f]{3}"), re.IGNORECASE),
    "isbn": _matches(r"^(?:\d[- ]?){9}[\dXx]$|^(?:\d[- ]?){13}$"),
    "isbn10": _matches(r"^(?:\d[- ]?){9}[\dXx]$"),
    "isbn13": _matches(r"^(?:\d[- ]?){13}$"),
    "creditcard": _matches(r"^(?:\d[- ]?){13,19}$"),
    "ssn": _matches(r"^\d{3}[- ]?\d{2}[- ]?\d{4}$"),
    "hexcolor": _matches(r"^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$"),
    "rgbcolor": _matches(r"^rgb\(\s*\d{1,3}\s*,\s*\d{1,3}\s*,\s*\d{1,3}\s*\)$"),
    "byte": _parses(lambda text: base64.b64decode(text, validate=True)),
    "date": _parses(date.fromisoformat),
    "duration": _parses(duration_s),
    "datetime": _parses(_date_time),
    "date-time": _parses(_date_time),
    "k8s-short-name": lambda text: not names.dns_label(text),
    "k8s-long-name": lambda text: not names.dns_subdomain(text, False),
}
# Formats that are known but have no rule for text: `int-or-string`, numbers, `password`.
_OTHERS = ("int32", "int64", "float", "double", "password", "int-or-string", "binary")


def is_known(name: str) -> bool:
    return name in _FORMATS or name in _OTHERS


def holds(name: str, text: str) -> bool:
    check = _FORMATS.get(name.replace("_", "-") if name not in _FORMATS else name)
    return check is None or check(text)
