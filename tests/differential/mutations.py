"""One change of a body, guided by its schema: what was required is missing, of another type, out of range, unknown,
null, empty, repeated; or a field more, with a value that may or may not be sound.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from orchestrator.api.schema import (
    ANY,
    ANY_TYPE,
    BOOL,
    BYTES,
    INT_OR_STRING,
    INTEGER,
    LIST,
    MAP,
    MICRO_TIME,
    NUMBER,
    QUANTITY,
    STRING,
    STRUCT,
    TIME,
    Type,
)
from tests.differential import words
from tests.differential.words import Words

DEPTH_MAX = 3
WRONG = ("x", 1, True, [], {}, ["x"], {"x": "y"}, 1.5)
LABELS = ({}, {"a": "b"}, {"app": "b"}, {"a/b/c": "d"}, {"A_": "-x"}, {"a": "x" * 64}, {"kubernetes.io/x": "y"})
OWNERS = (
    {"apiVersion": "v1", "kind": "Pod", "name": "o", "uid": "u"},
    {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "o", "uid": "u", "controller": True},
    {"apiVersion": "", "kind": "", "name": "", "uid": ""},
)


@dataclass(frozen=True)
class Spot:
    """A place in a body: `holder[key]` is of `kind`; `field` is the name of the field around it."""

    holder: Any
    key: Any
    kind: Type
    field: str

    @property
    def value(self) -> Any:
        return self.holder[self.key]


def spots(value: Any, kind: Type, field: str = "") -> Iterator[Spot]:
    if isinstance(value, dict):
        for key, item in value.items():
            if kind.kind == STRUCT:
                known = kind.fields.get(key)
                inner, name = (known.type if known else kind.rest or ANY_TYPE), key
            else:
                inner, name = kind.item or ANY_TYPE, field
            yield Spot(value, key, inner, name)
            yield from spots(item, inner, name)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield Spot(value, index, kind.item or ANY_TYPE, field)
            yield from spots(item, kind.item or ANY_TYPE, field)


class Mutator:
    def __init__(self, rng: random.Random, known: Words) -> None:
        self.rng = rng
        self.words = known

    def mutated(self, body: dict[str, Any], kind: Type, times: int = 1) -> dict[str, Any]:
        body = copy.deepcopy(body)
        for _ in range(times):
            self._mutate(body, kind)
        return body

    def _mutate(self, body: dict[str, Any], kind: Type) -> None:
        if self.rng.random() < 0.1:
            self._metadata(body)
            return
        found = [spot for spot in spots(body, kind) if spot.field not in ("apiVersion", "kind") or self._rarely()]
        found = [spot for spot in found if not (spot.holder is body.get("metadata") and spot.field == "name")] or found
        if not found:
            body["spec"] = self.value(kind.fields["spec"].type, "spec") if "spec" in kind.fields else 1
            return
        spot = self.rng.choice(found)
        self.rng.choice(self._changes(spot))(spot)

    def _rarely(self) -> bool:
        return self.rng.random() < 0.05

    def _changes(self, spot: Spot) -> list[Callable[[Spot], None]]:
        """Ways to change this spot, the likelier ones several times."""
        always = [self._drop, self._null, self._wrong]
        other = [self._replace] * 6
        match spot.value:
            case dict():
                return [*always, self._empty, self._unknown, *[self._grow] * 9]
            case list():
                return [*always, self._empty, *[self._repeat] * 2, *[self._append] * 4]
        return [*always, *other]

    # -- the changes ---------------------------------------------------------------------------------------------------

    def _drop(self, spot: Spot) -> None:
        del spot.holder[spot.key]

    def _null(self, spot: Spot) -> None:
        spot.holder[spot.key] = None

    def _wrong(self, spot: Spot) -> None:
        spot.holder[spot.key] = copy.deepcopy(self.rng.choice(WRONG))

    def _replace(self, spot: Spot) -> None:
        spot.holder[spot.key] = self.value(spot.kind, spot.field)

    def _empty(self, spot: Spot) -> None:
        spot.value.clear()

    def _unknown(self, spot: Spot) -> None:
        spot.value["unknown"] = self.rng.choice(WRONG)

    def _repeat(self, spot: Spot) -> None:
        if spot.value:
            spot.value.append(copy.deepcopy(self.rng.choice(spot.value)))

    def _append(self, spot: Spot) -> None:
        spot.value.append(self.value(spot.kind.item or ANY_TYPE, spot.field))

    def _grow(self, spot: Spot) -> None:
        """One field more."""
        if spot.kind.kind != STRUCT:
            spot.value[self._key()] = self.value(spot.kind.item or ANY_TYPE, spot.field)
            return
        absent = [field for name, field in spot.kind.fields.items() if name not in spot.value]
        if absent:
            field = self.rng.choice(absent)
            spot.value[field.name] = self.value(field.type, field.name)

    def _metadata(self, body: dict[str, Any]) -> None:
        if not isinstance(body.get("metadata"), dict):
            return
        metadata = body["metadata"]
        pick = self.rng.choice
        match pick(("labels", "annotations", "ownerReferences", "finalizers", "name", "generateName", "other")):
            case "labels" | "annotations" as name:
                metadata[name] = dict(pick(LABELS))
            case "ownerReferences":
                metadata["ownerReferences"] = [dict(pick(OWNERS)) for _ in range(pick((1, 2)))]
            case "finalizers":
                metadata["finalizers"] = [pick(("a.b/c", "x", "a_b/", "kubernetes", "foregroundDeletion", ""))]
            case "name":
                metadata["name"] = pick(words.BAD_NAMES)
            case "generateName":
                metadata.pop("name", None)
                metadata["generateName"] = pick(("g-", "G_", "x" * 250))
            case _:
                name, value = pick((("uid", "u"), ("generation", 7), ("namespace", "other"), ("resourceVersion", "x")))
                metadata[name] = value

    # -- values --------------------------------------------------------------------------------------------------------

    def value(self, kind: Type, field: str, depth: int = 0) -> Any:
        pick = self.rng.choice
        match kind.kind:
            case k if k == STRUCT:
                return self._struct(kind, depth)
            case k if k == LIST:
                count = pick((0, 1, 1, 1, 2)) if depth < DEPTH_MAX else 0
                return [self.value(kind.item or ANY_TYPE, field, depth + 1) for _ in range(count)]
            case k if k == MAP:
                return {self._key(): self.value(kind.item or ANY_TYPE, field, depth + 1)} if depth < DEPTH_MAX else {}
            case k if k == STRING:
                return self.words.text(self.rng, field)
            case k if k == BOOL:
                return pick((True, False))
            case k if k in (INTEGER, NUMBER):
                return pick(words.NUMBERS)
            case k if k == QUANTITY:
                return pick((*words.QUANTITIES, 1, 0, -1, 1.5))
            case k if k == INT_OR_STRING:
                return pick(words.PERCENTS)
            case k if k in (TIME, MICRO_TIME):
                return pick(words.TIMES)
            case k if k == BYTES:
                return pick(words.BYTES)
            case k if k == ANY:
                return copy.deepcopy(pick(WRONG))
        raise AssertionError(kind.kind)

    def _key(self) -> str:
        return self.rng.choice(("a", "cpu", "memory", "example.com/x", "a b", "", "A_", "x" * 64, "storage", "pods"))

    def _struct(self, kind: Type, depth: int) -> dict[str, Any]:
        if depth >= DEPTH_MAX or not kind.fields:
            return {}
        optional = [field for field in kind.fields.values() if not field.required]
        chosen = [field for field in kind.fields.values() if field.required and self.rng.random() < 0.9]
        chosen += self.rng.sample(optional, min(len(optional), self.rng.choice((0, 1, 1, 2))))
        return {field.name: self.value(field.type, field.name, depth + 1) for field in chosen}
