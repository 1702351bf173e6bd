"""What the watch cache holds of one resource: its objects as bytes, what changed lately, and who watches.

An `Entry` is one object at one revision, immutable, shared by reads, watches and the window; a `Change` is the step
from one entry to the next, and keeps the frames that were made of it, so that a hundred watchers cost one encoding.
The window holds the last changes (WINDOW_CHANGES, WINDOW_BYTES at most). Watchers lie in buckets by what they must see:
all, a namespace, a name, or (Pods) a node; an event looks only into the buckets it concerns.
"""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Protocol

from msgspec.structs import replace

from orchestrator.api.resources import Resource
from orchestrator.apiserver import encoding
from orchestrator.apiserver.selection import Picker, Selected
from orchestrator.store.interface import Event, prefix_end

WINDOW_CHANGES = 1000
WINDOW_BYTES = 4 << 20
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

    __slots__ = ("_frames", "entry", "head", "previous", "revision", "told")

    def __init__(self, entry: Entry | None, previous: Entry | None, revision: int, head: bytes) -> None:
        self.entry = entry
        self.previous = previous
        self.revision = revision
        self.head = head
        self._frames: dict[tuple[bytes, Render | None], bytes] = {}
        # What watchers that are alike are sent, by what makes them alike: decided once for all of them.
        self.told: dict[object, bytes] = {}

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
        self.told.clear()


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
        self.events_applied = 0
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

    def show(self, entries: Sequence[Entry]) -> None:
        """These are all there are, of a resource that is not stored; in key order."""
        for key in [*self.entries]:
            self._remove(key)
        for entry in entries:
            self._put(entry)

    def apply(self, event: Event) -> Change:
        self.events_applied += 1
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
