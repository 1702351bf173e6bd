"""WATCH: a stream of changes, at no cost per watcher but the write.

A Watcher is an observer of the watch cache. For each change it decides what the change is to this client (an object
that begins to match a selector is ADDED, one that stops is DELETED), takes the frame that all alike share, and once for
each batch of the store pushes its frames into the answer. No coroutine, no queue entry and no JSON per event.

Where it starts: without resourceVersion, or at 0, with the present as ADDED events; at N with every change after N,
from the window or else from the store's history; an expired N is told as an ERROR event with status 410. With
`sendInitialEvents` the present is followed by a bookmark with the annotation `k8s.io/initial-events-end`. Bookmarks
tell how far the watcher has come, each BOOKMARK_EVERY_S and before the end; a watch ends after its timeout.
Source: Kubernetes API concepts, "Efficient detection of changes", "Streaming lists"; KEP-956, KEP-3157.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from msgspec import Struct

from orchestrator.api.meta import Object
from orchestrator.api.status import ApiError, Expired, NotAcceptable
from orchestrator.api.wire import Request
from orchestrator.apiserver import encoding, options, reading, selection
from orchestrator.apiserver.binary import Binary
from orchestrator.apiserver.endpoint import Core, Endpoint
from orchestrator.apiserver.negotiation import METADATA, NO_STREAM_FITS, TABLE, Accepted
from orchestrator.apiserver.options import ListOptions
from orchestrator.apiserver.protobuf import envelope
from orchestrator.apiserver.protobuf.encoding import encode
from orchestrator.apiserver.representation import TableRenderer, renderer
from orchestrator.apiserver.resourcecache import EVERYTHING, INDEXED_FIELD, Bucket, Change, Entry, Render
from orchestrator.apiserver.selection import Selection
from orchestrator.apiserver.stream import PushStream
from orchestrator.store.interface import Compacted, Event

BOOKMARK_EVERY_S = 60.0
TIMEOUT_MIN_S = 1800  # a watch without a timeout of its own ends after one to two times this
HISTORY_PAGE = 500
PRESENT_BYTES_PER_PIECE = 1 << 18
INITIAL_EVENTS_END = {"k8s.io/initial-events-end": "true"}


class _Shown(Struct, frozen=True):
    """What one watch is about, apart from when it starts."""

    selected: Selection
    asked: tuple[str, str]  # both selectors as they came
    namespace: str
    render: Render | None
    accepted: Accepted

    @property
    def is_binary(self) -> bool:
        return self.accepted.media_type == encoding.PROTOBUF


class Watcher:
    """An observer of one resource for one client."""

    __slots__ = (
        "_alike",
        "_core",
        "_endpoint",
        "_frames",
        "_framing",
        "_held",
        "_remote",
        "_selected",
        "_shown",
        "_task",
        "_timers",
        "bookmarks",
        "bucket",
        "stream",
    )

    def __init__(self, core: Core, endpoint: Endpoint, shown: _Shown, *, bookmarks: bool) -> None:
        self._core = core
        self._endpoint = endpoint
        self._shown = shown
        self._selected = None if shown.selected.is_everything else shown.selected
        # Watchers of one served version that ask for the same objects in the same form.
        self._alike = (endpoint.resource.api_version, shown.asked, shown.render)
        self._frames: list[bytes] = []
        self._held: list[Change] | None = None
        self._framing = envelope.event_frame if shown.is_binary else encoding.event_frame
        # Where a webhook converts: what waits to be shown, and the task that asks it.
        self._remote: list[Change] | None = [] if endpoint.is_remote else None
        self._task: asyncio.Task[None] | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self.bookmarks = bookmarks
        self.bucket = _bucket(endpoint, shown)
        self.stream = PushStream()
        self.stream.on_close(self._closed)

    @property
    def render(self) -> Render | None:
        return self._shown.render

    def start(self, *, held: bool) -> None:
        """Observes from now on; `held` changes wait for `replay`."""
        self._held = [] if held else None
        self._endpoint.cache.observe(self)

    def replay(self, events: list[Event]) -> None:
        """History as the store keeps it, then what was held back meanwhile."""
        cache = self._endpoint.cache
        held, self._held = self._held, None
        for event in events:
            previous = None
            if event.previous_value is not None:
                previous = cache.entry(event.key, event.previous_value, event.previous, event.create_revision)
            entry = None
            if event.value is not None:
                entry = cache.entry(event.key, event.value, event.revision, event.create_revision)
            self.offer(Change(entry, previous, event.revision, cache.head))
        for change in held or ():
            self.offer(change)
        self.flush()

    def offer(self, change: Change) -> None:
        if self._held is not None:
            self._held.append(change)
            return
        if self._remote is not None:
            self._remote.append(change)
            return
        frame = change.told.get(self._alike)
        if frame is None:
            kind = self._kind(change)
            frame = change.frame(kind, self._shown.render, self._framing) if kind else b""
            change.told[self._alike] = frame
        if frame:
            self._frames.append(frame)

    def _kind(self, change: Change) -> bytes:
        """What a change is to this client; nothing where it concerns objects that are not selected."""
        entry, previous = change.entry, change.previous
        selected = self._selected
        if selected is not None:
            if entry is not None and not self._endpoint.selects(selected, entry):
                entry = None
            if previous is not None and not self._endpoint.selects(selected, previous):
                previous = None
        if entry is None:
            return b"DELETED" if previous is not None else b""
        return b"ADDED" if previous is None else b"MODIFIED"

    def flush(self) -> None:
        if self._remote and self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._convert())
        frames = self._frames
        if frames:
            self._frames = []
            self.stream.push(frames[0] if len(frames) == 1 else b"".join(frames))

    async def _convert(self) -> None:
        """Shows in order what waits, once the webhook has converted it; a failure ends the watch."""
        try:
            while self._remote:
                waiting, self._remote = self._remote, []
                shown = [entry for change in waiting for entry in self._looked_at(change) if entry is not None]
                await self._endpoint.ready(self._core, [entry.data for entry in shown])
                for change in waiting:
                    if kind := self._kind(change):
                        self._frames.append(change.frame(kind, self._shown.render, self._framing))
                        change.forget_frames()
                self.flush()
        except ApiError as error:
            self.fail(error)
        finally:
            self._task = None

    def _looked_at(self, change: Change) -> tuple[Entry | None, ...]:
        """What has to be converted to tell what a change is, and to show it."""
        if change.entry is None or self._selected is not None:
            return change.entry, change.previous
        return (change.entry,)

    def end(self) -> None:
        """The resource is no longer served, or another way."""
        self.flush()
        self.stream.close()

    def show_present(self, entries: list[Entry]) -> None:
        pieces = self._present(entries)
        # What a webhook converted is not kept for long, and the first row of a table brings its columns: made at once.
        at_once = self._remote is not None or self._shown.accepted.form == TABLE
        self.stream.begin(iter([*pieces]) if at_once else pieces)

    def _present(self, entries: list[Entry]) -> Iterator[bytes]:
        """The present as ADDED events, in pieces."""
        render, frames, size = self._shown.render, [], 0
        for entry in entries:
            frame = self._framing(b"ADDED", render(entry, entry.data) if render else entry.data)
            frames.append(frame)
            size += len(frame)
            if size >= PRESENT_BYTES_PER_PIECE:
                yield b"".join(frames)
                frames, size = [], 0
        if frames:
            yield b"".join(frames)

    def bookmark(self, revision: int, annotations: dict[str, str] | None = None) -> None:
        metadata: dict[str, object] = {"resourceVersion": str(revision)}
        if annotations:
            metadata["annotations"] = annotations
        if isinstance(self._shown.render, TableRenderer):
            self.stream.push(encoding.event_frame(b"BOOKMARK", self._shown.render.bookmark(metadata)))
            return
        resource = self._endpoint.resource
        body: dict[str, object] = {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata}
        if self._shown.accepted.form == METADATA:
            body |= {"kind": "PartialObjectMetadata", "apiVersion": f"meta.k8s.io/{self._shown.accepted.version}"}
        self.stream.push(self._frame_of(b"BOOKMARK", body))

    def fail(self, error: ApiError) -> None:
        self.stream.push(self._frame_of(b"ERROR", error.to_status()))
        self.stream.close()

    def _frame_of(self, kind: bytes, obj: Object) -> bytes:
        """Of an object that is not stored."""
        if not self._shown.is_binary:
            return encoding.event_frame(kind, encoding.encode_as_is(obj))
        return envelope.event_frame(kind, encode(obj))

    def end_after(self, timeout_s: float) -> None:
        loop = asyncio.get_running_loop()
        if self.bookmarks:
            self._timers.append(loop.call_later(max(timeout_s - 2, 0), self._tell_progress))
        self._timers.append(loop.call_later(timeout_s, self.stream.close))

    def _tell_progress(self) -> None:
        if not self.stream.is_closed:
            self.bookmark(self._endpoint.cache.progress(self._core.cache.revision))

    def tick(self) -> None:
        """Called each BOOKMARK_EVERY_S."""
        if self.bookmarks and self._held is None:
            self._tell_progress()

    def _closed(self) -> None:
        self._endpoint.cache.forget(self)
        if self._task is not None:
            self._task.cancel()
        for timer in self._timers:
            timer.cancel()


def _bucket(endpoint: Endpoint, shown: _Shown) -> Bucket:
    selected, namespace = shown.selected, shown.namespace
    if selected.name is not None and (namespace or not endpoint.resource.namespaced):
        return ("name", endpoint.cache.key(namespace, selected.name))
    if INDEXED_FIELD in endpoint.cache.picker.paths and (node := selected.fields.required(INDEXED_FIELD)):
        # Changes of other namespaces come too; `offer` looks at the field, and the namespace is checked there.
        return ("node", node) if not namespace else ("namespace", namespace)
    return ("namespace", namespace) if namespace else EVERYTHING


async def watch(
    core: Core, endpoint: Endpoint, request: Request, namespace: str, accepted: Accepted, *, name: str = ""
) -> PushStream:
    """Starts a watch; `name` is that of the deprecated watch of a single object."""
    if accepted.media_type == encoding.YAML:
        raise NotAcceptable(NO_STREAM_FITS)
    asked = options.list_options(request, watch=True)
    fields = f"{asked.field_selector},metadata.name={name}".lstrip(",") if name else asked.field_selector
    selected = selection.parse(asked.label_selector, fields, endpoint.picker)
    render = renderer(core, endpoint, accepted, request)
    shown = _Shown(selected, (asked.label_selector, fields), namespace, render, accepted)
    watcher = Watcher(core, endpoint, shown, bookmarks=asked.bookmarks)
    if asked.revision:
        await reading.not_in_the_future(core, asked.revision)
    if asked.send_initial_events or (not asked.revision and asked.send_initial_events is None):
        await _start_with_present(core, endpoint, watcher, selected, namespace, asked)
    elif not asked.revision:
        watcher.start(held=False)
    else:
        await _start_after(core, endpoint, watcher, asked.revision, namespace)
    timeout_s = asked.timeout_s or core.random.uniform(TIMEOUT_MIN_S, 2 * TIMEOUT_MIN_S)
    if not watcher.stream.is_closed:
        watcher.end_after(timeout_s)
    return watcher.stream


async def _start_with_present(
    core: Core, endpoint: Endpoint, watcher: Watcher, selected: Selection, namespace: str, asked: ListOptions
) -> None:
    page = await reading.select(core, endpoint, ListOptions(), selected, namespace)
    render = watcher.render
    if endpoint.is_remote or isinstance(render, Binary):  # what takes time first, then the present that is shown
        await endpoint.ready(core, (entry.data for entry in page.entries))
        if isinstance(render, Binary):
            await render.prepare(page.entries)
        page = await reading.select(core, endpoint, ListOptions(), selected, namespace)
    watcher.start(held=False)  # no await since the page was cut: nothing is missed in between
    watcher.show_present(page.entries)
    if asked.send_initial_events and asked.bookmarks:
        watcher.bookmark(page.revision, INITIAL_EVENTS_END)


async def _start_after(core: Core, endpoint: Endpoint, watcher: Watcher, revision: int, namespace: str) -> None:
    changes = endpoint.cache.changes_after(revision)
    if changes is not None:
        watcher.start(held=False)
        for change in changes:
            if _concerns(change, namespace):
                watcher.offer(change)
                change.forget_frames()
        watcher.flush()
        return
    prefix = f"{endpoint.cache.prefix}{namespace}/" if namespace else endpoint.cache.prefix
    upto = core.cache.revision
    replayed: list[Event] = []
    watcher.start(held=True)
    try:
        while revision < upto:
            page = await core.store.history(prefix, after=revision, limit=HISTORY_PAGE)
            replayed += [event for event in page if event.revision <= upto]
            revision = page[-1].revision if len(page) == HISTORY_PAGE else upto
    except Compacted as error:
        watcher.fail(Expired(f"too old resource version: {error.revision} ({error.oldest})"))
        return
    watcher.replay(await endpoint.cache.converted(replayed))


def _concerns(change: Change, namespace: str) -> bool:
    shown = change.entry or change.previous
    return shown is not None and namespace in ("", shown.namespace)


async def tell_progress(core: Core) -> None:
    """The bookmark clock of all watches; runs as long as the server."""
    while True:
        await asyncio.sleep(BOOKMARK_EVERY_S)
        for endpoint in {id(endpoint.cache): endpoint for endpoint in core.endpoints.values()}.values():
            for observer in endpoint.cache.observers():
                if isinstance(observer, Watcher):
                    observer.tick()
