"""Read, change, compare-and-swap: how the server itself changes an object that somebody else may be changing too.

The change is a pure function of the object as it is now; when another write was quicker it is asked again. It returns
the object to store, None to delete it, or raises an ApiError to leave it. No admission and no validation follow: the
callers change single fields that clients may not.
Errors: NotFound, and whatever the change raises.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from orchestrator.api.meta import Object
from orchestrator.api.resources import Resource
from orchestrator.api.status import conflict, not_found
from orchestrator.apiserver import encoding
from orchestrator.apiserver.watchcache import WatchCache
from orchestrator.store.interface import RevisionMismatch, Store

ATTEMPTS_MAX = 100

Change = Callable[[Object], Object | None]


class Rewriter(Protocol):
    async def rewrite(self, resource: Resource, namespace: str, name: str, change: Change) -> Object:
        """The object as stored now; for a deletion, as it last was."""
        ...


class StoreRewriter:
    def __init__(self, store: Store, cache: WatchCache) -> None:
        self._store = store
        self._cache = cache

    async def rewrite(self, resource: Resource, namespace: str, name: str, change: Change) -> Object:
        cache = self._cache.of(resource)
        for _ in range(ATTEMPTS_MAX):
            entry = cache.get(namespace, name)
            if entry is None:
                raise not_found(resource.group, resource.plural, name)
            new = change(encoding.decode(entry.data))
            try:
                if new is None:
                    await self._store.delete(entry.key, expected=entry.revision)
                    return encoding.decode(entry.data)
                value = encoding.encode(resource, new)
                if encoding.with_revision(value, cache.head, entry.revision) == entry.data:
                    return new
                revision = await self._store.update(entry.key, value, expected=entry.revision)
            except RevisionMismatch:
                await self._cache.moved_past(cache, entry)
                continue
            return {**new, "metadata": {**new["metadata"], "resourceVersion": str(revision)}}
        raise conflict(resource.group, resource.plural, name, "the object is being changed too often")


class MemoryRewriter:
    """A Rewriter over a dictionary, for tests."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], Object] = {}

    async def rewrite(self, resource: Resource, namespace: str, name: str, change: Change) -> Object:
        place = (resource.group_resource, namespace, name)
        if place not in self.objects:
            raise not_found(resource.group, resource.plural, name)
        old = self.objects[place]
        new = change(old)
        if new is None:
            return self.objects.pop(place)
        self.objects[place] = new
        return new
