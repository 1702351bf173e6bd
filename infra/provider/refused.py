"""Ignition and Combustion: first-boot data of systems that the labs do not run. Refused, with what to use instead."""

from __future__ import annotations

from typing import Any

import msgspec

from infra.provider.properties import Values
from infra.provider.resource import Context, Failure, ProviderError


class Inputs(msgspec.Struct, rename="camel", frozen=True, forbid_unknown_fields=True):
    content: str = ""
    name: str = ""
    pool: str = "default"


class _Refused:
    inputs = Inputs
    defaults: dict[str, Any] = {}
    replaces: frozenset[str] = frozenset()
    replaces_if_unknown: frozenset[str] = frozenset()
    computed: frozenset[str] = frozenset()
    secret: frozenset[str] = frozenset({"content"})
    token = ""
    word = ""

    @property
    def reason(self) -> str:
        return f"{self.word} is not provided: use CloudInitDisk, or a Volume with the file as its source"

    def normalize(self, inputs: Values) -> Values:
        return inputs

    def check(self, inputs: Values, old: Values) -> list[Failure]:
        return [Failure("name", self.reason)]

    def consequences(self, changed: frozenset[str], old: Values, new: Values) -> list[str]:
        return []

    def create(self, context: Context, inputs: Values) -> tuple[str, Values]:
        raise ProviderError(self.reason)

    def read(self, context: Context, id: str, inputs: Values, outputs: Values) -> tuple[str, Values, Values] | None:
        raise ProviderError(self.reason)

    def update(self, context: Context, id: str, old: Values, outputs: Values, inputs: Values) -> Values:
        raise ProviderError(self.reason)

    def delete(self, context: Context, id: str, outputs: Values) -> None:
        raise ProviderError(self.reason)


class Ignition(_Refused):
    token = "libvirt:index/ignition:Ignition"
    word = "Ignition"


class Combustion(_Refused):
    token = "libvirt:index/combustion:Combustion"
    word = "Combustion"
