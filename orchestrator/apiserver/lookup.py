"""What server-side rules may see of the cluster: the watch cache, read without waiting.

Authentication, authorization, admission and allocation each depend on objects other than the one in the request. They
read them here, from memory; an object handed out is shared and must not be changed. `subscribe` first replays every
object that is present as `handler(None, object)`, then every change in the order of revisions as `handler(old, new)`
(`new` is None for a deletion), always from the event loop; handlers are quick and never raise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.api.resources import Resource

Handler = Callable[[Object | None, Object | None], None]


class Lookup(Protocol):
    def get(self, resource: Resource, namespace: str, name: str) -> Object | None: ...

    def list(self, resource: Resource, namespace: str = "") -> Iterable[Object]:
        """All objects of a namespace, or of all namespaces where it is ""."""
        ...

    def subscribe(self, resource: Resource, handler: Handler) -> None: ...


class MemoryLookup:
    """A Lookup over a dictionary, for tests: `put` and `remove` tell the subscribers at once."""

    def __init__(self) -> None:
        self._objects: dict[tuple[Resource, str, str], Object] = {}
        self._handlers: dict[Resource, list[Handler]] = {}

    def put(self, resource: Resource, obj: Object) -> Object:
        place = (resource, meta.namespace(obj), meta.name(obj))
        old, self._objects[place] = self._objects.get(place), obj
        self._tell(resource, old, obj)
        return obj

    def remove(self, resource: Resource, namespace: str, name: str) -> None:
        self._tell(resource, self._objects.pop((resource, namespace, name)), None)

    def get(self, resource: Resource, namespace: str, name: str) -> Object | None:
        return self._objects.get((resource, namespace, name))

    def list(self, resource: Resource, namespace: str = "") -> Iterable[Object]:
        wanted = [place for place in self._objects if place[0] == resource and namespace in ("", place[1])]
        return [self._objects[place] for place in wanted]

    def subscribe(self, resource: Resource, handler: Handler) -> None:
        self._handlers.setdefault(resource, []).append(handler)
        for obj in self.list(resource):
            handler(None, obj)

    def _tell(self, resource: Resource, old: Object | None, new: Object | None) -> None:
        for handler in self._handlers.get(resource, []):
            handler(old, new)
