"""What Go writes of a field that was never set and cannot be left out: null, for a list, a map or a time.

Objects are kept without nulls, yet a manager owns them as it owns any field that it set: `lastProbeTime` of a condition
that does not say, `limits` of a LimitRange whose list was taken away. So managed fields are computed of objects with
their nulls (`shown`). What is stored in between is protobuf, to which an empty list is as good as none: `settled`.
Which fields these are is a fact of the Go types (`schema.Field.is_null`); a kind without any costs nothing.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from orchestrator.api.schema import LIST, MAP, MICRO_TIME, STRUCT, TIME, Type

NULLABLE = (LIST, MAP, TIME, MICRO_TIME)


class _Plan(NamedTuple):
    nulls: tuple[str, ...]
    within: tuple[tuple[str, Type, str], ...]  # (field, the struct with such fields, "", LIST or MAP of it)


_NOTHING = _Plan((), ())


@cache
def _plan(kind: Type) -> _Plan:
    return _planned(kind, ())


def _planned(kind: Type, above: tuple[Type, ...]) -> _Plan:
    if kind.kind != STRUCT or kind in above:  # a type within itself (a JSON schema) is not followed
        return _NOTHING
    within = []
    for name, known in kind.fields.items():
        inner, how = known.type, ""
        if inner.kind in (LIST, MAP) and inner.item is not None:
            inner, how = inner.item, inner.kind
        if inner.kind == STRUCT and _planned(inner, (*above, kind)) is not _NOTHING:
            within.append((name, inner, how))
    nulls = tuple(name for name, known in kind.fields.items() if known.is_null and known.type.kind in NULLABLE)
    return _Plan(nulls, tuple(within)) if nulls or within else _NOTHING


def shown(value: Any, kind: Type) -> Any:
    """`value` with its nulls, as a new object where it has any; what has none is shared."""
    plan = _plan(kind)
    if plan is _NOTHING or not isinstance(value, dict):
        return value
    made = {**value, **{name: None for name in plan.nulls if name not in value}}
    for name, inner, how in plan.within:
        if (held := made.get(name)) is None:
            continue
        if how == LIST and isinstance(held, list):
            made[name] = [shown(item, inner) for item in held]
        elif how == MAP and isinstance(held, dict):
            made[name] = {key: shown(item, inner) for key, item in held.items()}
        elif not how:
            made[name] = shown(held, inner)
    return made


def settled(value: Any, kind: Type) -> None:
    """Takes empty lists and maps away, in place, that were kept only because their owner set them."""
    plan = _plan(kind)
    if plan is _NOTHING or not isinstance(value, dict):
        return
    for name in plan.nulls:
        if name in value and not value[name]:
            del value[name]
    for name, inner, how in plan.within:
        held = value.get(name)
        if how == LIST and isinstance(held, list):
            for item in held:
                settled(item, inner)
        elif how == MAP and isinstance(held, dict):
            for item in held.values():
                settled(item, inner)
        elif not how:
            settled(held, inner)
