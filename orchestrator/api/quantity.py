"""Quantities: `500m`, `1Gi`, `2e3`: exact decimals with a suffix, and their canonical form.

Canonical form keeps the format family (binary, decimal, exponent), has no fraction (a smaller suffix is taken instead)
and the largest suffix that leaves an integer; nothing below one nano is kept (rounded away from zero).
Errors: QuantityError (a ValueError) with the text and the rule. Source: apimachinery Quantity, "Serialization format".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import ROUND_CEILING, ROUND_UP, Context, Decimal, localcontext
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar

BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60}
DECIMAL_EXPONENT = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_SYNTAX = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?")
RULE = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
_NANO = Decimal(10) ** -9
_BINARY_MAX = Decimal(2**63 - 1)  # what binary suffixes are cut to
# Deviation: kube-apiserver takes numbers of any length and exponents up to 2^31, and computes them digit by digit.
_DIGITS_MAX = 500
_INT64_DIGITS_MAX = 18  # that surely fit
_EXACT = Context(prec=4 * _DIGITS_MAX)

P = ParamSpec("P")
R = TypeVar("R")


def _exactly(function: Callable[P, R]) -> Callable[P, R]:
    """Computes with as many digits as a quantity may have."""

    @wraps(function)
    def run(*args: P.args, **options: P.kwargs) -> R:
        with localcontext(_EXACT):
            return function(*args, **options)

    return run


class QuantityError(ValueError):
    """Text that is no quantity."""


@lru_cache(maxsize=4096)
@_exactly
def parse(text: str | int | float) -> Decimal:
    """The exact value; numbers are taken as JSON numbers are by Kubernetes."""
    number, suffix = _split(str(text))
    if suffix in BINARY:
        value = number * BINARY[suffix]
        value = min(max(value, -_BINARY_MAX), _BINARY_MAX)
    elif suffix in DECIMAL_EXPONENT:
        value = number.scaleb(DECIMAL_EXPONENT[suffix])
    else:
        value = number.scaleb(int(suffix[1:]))
    return value if value == value.quantize(_NANO) else value.quantize(_NANO, rounding=ROUND_UP)


def _split(text: str) -> tuple[Decimal, str]:
    match = _SYNTAX.fullmatch(text)
    if match is None:
        raise QuantityError(RULE)
    number, suffix = match.group(1), match.group(2) or ""
    exponent = suffix[1:] if suffix[:1] in ("e", "E") and suffix not in BINARY else ""
    if len(number) > _DIGITS_MAX or len(exponent) > 5 or abs(int(exponent or 0)) > _DIGITS_MAX:
        raise QuantityError(
            "unable to parse quantity's suffix" if exponent else "unable to parse numeric part of quantity"
        )
    return Decimal(number), suffix


@lru_cache(maxsize=4096)
@_exactly
def canonical(text: str | int | float) -> str:
    """The canonical text of a quantity, e.g. `1024Mi` → `1Gi`, `0.5` → `500m`, `1000` → `1k`."""
    value = parse(text)
    _, suffix = _split(str(text))
    if isinstance(text, str) and _is_kept(text, suffix):
        return text
    if suffix in BINARY:
        return format_binary(value)
    if suffix[:1] in ("e", "E") and len(suffix) > 1:
        return _format_exponent(value)
    return format_decimal(value)


def _is_kept(text: str, suffix: str) -> bool:
    """Whether a text is near enough to the canonical one for kube-apiserver to keep it, as it does `+1` and `1.500`:
    where it can count in 64 bits and no larger suffix would do."""
    whole, _, fraction = text[: len(text) - len(suffix)].lstrip("+-").partition(".")
    digits = (whole.lstrip("0") or "0") + fraction
    if suffix in BINARY:
        exponent = BINARY[suffix].bit_length() - 1
        return not fraction and len(digits) + int(exponent * 0.3) <= 14 and int(digits) % 8 != 0
    exponent = DECIMAL_EXPONENT[suffix] if suffix in DECIMAL_EXPONENT else int(suffix[1:])
    scale = exponent - len(fraction)
    return (
        len(digits) <= _INT64_DIGITS_MAX
        and scale >= -9
        and scale % 3 == 0
        and not digits.endswith("000")
        and digits[0] != "0"
    )


@_exactly
def format_decimal(value: Decimal | int) -> str:
    """With decimal suffixes: 1500 → `1500`, 2000 → `2k`, 0.25 → `250m`."""
    value = Decimal(value)
    if value == 0:
        return "0"
    for suffix, exponent in sorted(DECIMAL_EXPONENT.items(), key=lambda item: -item[1]):
        scaled = value.scaleb(-exponent)
        if scaled == scaled.to_integral_value():
            return f"{int(scaled)}{suffix}"
    return f"{int(value.scaleb(9).to_integral_value(ROUND_CEILING))}n"


@_exactly
def format_binary(value: Decimal | int) -> str:
    """With binary suffixes: 1073741824 → `1Gi`; a value that is no integer falls back to decimal suffixes."""
    value = Decimal(value)
    if value != value.to_integral_value() or -1024 < value < 1024:
        return format_decimal(value)
    whole = int(value)
    for suffix, factor in sorted(BINARY.items(), key=lambda item: -item[1]):
        if whole % factor == 0:
            return f"{whole // factor}{suffix}"
    return str(whole)


def format_used(resource: str, amount: Decimal | int) -> str:
    """An amount of a quota's resource: bytes with binary suffixes, all else with decimal ones."""
    is_bytes = resource.rpartition(".")[2] in ("memory", "storage", "ephemeral-storage") or "hugepages-" in resource
    return format_binary(amount) if is_bytes and amount % 1024 == 0 else format_decimal(amount)


def _format_exponent(value: Decimal) -> str:
    if value == 0:
        return "0"
    exponent = 0
    while exponent < 18 and value.scaleb(-exponent - 3) == value.scaleb(-exponent - 3).to_integral_value():
        exponent += 3
    while value.scaleb(-exponent) != value.scaleb(-exponent).to_integral_value():
        exponent -= 3
    return f"{int(value.scaleb(-exponent))}e{exponent}" if exponent else str(int(value))


@_exactly
def ceil(text: str | int | float) -> int:
    """The value rounded up to an integer: bytes of memory, pods, devices."""
    return int(parse(text).to_integral_value(ROUND_CEILING))


@_exactly
def millis(text: str | int | float) -> int:
    """Thousandths, rounded up: CPU as the scheduler counts it."""
    return int((parse(text) * 1000).to_integral_value(ROUND_CEILING))
