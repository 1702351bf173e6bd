"""Lookup over the watch cache: objects decoded when asked for, changes as they are applied.

A subscription starts with what is there, so it is made after the cache is loaded.
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.api.meta import Object
from orchestrator.api.resources import Resource
from orchestrator.apiserver import encoding
from orchestrator.apiserver.lookup import Handler
from orchestrator.apiserver.resourcecache import Change, Entry
from orchestrator.apiserver.watchcache import WatchCache

DECODED_MAX = 256


class CachedLookup:
    """`get` keeps what it decoded last (DECODED_MAX): admission asks for the same few accounts and namespaces."""

    def __init__(self, cache: WatchCache) -> None:
        self._cache = cache
        self._decoded: dict[str, tuple[Entry, Object]] = {}

    def get(self, resource: Resource, namespace: str, name: str) -> Object | None:
        entry = self._cache.of(resource).get(namespace, name)
        if entry is None:
            return None
        found = self._decoded.get(entry.key)
        if found is not None and found[0] is entry:
            return found[1]
        if len(self._decoded) >= DECODED_MAX:
            self._decoded.clear()
        obj = encoding.decode(entry.data)
        self._decoded[entry.key] = (entry, obj)
        return obj

    def list(self, resource: Resource, namespace: str = "") -> Iterable[Object]:
        return (encoding.decode(entry.data) for entry in self._cache.of(resource).range(namespace))

    def subscribe(self, resource: Resource, handler: Handler) -> None:
        def listen(change: Change) -> None:
            old = encoding.decode(change.previous.data) if change.previous else None
            new = encoding.decode(change.entry.data) if change.entry else None
            handler(old, new)

        for obj in self.list(resource):
            handler(None, obj)
        self._cache.listen(resource, listen)
