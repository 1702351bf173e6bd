"""Expectations: a controller does not decide again before its cache shows what it did last.

Of a creation the resource version is kept: the cache has seen it once the informer has followed beyond that revision
(resource versions of one resource can be compared, KEP-5504). Of a deletion the uid is kept, until the object is
deleting or gone. A controller that finds its expectations open returns; the awaited events wake it, and as the event
may have been lost in a relist, it also looks again after `RECHECK_S`. A deletion that has no effect for `EXPIRY_S` is
waited for no longer. Source: client-go controller expectations.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.client.informer import Informer

RECHECK_S = 5.0
EXPIRY_S = 300.0


class Expectations:
    """What is still to be seen in one informer, by the key of the controlling object."""

    def __init__(self, informer: Informer) -> None:
        self._informer = informer
        self._revisions: dict[str, int] = {}
        self._deletions: dict[str, dict[str, tuple[str, float]]] = {}  # key → uid → (key of the object, since when)

    def written(self, key: str, obj: Object) -> None:
        """An object was created or changed by the controller of `key`."""
        self._revisions[key] = max(self._revisions.get(key, 0), revision(meta.resource_version(obj)))

    def deleting(self, key: str, objects: Iterable[Object]) -> None:
        now = asyncio.get_running_loop().time()
        self._deletions.setdefault(key, {}).update({meta.uid(obj): (meta.key(obj), now) for obj in objects})

    def not_deleted(self, key: str, obj: Object) -> None:
        """A deletion failed after all."""
        self._deletions.get(key, {}).pop(meta.uid(obj), None)

    def are_met(self, key: str) -> bool:
        if self._revisions.get(key, 0) > revision(self._informer.resource_version):
            return False
        pending = self._deletions.get(key)
        if pending:
            expired = asyncio.get_running_loop().time() - EXPIRY_S
            for uid, (name, since) in list(pending.items()):
                seen = self._informer.cache.get(name)
                if seen is None or meta.uid(seen) != uid or meta.is_deleting(seen) or since < expired:
                    del pending[uid]
            if pending:
                return False
        self.forget(key)
        return True

    def forget(self, key: str) -> None:
        self._revisions.pop(key, None)
        self._deletions.pop(key, None)


def revision(text: str) -> int:
    """A resource version as a number; one that is none is never waited for."""
    return int(text) if text.isdecimal() else 0
