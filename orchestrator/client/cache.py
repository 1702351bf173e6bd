"""An informer's cache: the objects last seen, by key and by index.

Objects are shared by everyone who reads the cache and must never be changed: whoever wants another object makes a copy.
An index is a function from an object to the values under which it is found; it is kept as objects come and go, so that
asking costs what the answer holds. Order is that of arrival, the same in every run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from orchestrator.api import meta
from orchestrator.api.meta import Object

Indexer = Callable[[Object], Iterable[str]]
Objects = list[Object]
Keys = list[str]


def by_namespace(obj: Object) -> Iterable[str]:
    return (meta.namespace(obj),)


def by_controller(obj: Object) -> Iterable[str]:
    """The uid of the controller that an object has, if any."""
    reference = meta.controller_of(obj)
    return (reference["uid"],) if reference else ()


class Cache:
    """Objects by key, with the indexes that were asked for."""

    def __init__(self) -> None:
        self._objects: dict[str, Object] = {}
        self._indexers: dict[str, Indexer] = {}
        self._indexes: dict[str, dict[str, dict[str, Object]]] = {}

    def __len__(self) -> int:
        return len(self._objects)

    def __contains__(self, key: str) -> bool:
        return key in self._objects

    def get(self, key: str) -> Object | None:
        return self._objects.get(key)

    def list(self) -> Objects:
        return list(self._objects.values())

    def keys(self) -> Keys:
        return [*self._objects]

    def by_index(self, index: str, value: str) -> Objects:
        return list(self._indexes[index].get(value, {}).values())

    def index_values(self, index: str) -> Keys:
        """The values that at least one object has."""
        return [*self._indexes[index]]

    def add_index(self, index: str, indexer: Indexer) -> None:
        """Adds an index; one of that name that is there already stays as it is."""
        if index in self._indexers:
            return
        self._indexers[index] = indexer
        self._indexes[index] = {}
        for key, obj in self._objects.items():
            self._enter(index, indexer, key, obj)

    def put(self, key: str, obj: Object) -> Object | None:
        """Stores an object; returns the one that it replaces."""
        old = self._objects.get(key)
        self._objects[key] = obj
        for index, indexer in self._indexers.items():
            if old is not None:
                self._leave(index, indexer, key, old, set(indexer(obj)))
            self._enter(index, indexer, key, obj)
        return old

    def remove(self, key: str) -> Object | None:
        old = self._objects.pop(key, None)
        if old is not None:
            for index, indexer in self._indexers.items():
                self._leave(index, indexer, key, old, set())
        return old

    def _enter(self, index: str, indexer: Indexer, key: str, obj: Object) -> None:
        for value in indexer(obj):
            self._indexes[index].setdefault(value, {})[key] = obj

    def _leave(self, index: str, indexer: Indexer, key: str, obj: Object, kept: set[str]) -> None:
        for value in indexer(obj):
            if value in kept:
                continue
            found = self._indexes[index].get(value)
            if found is not None:
                found.pop(key, None)
                if not found:
                    del self._indexes[index][value]
