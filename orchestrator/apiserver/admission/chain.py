"""The admission chain: plugins in a fixed order, mutating ones first, then, on the final object, validating ones.

A plugin says what it wants to see: operations, and resources as `pods` or `pods/status` ("*" for all that are no
subresource). Which plugins meet a request is worked out once for each (operation, resource) and kept.
Source: Kubernetes docs, "Admission Control"; the order is kube-apiserver's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from time import perf_counter
from typing import Protocol, TypeVar

from orchestrator.api import meta
from orchestrator.api.status import ApiError, Cause, Forbidden, forbidden
from orchestrator.apiserver.admission.timing import Timing
from orchestrator.apiserver.request import Attributes

ANY, EVERY = "*", "*/*"  # every resource; every subresource


class Plugin(Protocol):
    @property
    def operations(self) -> Sequence[str]:
        """Of CREATE, UPDATE, DELETE, CONNECT."""
        ...

    @property
    def resources(self) -> Sequence[str]:
        """Of `plural.group`, `plural.group/subresource` and "*"."""
        ...


class Mutating(Plugin, Protocol):
    async def mutate(self, attributes: Attributes) -> None: ...


class Validating(Plugin, Protocol):
    async def validate(self, attributes: Attributes) -> None: ...


P = TypeVar("P", bound=Plugin)
Step = Callable[[Attributes], Awaitable[None]]


class Chain:
    def __init__(self, mutating: Sequence[Mutating], validating: Sequence[Validating]) -> None:
        self._mutating = tuple(mutating)
        self._validating = tuple(validating)
        self._mutating_for: dict[tuple[str, str], list[Mutating]] = {}
        self._validating_for: dict[tuple[str, str], list[Validating]] = {}
        self.timing = Timing()

    async def mutate(self, attributes: Attributes) -> None:
        plugins = _interested(self._mutating, self._mutating_for, attributes)
        await self._in_turn("admit", [(plugin, plugin.mutate) for plugin in plugins], attributes)

    async def validate(self, attributes: Attributes) -> None:
        plugins = _interested(self._validating, self._validating_for, attributes)
        await self._in_turn("validate", [(plugin, plugin.validate) for plugin in plugins], attributes)

    async def _in_turn(self, kind: str, plugins: Iterable[tuple[object, Step]], attributes: Attributes) -> None:
        passed, refused = (kind, attributes.operation, False), (kind, attributes.operation, True)
        started = before = perf_counter()
        for plugin, step in plugins:
            try:
                await step(attributes)
            except ApiError:
                now = perf_counter()
                self.timing.plugin(plugin, refused, now - before)
                self.timing.step(refused, now - started)
                raise
            now = perf_counter()
            self.timing.plugin(plugin, passed, now - before)
            before = now
        self.timing.step(passed, before - started)


def _interested(plugins: Sequence[P], known: dict[tuple[str, str], list[P]], attributes: Attributes) -> list[P]:
    resource = attributes.group_resource
    place = f"{resource}/{attributes.subresource}" if attributes.subresource else resource
    key = (attributes.operation, place)
    found = known.get(key)
    if found is None:
        found = known[key] = [
            plugin
            for plugin in plugins
            if attributes.operation in plugin.operations
            and (place in plugin.resources or (EVERY if attributes.subresource else ANY) in plugin.resources)
        ]
    return found


def name_of(attributes: Attributes) -> str:
    """How a message names the object of a write whose name may be yet to come."""
    metadata = meta.metadata(attributes.object or attributes.old_object or {})
    return attributes.name or metadata.get("name") or metadata.get("generateName") or "Unknown"


def refuse(attributes: Attributes, why: str, causes: Sequence[Cause] = ()) -> ApiError:
    """403: `pods "web" is forbidden: …`."""
    error: Forbidden = forbidden(attributes.group, attributes.resource, name_of(attributes), why)
    error.causes = tuple(causes)
    return error
