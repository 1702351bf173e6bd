"""A verb: its arguments as a strict record, and the coroutine that carries it out.

Arguments are decoded by msgspec: unknown fields, wrong types and values outside their pattern are refused before any
code of the verb runs. Errors: PorterError, whose text is the answer; the kubelet puts it into events.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import msgspec
from msgspec import Struct, field

UID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9-]{0,62}$"
LABEL_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"

PodUID = Annotated[str, msgspec.Meta(pattern=UID_PATTERN)]
Label = Annotated[str, msgspec.Meta(pattern=LABEL_PATTERN)]  # a DNS label: names of volumes and containers
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]


class PorterError(Exception):
    """The verb was refused or failed; the text says why."""


class PodArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What every verb about a pod carries. `pod` (`namespace/name`) is needed for static pods only, which are found by
    name in their manifests folder."""

    uid: PodUID
    pod: str = ""


class Answer(Struct, frozen=True):
    """The result, and file descriptors that travel with it (they are closed once sent)."""

    result: dict[str, Any] = field(default_factory=dict)
    descriptors: tuple[int, ...] = ()


class Verb(Struct, frozen=True):
    arguments: type[msgspec.Struct]
    act: Callable[[Any], Awaitable[Answer]]

    async def run(self, request: dict[str, Any]) -> Answer:
        try:
            arguments = msgspec.convert(request, self.arguments)
        except msgspec.ValidationError as error:
            raise PorterError(f"bad arguments: {error}") from error
        return await self.act(arguments)
