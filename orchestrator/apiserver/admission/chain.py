"""The admission chain: plugins in a fixed order, mutating ones first, then, on the final object, validating ones.

A plugin says what it wants to see: operations, and resources as `pods` or `pods/status` ("*" for all that are no
subresource). Which plugins meet a request is worked out once for each (operation, resource) and kept.
Source: Kubernetes docs, "Admission Control"; the order is kube-apiserver's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from time import perf_counter
from typing import Protocol

from msgspec import Struct

from orchestrator.api import meta
from orchestrator.api.histogram import Histogram
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


class Turn(Struct):
    """One plugin's part in a step, and the histogram of how long it took where it did not refuse."""

    plugin: object
    run: Callable[[Attributes], Awaitable[None]]
    passed: Histogram


class Course(Struct):
    """What a step does for one (operation, resource): plugins in their order, and how long all of them took."""

    turns: list[Turn]
    passed: Histogram


class Chain:
    """`timing` may be shared with plugins that have more to tell."""

    def __init__(
        self, mutating: Sequence[Mutating], validating: Sequence[Validating], timing: Timing | None = None
    ) -> None:
        self._mutating = tuple(mutating)
        self._validating = tuple(validating)
        self._courses: dict[tuple[str, str, str], Course] = {}
        self.timing = timing or Timing()

    async def mutate(self, attributes: Attributes) -> None:
        await self._run("admit", attributes)

    async def validate(self, attributes: Attributes) -> None:
        await self._run("validate", attributes)

    async def _run(self, kind: str, attributes: Attributes) -> None:
        resource = attributes.group_resource
        place = f"{resource}/{attributes.subresource}" if attributes.subresource else resource
        key = (kind, attributes.operation, place)
        course = self._courses.get(key)
        if course is None:
            course = self._courses[key] = self._course(kind, attributes.operation, place)
        started = before = perf_counter()
        for turn in course.turns:
            try:
                await turn.run(attributes)
            except ApiError:
                refused, now = (kind, attributes.operation, True), perf_counter()
                self.timing.plugin(turn.plugin, refused).observe(now - before)
                self.timing.step(refused).observe(now - started)
                raise
            now = perf_counter()
            turn.passed.observe(now - before)
            before = now
        course.passed.observe(before - started)

    def _course(self, kind: str, operation: str, place: str) -> Course:
        step = (kind, operation, False)
        turns: list[Turn] = []
        if kind == "admit":
            turns = [
                Turn(one, one.mutate, self.timing.plugin(one, step))
                for one in self._mutating
                if _sees(one, operation, place)
            ]
        else:
            turns = [
                Turn(one, one.validate, self.timing.plugin(one, step))
                for one in self._validating
                if _sees(one, operation, place)
            ]
        return Course(turns, self.timing.step(step))


def _sees(plugin: Plugin, operation: str, place: str) -> bool:
    every = EVERY if "/" in place else ANY
    return operation in plugin.operations and (place in plugin.resources or every in plugin.resources)


def name_of(attributes: Attributes) -> str:
    """How a message names the object of a write whose name may be yet to come."""
    metadata = meta.metadata(attributes.object or attributes.old_object or {})
    return attributes.name or metadata.get("name") or metadata.get("generateName") or "Unknown"


def refuse(attributes: Attributes, why: str, causes: Sequence[Cause] = ()) -> ApiError:
    """403: `pods "web" is forbidden: …`."""
    error: Forbidden = forbidden(attributes.group, attributes.resource, name_of(attributes), why)
    error.causes = tuple(causes)
    return error
