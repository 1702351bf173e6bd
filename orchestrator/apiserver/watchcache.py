"""The watch cache: every object as bytes, in memory, and what changed lately. The heart of the server.

It is fed by one watch of the store, in the order of revisions, before a write is acknowledged: so a read from here sees
every write that anyone was told of. An `Entry` is one object at one revision, immutable, shared by reads, watches and
the window; a `Change` is the step from one entry to the next, and keeps the frames that were made of it, so that a
hundred watchers cost one encoding.

The window of a resource holds the last changes (WINDOW_CHANGES, WINDOW_BYTES at most). A watch that starts within it is
served from memory; one that starts earlier reads the store's history first. Watchers lie in buckets by what they must
see: all, a namespace, a name, or (Pods) a node; an event looks only into the buckets it concerns.
Expected: 5,000 Pods × 4.4 KB = 22 MB.
"""

from __future__ import annotations

import asyncio
import bisect
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from orchestrator.api.resources import Resource
from orchestrator.api.status import ApiError
from orchestrator.apiserver import encoding
from orchestrator.apiserver.selection import Picker, Selected
from orchestrator.store.interface import Event, Store, StoreFailed, prefix_end

log = logging.getLogger(__name__)

WINDOW_CHANGES = 1000
WINDOW_BYTES = 4 << 20
TOGETHER_MIN = 16  # watchers of one batch: above, events wait TOGETHER_S for more
TOGETHER_S = 0.004
MOVE_WAIT_S = 2.0
CONVERT_AGAIN_S = 1.0
INDEXED_FIELD = "spec.nodeName"

Bucket = tuple[str, str]  # ("", ""): everything; ("namespace", ns); ("name", "ns/name"); ("node", node name)
EVERYTHING: Bucket = ("", "")


class Entry:
    """One object at one revision."""

    __slots__ = ("_selected", "binary", "create_revision", "data", "key", "name", "namespace", "picker", "revision")

    def __init__(
        self, key: str, namespace: str, name: str, data: bytes, revision: int, create_revision: int, picker: Picker
    ) -> None:
        self.key = key
        self.namespace = namespace
        self.name = name
        self.data = data
        self.revision = revision
        self.create_revision = create_revision
        self.picker = picker
        self._selected: Selected | None = None
        self.binary: bytes | None = None  # its protobuf message, once someone asked for that

    def selected(self) -> Selected:
        """Labels and selectable fields, picked out when first asked for."""
        if self._selected is None:
            self._selected = self.picker.pick(self.data)
        return self._selected


Complete = Callable[[list[bytes]], Awaitable[list[bytes]]]
Render = Callable[[Entry, bytes], bytes]  # an entry and its bytes at some revision → the object a client asked for
Framing = Callable[[bytes, bytes], bytes]  # the kind of an event and its object → its frame in a watch


class Change:
    """From `previous` to `entry`; one of them is None at the ends of an object's life."""

    __slots__ = ("_frames", "entry", "head", "previous", "revision")

    def __init__(self, entry: Entry | None, previous: Entry | None, revision: int, head: bytes) -> None:
        self.entry = entry
        self.previous = previous
        self.revision = revision
        self.head = head
        self._frames: dict[tuple[bytes, Render | None], bytes] = {}

    def frame(self, kind: bytes, render: Render | None, framing: Framing = encoding.event_frame) -> bytes:
        """The frame of a watch for this change, made once for all watchers that look at it alike. A deletion shows
        the object as it last was, at the revision of its deletion. A renderer is always framed in one way."""
        found = self._frames.get((kind, render))
        if found is None:
            shown = self.previous if kind == b"DELETED" else self.entry
            assert shown is not None
            data = shown.data
            if kind == b"DELETED":
                data = encoding.at_revision(data, self.head, shown.revision, self.revision)
            found = framing(kind, render(shown, data) if render else data)
            self._frames[kind, render] = found
        return found

    def forget_frames(self) -> None:
        """After delivery only a late watcher needs them, and makes its own."""
        self._frames.clear()


