"""A kind of resource made up for tests of what all kinds share."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from infra.provider.properties import Values
from infra.provider.resource import Context, Failure


class Part(msgspec.Struct, rename="camel", frozen=True, forbid_unknown_fields=True):
    long_name: str = ""


class Inputs(msgspec.Struct, rename="camel", frozen=True, forbid_unknown_fields=True):
    kind: str
    name: str = ""
    size: Annotated[int, msgspec.Meta(ge=1)] | None = None
    source: str = ""
    parts: tuple[Part, ...] = ()
    word: str = ""


class Simple:
    token = "test:index/simple:Simple"
    word = "simple"
    inputs = Inputs
    defaults = {"kind": "usual"}
    replaces = frozenset({"name", "parts.longName"})
    replaces_if_unknown = frozenset({"source"})
    computed = frozenset({"size", "parts.id"})
    secret = frozenset({"word"})

    def normalize(self, inputs: Values) -> Values:
        return {name: value.lower() if name == "kind" else value for name, value in inputs.items()}

    def check(self, inputs: Values, old: Values) -> list[Failure]:
        failures = []
        if not inputs.get("size") and not inputs.get("source"):
            failures.append(Failure("size", "is required without a source", ("source",)))
        if inputs.get("word") == "bad":
            failures.append(Failure("word", "must not be bad"))
        return failures

    def consequences(self, changed: frozenset[str], old: Values, new: Values) -> list[str]:
        return []

    def create(self, context: Context, inputs: Values) -> tuple[str, Values]:
        raise NotImplementedError

    def read(self, context: Context, id: str, inputs: Values, outputs: Values) -> tuple[str, Values, Values] | None:
        raise NotImplementedError

    def update(self, context: Context, id: str, old: Values, outputs: Values, inputs: Values) -> Values:
        raise NotImplementedError

    def delete(self, context: Context, id: str, outputs: Values) -> None:
        raise NotImplementedError


SIMPLE: Any = Simple()
