"""The watch cache: every object as bytes, in memory, and what changed lately. The heart of the server.

It is fed by one watch of the store, in the order of revisions, before a write is acknowledged: so a read from here sees
every write that anyone was told of. What it holds of one resource, and who is told of its changes, is resourcecache.py.
A watch that starts within a resource's window is served from memory; one that starts earlier reads the store's history
first. Expected: 5,000 Pods × 4.4 KB = 22 MB.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

from orchestrator.api.resources import Resource
from orchestrator.api.status import ApiError
from orchestrator.apiserver.resourcecache import Change, Complete, Entry, Observer, ResourceCache
from orchestrator.apiserver.selection import Picker
from orchestrator.store.interface import Event, Store, StoreFailed

log = logging.getLogger(__name__)

TOGETHER_MIN = 16  # watchers of one batch: above, events wait TOGETHER_S for more
TOGETHER_S = 0.004
MOVE_WAIT_S = 2.0
CONVERT_AGAIN_S = 1.0


class WatchCache:
    """The caches of all stored resources, and the one watch that feeds them."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.revision = 0
        self._caches: dict[str, ResourceCache] = {}  # by group_resource
        self._missed: dict[str, list[Event]] = {}  # what happens to those that are being loaded
        self._moved: asyncio.Future[None] | None = None
        self._listeners: dict[str, list[Callable[[Change], None]]] = {}
        self._unflushed: dict[Observer, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, resource: Resource, extra_fields: tuple[str, ...] = ()) -> ResourceCache:
        """The cache of a resource; several served versions share the one of the stored version."""
        found = self._caches.get(resource.group_resource)
        if found is None:
            found = ResourceCache(resource, Picker(resource.group_resource, extra_fields))
            self._caches[resource.group_resource] = found
        return found

    def of(self, resource: Resource) -> ResourceCache:
        return self._caches[resource.group_resource]

    def caches(self) -> list[ResourceCache]:
        return list(self._caches.values())

    def listen(self, resource: Resource, listener: Callable[[Change], None]) -> None:
        """Calls `listener` with each change from now on, before watches are sent it."""
        self._listeners.setdefault(resource.group_resource, []).append(listener)

    async def start(self) -> None:
        """Loads what the store holds and follows it from there."""
        page = await self.store.range("")
        for item in page.items:
            cache = self._caches.get(item.key.partition("/")[0])
            if cache is not None:
                cache.load(cache.entry(item.key, item.value, item.revision, item.create_revision))
        self.revision = page.revision
        for cache in self._caches.values():
            cache.window_start = page.revision
        await self.store.watch("", after=page.revision, sink=self._apply)

    async def open(
        self, resource: Resource, extra_fields: tuple[str, ...] = (), complete: Complete | None = None
    ) -> ResourceCache:
        """A cache for a resource that comes while the server runs, in place of one that it may have had: that one
        serves until this is loaded, then its watches end. `complete` makes of stored values what is to be served now.
        """
        cache = ResourceCache(resource, Picker(resource.group_resource, extra_fields))
        cache.complete = complete
        missed = self._missed[resource.group_resource] = []
        try:
            page = await self.store.range(cache.prefix)
            values = [item.value for item in page.items]
            for item, value in zip(page.items, await complete(values) if complete else values, strict=True):
                cache.load(cache.entry(item.key, value, item.revision, item.create_revision))
            cache.loaded_at = cache.window_start = page.revision
            while missed:  # more may come while these are converted
                waiting = [event for event in missed if event.revision > page.revision]
                missed.clear()
                for event in await cache.converted(waiting):
                    cache.apply(event)
        finally:
            del self._missed[resource.group_resource]
        self.drop(resource)
        self._caches[resource.group_resource] = cache
        return cache

    def drop(self, resource: Resource) -> None:
        """Forgets a resource that is no longer served; its watches end."""
        cache = self._caches.pop(resource.group_resource, None)
        for observer in cache.observers() if cache is not None else ():
            observer.end()

    async def current(self) -> None:
        """Returns once the cache has everything that anyone was told of before the call. Errors: StoreFailed."""
        revision = await self.store.latest_revision()
        while self.revision < revision and self.store.revision < revision:
            if self._moved is None:
                self._moved = asyncio.get_running_loop().create_future()
            done, _ = await asyncio.wait([self._moved], timeout=MOVE_WAIT_S)
            if not done:
                raise StoreFailed(f"the cache is at revision {self.revision}, the store at {revision}")

    async def moved_past(self, cache: ResourceCache, entry: Entry) -> None:
        """Returns once the cache no longer holds `entry`. A store decides a write before it is durable and shown to
        its watches: whoever lost to such a write must wait for it here, or would lose to it again and again."""
        while cache.entries.get(entry.key) is entry:
            if self._moved is None:
                self._moved = asyncio.get_running_loop().create_future()
            done, _ = await asyncio.wait([self._moved], timeout=MOVE_WAIT_S)
            if not done:
                return  # the other write failed, it seems

    async def settled(self, cache: ResourceCache) -> None:
        """Returns once the cache holds back nothing. Errors: StoreFailed, where a conversion is not to be had."""
        while cache.held is not None:
            if self._moved is None:
                self._moved = asyncio.get_running_loop().create_future()
            done, _ = await asyncio.wait([self._moved], timeout=MOVE_WAIT_S)
            if not done:
                raise StoreFailed(f"{cache.resource.group_resource} wait for their conversion")

    def _apply(self, events: Sequence[Event]) -> None:
        shown: list[tuple[ResourceCache, Event]] = []
        for event in events:
            group_resource = event.key.partition("/")[0]
            if (missed := self._missed.get(group_resource)) is not None:
                missed.append(event)
            cache = self._caches.get(group_resource)
            if cache is None or event.revision <= cache.loaded_at:
                continue
            if cache.held is not None:
                cache.held.append(event)
            elif cache.is_foreign(event):
                cache.held = [event]
                task = asyncio.get_running_loop().create_task(self._convert_held(cache))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            else:
                shown.append((cache, event))
        self.revision = events[-1].revision
        self._show(shown)

    async def _convert_held(self, cache: ResourceCache) -> None:
        """Shows what is held back in order, once it is converted; a webhook that fails is asked again."""
        while cache.held and self._caches.get(cache.resource.group_resource) is cache:
            count = len(cache.held)
            try:
                made = await cache.converted(cache.held[:count])
            except (ApiError, OSError) as error:
                log.warning(
                    "writes in another version wait for their conversion",
                    extra={"resource": cache.resource.group_resource, "error": str(error)},
                )
                await asyncio.sleep(CONVERT_AGAIN_S)
                continue
            cache.held = cache.held[count:] or None
            self._show([(cache, event) for event in made])
        cache.held = None
        self._show(())  # whoever waits for it looks again

    def _show(self, events: Iterable[tuple[ResourceCache, Event]]) -> None:
        touched: dict[Observer, None] = {}
        changes: list[Change] = []
        for cache, event in events:
            change = cache.apply(event)
            changes.append(change)
            for listener in self._listeners.get(cache.resource.group_resource, ()):
                listener(change)
            for bucket in cache.concerned(change):
                for observer in bucket:
                    observer.offer(change)
                touched.update(bucket)
        for change in changes:
            change.forget_frames()
        if self._moved is not None:
            moved, self._moved = self._moved, None
            moved.set_result(None)
        if len(touched) > TOGETHER_MIN or self._unflushed:
            self._flush_soon(touched)
        else:
            for observer in touched:
                observer.flush()

    def _flush_soon(self, touched: dict[Observer, None]) -> None:
        """A write to a socket costs more than an event: where many watch, what comes in a few ms goes out as one."""
        if not self._unflushed:
            asyncio.get_running_loop().call_later(TOGETHER_S, self._flush)
        self._unflushed.update(touched)

    def _flush(self) -> None:
        unflushed, self._unflushed = self._unflushed, {}
        for observer in unflushed:
            observer.flush()