class Observer(Protocol):
    """A watch of one resource. `offer` takes a change, `flush` sends what was taken: once for each batch."""

    bucket: Bucket

    def offer(self, change: Change) -> None: ...

    def flush(self) -> None: ...

    def end(self) -> None: ...


class ResourceCache:
    """All objects of one stored resource."""

    def __init__(self, resource: Resource, picker: Picker) -> None:
        self.resource = resource
        self.head = encoding.head_of(resource)
        self.prefix = f"{resource.group_resource}/"
        self.picker = picker
        self.entries: dict[str, Entry] = {}
        self.changed = 0  # the revision of the last change
        self.loaded_at = 0  # the revision that it was loaded at
        self.size_bytes = 0  # of all entries
        self._keys: list[str] = []
        self._sorted = True
        self._window: deque[Change] = deque()
        self._window_bytes = 0
        self.window_start = 0  # the window holds every change after this revision
        self._observers: dict[Bucket, dict[Observer, None]] = {}
        self._indexed = INDEXED_FIELD in picker.paths
        self._by_node: dict[str, set[str]] = {}
        self.complete: Complete | None = None  # makes of stored values what is served now
        self.held: list[Event] | None = None  # writes in another version, and what followed, until that is converted

    # -- reads ---------------------------------------------------------------------------------------------------------

    def key(self, namespace: str, name: str) -> str:
        return f"{self.prefix}{namespace}/{name}" if self.resource.namespaced else f"{self.prefix}{name}"

    def get(self, namespace: str, name: str) -> Entry | None:
        return self.entries.get(self.key(namespace, name))

    def range(self, namespace: str = "", after: str = "") -> list[Entry]:
        """Entries in key order, of one namespace or all, from the first key greater than `after`."""
        if not self._sorted:
            self._keys.sort()
            self._sorted = True
        prefix = f"{self.prefix}{namespace}/" if namespace else self.prefix
        low = bisect.bisect_left(self._keys, prefix)
        if after:
            low = max(low, bisect.bisect_right(self._keys, after))
        high = bisect.bisect_left(self._keys, prefix_end(prefix)) if namespace else len(self._keys)
        entries = self.entries
        return [entries[key] for key in self._keys[low:high]]

    def on_node(self, node: str) -> list[Entry]:
        """The index by spec.nodeName, in key order."""
        return [self.entries[key] for key in sorted(self._by_node.get(node, ()))]

    def changes_after(self, revision: int) -> Iterator[Change] | None:
        """The changes after `revision`, oldest first; None where the window starts later."""
        if revision < self.window_start:
            return None
        start = bisect.bisect_right(self._window, revision, key=lambda change: change.revision)
        return iter([self._window[place] for place in range(start, len(self._window))])

    # -- writes --------------------------------------------------------------------------------------------------------

    def entry(self, key: str, value: bytes, revision: int, create_revision: int) -> Entry:
        namespace, _, name = key[len(self.prefix) :].rpartition("/")
        if not value.startswith(self.head):  # written by a server that encoded otherwise
            value = encoding.encode(self.resource, encoding.decode(value))
        data = encoding.with_revision(value, self.head, revision)
        return Entry(key, namespace, name, data, revision, create_revision, self.picker)

    def is_foreign(self, event: Event) -> bool:
        """Whether someone wrote it in another version than is kept now: the definition has changed meanwhile."""
        return self.complete is not None and event.value is not None and not event.value.startswith(self.head)

    async def converted_values(self, values: list[bytes]) -> list[bytes]:
        """Stored values as they are served now."""
        if self.complete is None or all(value.startswith(self.head) for value in values):
            return values
        return await self.complete(values)

    async def converted(self, events: Sequence[Event]) -> list[Event]:
        """Events with such values."""
        values = [value for event in events for value in (event.value, event.previous_value) if value is not None]
        made = iter(await self.converted_values(values))
        return [
            replace(
                event,
                value=None if event.value is None else next(made),
                previous_value=None if event.previous_value is None else next(made),
            )
            for event in events
        ]

    def progress(self, revision: int) -> int:
        """How far a watch has come when the server is at `revision`."""
        return min(revision, self.held[0].revision - 1) if self.held else revision

    def load(self, entry: Entry) -> None:
        """An object that was there at start; the caller loads in key order."""
        self._put(entry)
        self.changed = max(self.changed, entry.revision)

    def apply(self, event: Event) -> Change:
        previous = self.entries.get(event.key)
        if event.value is None:
            entry = None
            self._remove(event.key)
        else:
            entry = self.entry(event.key, event.value, event.revision, event.create_revision)
            self._put(entry)
        self.changed = event.revision
        change = Change(entry, previous, event.revision, self.head)
        self._remember(change)
        return change

    def _put(self, entry: Entry) -> None:
        previous = self.entries.get(entry.key)
        if previous is None:
            if self._sorted and self._keys and entry.key < self._keys[-1]:
                self._sorted = False  # sorted again, all at once, by the next range
            self._keys.append(entry.key)
        else:
            self.size_bytes -= len(previous.data)
        self.size_bytes += len(entry.data)
        self.entries[entry.key] = entry
        if self._indexed:
            self._index(previous, entry)

    def _remove(self, key: str) -> None:
        previous = self.entries.pop(key, None)
        if previous is None:
            return
        self.size_bytes -= len(previous.data)
        if not self._sorted:
            self._keys.sort()
            self._sorted = True
        del self._keys[bisect.bisect_left(self._keys, key)]
        if self._indexed:
            self._index(previous, None)

    def _index(self, previous: Entry | None, entry: Entry | None) -> None:
        old, new = node_of(previous), node_of(entry)
        if old == new:
            return
        if previous is not None and old:
            self._by_node[old].discard(previous.key)
        if entry is not None and new:
            self._by_node.setdefault(new, set()).add(entry.key)

    def _remember(self, change: Change) -> None:
        self._window.append(change)
        self._window_bytes += _size(change)
        while len(self._window) > WINDOW_CHANGES or self._window_bytes > WINDOW_BYTES:
            oldest = self._window.popleft()
            self.window_start = oldest.revision
            self._window_bytes -= _size(oldest)

    # -- observers -----------------------------------------------------------------------------------------------------

    def observe(self, observer: Observer) -> None:
        self._observers.setdefault(observer.bucket, {})[observer] = None

    def forget(self, observer: Observer) -> None:
        bucket = self._observers.get(observer.bucket, {})
        bucket.pop(observer, None)
        if not bucket:
            self._observers.pop(observer.bucket, None)

    def concerned(self, change: Change) -> Iterable[dict[Observer, None]]:
        """The buckets of observers that may have to see a change."""
        if not self._observers:
            return ()
        shown = change.entry or change.previous
        assert shown is not None
        buckets = [EVERYTHING, ("namespace", shown.namespace), ("name", shown.key)]
        if self._indexed:
            nodes = {node_of(change.entry), node_of(change.previous)} - {""}
            buckets += [("node", node) for node in nodes]
        return [found for bucket in buckets if (found := self._observers.get(bucket))]

    def interested(self, namespace: str, name: str) -> int:
        """How many watches look at each change of an object; those of a single node's pods are not counted."""
        if not self._observers:
            return 0
        buckets = (EVERYTHING, ("namespace", namespace), ("name", self.key(namespace, name)))
        return sum(len(self._observers.get(bucket, ())) for bucket in buckets)

    def observers(self) -> list[Observer]:
        return [observer for bucket in self._observers.values() for observer in bucket]


def node_of(entry: Entry | None) -> str:
    return entry.selected().fields[INDEXED_FIELD] if entry is not None else ""


def _size(change: Change) -> int:
    return len(change.entry.data) if change.entry else 0


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
