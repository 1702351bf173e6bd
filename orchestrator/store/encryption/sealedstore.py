"""A Store whose values are sealed in the one beneath.

Values that are read are opened at once where their key is known. A value of another server may be sealed with a data
key that a service has to be asked for: a read waits for it, and what a watch brings is held back, in order, until it is
opened, as is the answer to a write that came after it. So the promises of a store hold: a watch gets every event in
order, a write is delivered before it is acknowledged, and `revision` is what watches were given. A service that does
not answer, or a key that this server does not have (yet: a configuration may be reloaded), is asked again every AGAIN_S
seconds, and `failure` says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence

from msgspec.structs import replace

from orchestrator.store.encryption.ciphers import NotOpened
from orchestrator.store.encryption.configuration import Encryption
from orchestrator.store.encryption.grpc_call import GrpcError
from orchestrator.store.encryption.kms import UnknownDataKey
from orchestrator.store.interface import Cancel, Event, Item, Page, Sink, Store, StoreFailed

log = logging.getLogger(__name__)

AGAIN_S = 1.0


class EncryptedStore:
    """`encryption` may be replaced while it is used."""

    def __init__(self, store: Store, encryption: Encryption) -> None:
        self.encryption = encryption
        self._store = store
        self._watches: set[_Watch] = set()

    @property
    def revision(self) -> int:
        return min([self._store.revision, *(watch.shown for watch in self._watches if watch.is_holding)])

    @property
    def compacted(self) -> int:
        return self._store.compacted

    @property
    def failure(self) -> str | None:
        failures = [watch.failure for watch in self._watches if watch.failure]
        return failures[0] if failures else self._store.failure

    @property
    def is_shared(self) -> bool:
        return self._store.is_shared

    async def latest_revision(self) -> int:
        return await self._store.latest_revision()

    async def get(self, key: str) -> Item | None:
        found = await self._store.get(key)
        return await self._item(found) if found is not None else None

    async def range(self, prefix: str, *, revision: int = 0, after: str = "", limit: int = 0) -> Page:
        page = await self._store.range(prefix, revision=revision, after=after, limit=limit)
        return Page([await self._item(item) for item in page.items], page.revision, page.remaining)

    async def history(self, prefix: str, *, after: int, limit: int) -> list[Event]:
        events = await self._store.history(prefix, after=after, limit=limit)
        return [await self.opened_event(event) for event in events]

    async def create(self, key: str, value: bytes, *, ttl_s: float = 0) -> int:
        revision = await self._store.create(key, self.encryption.seal(key, value), ttl_s=ttl_s)
        return await self._delivered(revision)

    async def update(self, key: str, value: bytes, *, expected: int, ttl_s: float = 0) -> int:
        sealed = self.encryption.seal(key, value)
        return await self._delivered(await self._store.update(key, sealed, expected=expected, ttl_s=ttl_s))

    async def delete(self, key: str, *, expected: int) -> int:
        return await self._delivered(await self._store.delete(key, expected=expected))

    async def watch(self, prefix: str, *, after: int, sink: Sink) -> Cancel:
        watch = _Watch(self, sink, after)
        cancel = await self._store.watch(prefix, after=after, sink=watch.take)
        self._watches.add(watch)

        def ended() -> None:
            cancel()
            watch.end()
            self._watches.discard(watch)

        return ended

    async def compact(self, revision: int) -> None:
        await self._store.compact(revision)

    async def close(self) -> None:
        for watch in self._watches:
            watch.end()
        await self._store.close()

    async def _delivered(self, revision: int) -> int:
        for watch in list(self._watches):
            await watch.delivered(revision)
        return revision

    async def _item(self, item: Item) -> Item:
        return replace(item, value=await self._opened(item.key, item.value))

    async def opened_event(self, event: Event) -> Event:
        value, before = event.value, event.previous_value
        return replace(
            event,
            value=await self._opened(event.key, value) if value is not None else None,
            previous_value=await self._opened(event.key, before) if before is not None else None,
        )

    def opened_now(self, event: Event) -> Event:
        """Errors: StoreFailed, UnknownDataKey."""
        opened, value, before = self.encryption.open, event.value, event.previous_value
        return replace(
            event,
            value=opened(event.key, value) if value is not None else None,
            previous_value=opened(event.key, before) if before is not None else None,
        )

    async def _opened(self, key: str, value: bytes) -> bytes:
        """Errors: StoreFailed."""
        while True:
            try:
                return self.encryption.open(key, value)
            except UnknownDataKey as unknown:
                try:
                    await unknown.provider.learn(unknown.data_key)
                except (GrpcError, NotOpened) as error:
                    raise StoreFailed(f"{key}: failed to decrypt DEK, error: {error}") from error


class _Watch:
    """What one watch is given, opened and in order; `held` waits for keys."""

    def __init__(self, store: EncryptedStore, sink: Sink, after: int) -> None:
        self._store = store
        self._sink = sink
        self._held: deque[Sequence[Event]] = deque()
        self._opening: asyncio.Task[None] | None = None
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self.shown = after
        self.failure: str | None = None

    @property
    def is_holding(self) -> bool:
        return bool(self._held)

    def take(self, events: Sequence[Event]) -> None:
        if not self._held:
            try:
                self._show([self._store.opened_now(event) for event in events])
                return
            except (UnknownDataKey, StoreFailed):
                self._opening = asyncio.get_running_loop().create_task(self._open_held())
        self._held.append(events)

    async def _open_held(self) -> None:
        while self._held:
            try:
                opened = [await self._store.opened_event(event) for event in self._held[0]]
            except StoreFailed as error:
                self.failure = str(error)
                log.error("a value cannot be opened; all that follow wait for it", extra={"error": str(error)})
                await asyncio.sleep(AGAIN_S)
                continue
            self.failure = None
            self._held.popleft()
            self._show(opened)

    def _show(self, events: Sequence[Event]) -> None:
        if events:
            self.shown = events[-1].revision
            self._sink(events)
        if self._waiting:
            waiting = self._waiting
            self._waiting = [one for one in waiting if self._is_behind(one[0])]
            for revision, shown in waiting:
                if not self._is_behind(revision) and not shown.done():
                    shown.set_result(None)

    def _is_behind(self, revision: int) -> bool:
        return self.is_holding and self.shown < revision

    async def delivered(self, revision: int) -> None:
        """Returns once nothing is held back up to `revision`."""
        if self._is_behind(revision):
            shown: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((revision, shown))
            await shown

    def end(self) -> None:
        if self._opening is not None:
            self._opening.cancel()
        for _, shown in self._waiting:
            if not shown.done():
                shown.set_result(None)
