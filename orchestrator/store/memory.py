"""The store in memory: for tests and simulation. Every write is done and delivered before its call returns.

Each key keeps its versions since compaction, oldest first; the log keeps the events in order of revision.
"""

from __future__ import annotations

import bisect
from itertools import islice

from orchestrator.api.clock import Clock, SystemClock
from orchestrator.store.broadcast import Broadcast
from orchestrator.store.expiry import Expiry
from orchestrator.store.heads import FIRST_REVISION, Heads, Write
from orchestrator.store.interface import Cancel, Compacted, Event, FutureRevision, Item, Page, Sink, prefix_end


class MemoryStore:
    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._heads = Heads()
        self._compacted = FIRST_REVISION
        self._keys: list[str] = []  # sorted; also keys whose last version is a deletion, until compaction
        self._versions: dict[str, list[Write]] = {}
        self._log: list[Write] = []
        self._broadcast = Broadcast()
        self._expiry = Expiry(self._clock, lambda key, revision: self.delete(key, expected=revision))

    @property
    def revision(self) -> int:
        return self._heads.revision

    @property
    def compacted(self) -> int:
        return self._compacted

    @property
    def failure(self) -> str | None:
        return None

    @property
    def is_shared(self) -> bool:
        return False

    async def latest_revision(self) -> int:
        return self.revision

    async def get(self, key: str) -> Item | None:
        return self._at(key, self.revision)

    async def range(self, prefix: str, *, revision: int = 0, after: str = "", limit: int = 0) -> Page:
        revision = revision or self.revision
        self._check(revision)
        low = bisect.bisect_right(self._keys, after) if after > prefix else bisect.bisect_left(self._keys, prefix)
        high = bisect.bisect_left(self._keys, prefix_end(prefix))
        found = (self._at(key, revision) for key in self._keys[low:high])
        items = [item for item in found if item is not None]
        page = items[:limit] if limit else items
        return Page(page, revision, len(items) - len(page))

    async def history(self, prefix: str, *, after: int, limit: int) -> list[Event]:
        self._check(after)
        start = bisect.bisect_right(self._log, after, key=lambda write: write.revision)
        wanted = (write for write in self._log[start:] if write.key.startswith(prefix))
        return [self._replayed(write) for write in islice(wanted, limit)]

    async def create(self, key: str, value: bytes, *, ttl_s: float = 0) -> int:
        return self._commit(self._heads.create(key, value, self._expires(ttl_s)))

    async def update(self, key: str, value: bytes, *, expected: int, ttl_s: float = 0) -> int:
        return self._commit(self._heads.update(key, value, expected, self._expires(ttl_s)))

    async def delete(self, key: str, *, expected: int) -> int:
        return self._commit(self._heads.delete(key, expected))

    async def watch(self, prefix: str, *, after: int, sink: Sink) -> Cancel:
        self._check(after)
        watch = self._broadcast.add(prefix, sink, replaying=False)
        if old := await self.history(prefix, after=after, limit=len(self._log) + 1):
            sink(old)
        return lambda: self._broadcast.remove(watch)

    async def compact(self, revision: int) -> None:
        self._check(revision)
        self._compacted = max(self._compacted, revision)
        self._log = [write for write in self._log if write.revision > revision]
        for key in list(self._keys):
            versions = self._versions[key]
            kept = bisect.bisect_right(versions, revision, key=lambda write: write.revision) - 1
            del versions[: max(kept, 0)]
            if versions[0].value is None and versions[0].revision <= revision:
                del versions[0]
            if not versions:
                del self._versions[key]
                self._keys.remove(key)

    async def close(self) -> None:
        await self._expiry.close()

    def _expires(self, ttl_s: float) -> float:
        return self._clock.now() + ttl_s if ttl_s else 0

    def _check(self, revision: int) -> None:
        if revision < self._compacted:
            raise Compacted(revision, self._compacted)
        if revision > self.revision:
            raise FutureRevision(revision, self.revision)

    def _at(self, key: str, revision: int) -> Item | None:
        versions = self._versions.get(key, [])
        place = bisect.bisect_right(versions, revision, key=lambda write: write.revision) - 1
        if place < 0:
            return None
        write = versions[place]
        return None if write.value is None else Item(key, write.value, write.revision, write.created)

    def _replayed(self, write: Write) -> Event:
        before = self._at(write.key, write.previous) if write.previous else None
        value = before.value if before else None
        return Event(write.key, write.value, write.revision, write.created, write.previous, value)

    def _commit(self, write: Write) -> int:
        if write.key not in self._versions:
            bisect.insort(self._keys, write.key)
            self._versions[write.key] = []
        self._versions[write.key].append(write)
        self._log.append(write)
        if write.expires:
            self._expiry.add(write.key, write.revision, write.expires)
        self._broadcast.deliver([Event(write.key, write.value, write.revision, write.created, write.previous)])
        return write.revision
