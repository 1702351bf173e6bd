"""Checks of single values that many kinds share: ranges, enumerations, percentages, quantities, label selectors."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from orchestrator.api import quantity, selectors
from orchestrator.api.kinds import faults, formats
from orchestrator.api.kinds.metadata import check_labels
from orchestrator.api.label_grammar import SelectorError
from orchestrator.api.status import Cause

Json = Mapping[str, Any]
NEGATIVE = "must be greater than or equal to 0"


def nonnegative(holder: Json, path: str, *names: str) -> list[Cause]:
    """Numbers of `holder` that must not be below zero."""
    return [
        faults.invalid(f"{path}.{name}".lstrip("."), holder[name], NEGATIVE)
        for name in names
        if isinstance(holder.get(name), int) and holder[name] < 0
    ]


def in_range(value: int | None, path: str, low: int, high: int) -> list[Cause]:
    if value is None or low <= value <= high:
        return []
    return [faults.invalid(path, value, formats.between(low, high))]


def one_of(value: Any, path: str, supported: Collection[str], *, required: bool = True) -> list[Cause]:
    """An enumeration, shown in the given order: sorted nearly everywhere upstream."""
    if not value:
        return [faults.required(path)] if required else []
    return [] if value in supported else [faults.not_supported(path, value, supported)]


def name_of(value: str | None, path: str, name_format: formats.NameFormat, *, required: bool = False) -> list[Cause]:
    if not value:
        return [faults.required(path)] if required else []
    return faults.each(path, value, name_format(value, False))


def int_or_percent(value: Any, path: str) -> list[Cause]:
    if isinstance(value, str):
        return faults.each(path, value, formats.percent(value))
    return [faults.invalid(path, value, NEGATIVE)] if value is not None and value < 0 else []


def amount(value: Any) -> int:
    """The number of an int-or-percent: 25 of "25%"."""
    if isinstance(value, str):
        number = value.removesuffix("%")
        return int(number) if number.isascii() and number.isdecimal() else 0
    return int(value or 0)


def at_most_100_percent(value: Any, path: str) -> list[Cause]:
    over = isinstance(value, str) and not formats.percent(value) and amount(value) > 100
    return [faults.invalid(path, value, "must not be greater than 100%")] if over else []


def nonnegative_quantity(value: Any, path: str) -> list[Cause]:
    return [faults.invalid(path, value, NEGATIVE)] if quantity.parse(value) < 0 else []


def label_selector(selector: Json | None, path: str) -> list[Cause]:
    """A LabelSelector's own faults."""
    if selector is None:
        return []
    causes = check_labels(selector.get("matchLabels"), f"{path}.matchLabels")
    for index, expression in enumerate(selector.get("matchExpressions") or ()):
        causes += _requirement(expression, f"{path}.matchExpressions[{index}]")
    return causes


def _requirement(expression: Json, path: str) -> list[Cause]:
    operator, values = expression.get("operator") or "", expression.get("values") or ()
    causes: list[Cause] = []
    if operator in ("In", "NotIn"):
        if not values:
            detail = "must be specified when `operator` is 'In' or 'NotIn'"
            causes.append(faults.required(f"{path}.values", detail))
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            causes.append(faults.forbidden(f"{path}.values", detail))
    else:
        causes.append(faults.invalid(f"{path}.operator", operator, "not a valid selector operator"))
    key = expression.get("key") or ""
    causes += faults.each(f"{path}.key", key, formats.qualified_name(key))
    for index, value in enumerate(values):
        causes += faults.each(f"{path}.values[{index}]", value, formats.label_value(value))
    return causes


def is_readable(selector: Json | None) -> bool:
    try:
        selectors.from_json(selector)
    except (SelectorError, KeyError):
        return False
    for key, value in ((selector or {}).get("matchLabels") or {}).items():
        if formats.qualified_name(key) or formats.label_value(value):
            return False
    return all(
        bool(e.get("values")) == (e.get("operator") in ("In", "NotIn"))
        and not formats.qualified_name(e.get("key") or "")
        and not any(map(formats.label_value, e.get("values") or ()))
        for e in (selector or {}).get("matchExpressions") or ()
    )


def selects(selector: Json | None, labels: Mapping[str, str] | None) -> bool:
    """Whether a selector selects a template's labels; one that cannot be read, or selects all, is not complained of."""
    try:
        parsed = selectors.from_json(selector)
    except (SelectorError, KeyError):
        return True
    return parsed.is_everything or parsed.matches(labels or {})


def repeated(names: Iterable[tuple[str, Any]]) -> list[Cause]:
    """(path, value) pairs whose value was there before."""
    seen: set[Any] = set()
    causes = []
    for path, value in names:
        if value in seen:
            causes.append(faults.duplicate(path, value))
        seen.add(value)
    return causes
