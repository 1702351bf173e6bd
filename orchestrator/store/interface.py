"""What the API server needs of a store: etcd's model, in etcd's words.

The store is a log of revisions. One counter, the **revision**, orders all writes of all keys; every write is a
compare-and-swap on the revision that last wrote its key. Any revision that is not yet **compacted** can be listed or
watched from. Keys are text, sorted by code point; `prefix` selects a range. A key may carry a time to live.

Promises, the same for every implementation (tests/unit/store/contract.py states them as a table):
- a write that returned is durable, and it was delivered to every watch before it returned;
- a watch gets every event after its revision once, in order, in one batch for each commit;
- a failed write leaves no trace; a new store is at revision 1.

Errors: KeyExists, RevisionMismatch (someone wrote first, or the key is gone: revision 0), Compacted, FutureRevision,
StoreFailed (the disk refuses; nothing of that write is visible), NotSealed (it could not be encrypted).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec import Struct


class StoreError(Exception):
    """The tree of a store's errors."""


class KeyExists(StoreError):
    def __init__(self, key: str) -> None:
        super().__init__(f"key {key} exists")
        self.key = key


class RevisionMismatch(StoreError):
    """`actual` is the revision that last wrote the key, 0 where there is no such key."""

    def __init__(self, key: str, expected: int, actual: int) -> None:
        super().__init__(f"key {key} is at revision {actual}, not {expected}")
        self.key, self.expected, self.actual = key, expected, actual


class Compacted(StoreError):
    """The revision asked for is no longer kept; `oldest` still is."""

    def __init__(self, revision: int, oldest: int) -> None:
        super().__init__(f"revision {revision} is compacted, the oldest kept is {oldest}")
        self.revision, self.oldest = revision, oldest


class FutureRevision(StoreError):
    def __init__(self, revision: int, latest: int) -> None:
        super().__init__(f"revision {revision} is in the future, the latest is {latest}")
        self.revision, self.latest = revision, latest


class StoreFailed(StoreError):
    """A write could not be made durable."""


class NotSealed(StoreError):
    """A value could not be encrypted for the store; nothing was written."""


class Item(Struct, frozen=True):
    """A key's value and the revisions that last wrote and first created it."""

    key: str
    value: bytes
    revision: int
    create_revision: int


class Page(Struct, frozen=True):
    """Items in key order, as of `revision`; `remaining` counts the keys of the range after the last one."""

    items: list[Item]
    revision: int
    remaining: int


class Event(Struct, frozen=True):
    """One write. `value` is None for a deletion; `previous` is the revision that it replaced, 0 for a creation.
    `previous_value` is there in a replay of history; a live event leaves it None, its watcher has seen it."""

    key: str
    value: bytes | None
    revision: int
    create_revision: int
    previous: int
    previous_value: bytes | None = None


Sink = Callable[[Sequence[Event]], None]
Cancel = Callable[[], None]


class Store(Protocol):
    @property
    def revision(self) -> int:
        """The latest revision that watches have been given."""
        ...

    @property
    def compacted(self) -> int:
        """Revisions below this one cannot be read any more."""
        ...

    @property
    def failure(self) -> str | None:
        """Why writes are refused, None while they are not."""
        ...

    @property
    def is_shared(self) -> bool:
        """Whether others write to it, whom this server's cache follows behind."""
        ...

    async def latest_revision(self) -> int:
        """The revision of the last write acknowledged by anyone before this call: what makes a cached read current."""
        ...

    async def get(self, key: str) -> Item | None: ...

    async def range(self, prefix: str, *, revision: int = 0, after: str = "", limit: int = 0) -> Page:
        """The range as of `revision` (0: now), from the first key greater than `after`; no limit where it is 0."""
        ...

    async def history(self, prefix: str, *, after: int, limit: int) -> list[Event]:
        """The first `limit` events of the range with a revision greater than `after`."""
        ...

    async def create(self, key: str, value: bytes, *, ttl_s: float = 0) -> int: ...

    async def update(self, key: str, value: bytes, *, expected: int, ttl_s: float = 0) -> int: ...

    async def delete(self, key: str, *, expected: int) -> int: ...

    async def watch(self, prefix: str, *, after: int, sink: Sink) -> Cancel:
        """Calls `sink` on the event loop with each batch of events after `after`, old ones first, without a gap."""
        ...

    async def compact(self, revision: int) -> None:
        """Forgets what only revisions below `revision` need."""
        ...

    async def close(self) -> None: ...


def prefix_end(prefix: str) -> str:
    """The first key after every key that starts with `prefix` (keys are of the Basic Multilingual Plane)."""
    return prefix + "\uffff"
