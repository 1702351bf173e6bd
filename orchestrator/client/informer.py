"""Informer: a cache of one resource that follows the API server, and handlers that are told of every change.

    start → the whole state, with the revision it is of → watch from that revision → (watch ends) watch on
                     ^                                             |
                     +------------- 410 Expired -------------------+

The whole state comes as a watch with `sendInitialEvents` where the server offers it (no list is held in memory twice),
else as a list. After an error the informer waits, doubling with jitter from 0.2 s to 30 s, or with all others of its
process for a server that is not there (`door.py`); the cache stays readable meanwhile. Handlers are plain functions
`(old, new)`: old is None for an added object, new is None for a deleted one; they must not block and are called in the
order of revisions. A handler added late is told of what is there.
`managedFields` are dropped: no component reads them and they are a third of an object; an update without them keeps
the server's.

`Informers` shares them within one process: one watch and one cache for each resource and selection, whoever asks. Ask
before or after `run`; each is started once. Who asked for an informer may release it: with the last of them it stops.
Where several components share a process they are given one `Informers`, and whoever made it runs it.
Source: client-go tools/cache (Reflector, SharedInformer); KEP-3157 watch-list; KEP-956 bookmarks.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from random import Random
from types import TracebackType

from orchestrator.api import meta, status
from orchestrator.api.meta import Object
from orchestrator.api.resources import Resource
from orchestrator.client import watch
from orchestrator.client.cache import Cache, Indexer
from orchestrator.client.client import Client
from orchestrator.client.door import Door

log = logging.getLogger(__name__)

Handler = Callable[[Object | None, Object | None], None]
Keep = Callable[[Object], Object]

BACKOFF_FIRST_S = 0.2
BACKOFF_MAX_S = 30.0
WATCH_MIN_S, WATCH_MAX_S = 300, 600  # the server ends a watch after a random time of this range
INITIAL_SILENCE_MAX_S = 10.0  # without an event or the end bookmark, the server does not know sendInitialEvents


class Informer:
    """One resource, optionally selected; made by `Informers`."""

    def __init__(
        self,
        client: Client,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
        is_metadata_only: bool = False,
        keep: Keep | None = None,
        random: Random,
        door: Door,
    ) -> None:
        self.resource = resource
        self.cache = Cache()
        self._client = client
        self._namespace = namespace
        self._labels = label_selector
        self._fields = field_selector
        self._is_metadata_only = is_metadata_only
        self._keep = keep
        self._random = random
        self._door = door
        self._handlers: list[Handler] = []
        self._synced = asyncio.Event()
        self._revision = ""
        self._can_stream_list = True
        self._failures = 0

    @property
    def synced(self) -> bool:
        """Whether the cache holds the whole state of some revision."""
        return self._synced.is_set()

    @property
    def resource_version(self) -> str:
        """The revision up to which the cache has followed; "" before it synced."""
        return self._revision if self.synced else ""

    async def wait_synced(self) -> None:
        await self._synced.wait()

    def add_handler(self, handler: Handler) -> None:
        self._handlers.append(handler)
        for obj in self.cache.list():
            self._call(handler, None, obj)

    def remove_handler(self, handler: Handler) -> None:
        """It hears no more: for one that goes while others still follow."""
        self._handlers.remove(handler)

    def add_indexers(self, indexers: Mapping[str, Indexer]) -> None:
        for index, indexer in indexers.items():
            self.cache.add_index(index, indexer)

    async def run(self) -> None:
        """Follows the API server until cancelled."""
        while True:
            try:
                if not self._revision:
                    await self._load()
                else:
                    await self._follow()
            except (status.Expired, status.Gone) as error:
                log.info("watch too old, listing again", extra=self._about(error))
                self._revision = ""
                await self._back_off()
            except (status.ApiError, ConnectionError) as error:
                log.warning("list or watch failed", extra=self._about(error))
                if isinstance(error, ConnectionRefusedError):
                    await self._door.opened()
                else:
                    await self._back_off()

    async def _load(self) -> None:
        """The whole state, streamed or listed."""
        if self._can_stream_list:
            try:
                await self._stream()
                return
            except (status.Invalid, status.BadRequest, TimeoutError) as error:
                log.info("server does not stream lists, listing", extra=self._about(error))
                self._can_stream_list = False
        listed = await self._client.list(
            self.resource, self._namespace, label_selector=self._labels, field_selector=self._fields
        )
        self._replace({meta.key(obj): self._trimmed(obj) for obj in listed.items}, listed.resource_version)

    async def _stream(self) -> None:
        """The whole state as a watch; goes on as the ordinary watch after the bookmark that ends the initial events."""
        loop = asyncio.get_running_loop()
        initial: dict[str, Object] | None = {}
        async with (
            asyncio.timeout(INITIAL_SILENCE_MAX_S) as patience,
            aclosing(self._events(send_initial_events=True)) as events,  # type: ignore[type-var]
        ):
            async for event in events:
                if initial is None:
                    self._apply(event)
                elif watch.ends_initial_events(event):
                    patience.reschedule(None)
                    self._replace(initial, meta.resource_version(event.object))
                    initial = None
                else:
                    patience.reschedule(loop.time() + INITIAL_SILENCE_MAX_S)
                    if event.type == watch.DELETED:
                        initial.pop(meta.key(event.object), None)
                    elif event.type != watch.BOOKMARK:
                        initial[meta.key(event.object)] = self._trimmed(event.object)
        if initial is not None:
            raise status.ServiceUnavailable("watch ended before its initial events did")

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        began, began_at = self._revision, loop.time()
        async with aclosing(self._events(send_initial_events=False)) as events:  # type: ignore[type-var]
            async for event in events:
                self._apply(event)
        if self._revision == began and loop.time() - began_at < 1:
            await self._back_off()  # a server that hangs up at once must not be asked in a tight loop

    def _events(self, *, send_initial_events: bool) -> AsyncIterator[watch.WatchEvent]:
        return self._client.watch(
            self.resource,
            self._namespace,
            resource_version="" if send_initial_events else self._revision,
            label_selector=self._labels,
            field_selector=self._fields,
            timeout_s=self._random.randint(WATCH_MIN_S, WATCH_MAX_S),
            bookmarks=True,
            send_initial_events=send_initial_events,
        )

    def _apply(self, event: watch.WatchEvent) -> None:
        obj = event.object
        self._failures = 0
        if event.type == watch.DELETED:
            if self.cache.remove(meta.key(obj)) is not None:
                self._tell(self._trimmed(obj), None)
        elif event.type != watch.BOOKMARK:
            obj = self._trimmed(obj)
            self._tell(self.cache.put(meta.key(obj), obj), obj)
        self._revision = meta.resource_version(obj) or self._revision

    def _replace(self, objects: dict[str, Object], revision: str) -> None:
        """The cache becomes exactly `objects`; handlers hear the difference."""
        for key in [key for key in self.cache.keys() if key not in objects]:  # noqa: SIM118 (a cache is no mapping)
            self._tell(self.cache.remove(key), None)
        for key, obj in objects.items():
            old = self.cache.put(key, obj)
            if old is None or meta.resource_version(old) != meta.resource_version(obj):
                self._tell(old, obj)
        self._revision = revision
        self._failures = 0
        self._synced.set()

    def _trimmed(self, obj: Object) -> Object:
        obj.setdefault("apiVersion", self.resource.api_version)
        obj.setdefault("kind", self.resource.kind)
        meta.metadata(obj).pop("managedFields", None)
        if self._is_metadata_only:
            return {field: obj[field] for field in ("apiVersion", "kind", "metadata") if field in obj}
        return obj if self._keep is None else self._keep(obj)

    def _tell(self, old: Object | None, new: Object | None) -> None:
        for handler in self._handlers:
            self._call(handler, old, new)

    def _call(self, handler: Handler, old: Object | None, new: Object | None) -> None:
        """One handler's fault must not keep the others from hearing, nor stop the cache."""
        try:
            handler(old, new)
        except Exception:
            log.exception("handler failed", extra={"resource": self.resource.group_resource})

    async def _back_off(self) -> None:
        delay = min(BACKOFF_FIRST_S * 2 ** min(self._failures, 16), BACKOFF_MAX_S)
        self._failures += 1
        await asyncio.sleep(delay * self._random.uniform(0.5, 1.5))

    def _about(self, error: Exception) -> dict[str, str]:
        return {"resource": self.resource.group_resource, "error": str(error)}


Selection = tuple[Resource, str | None, str, str, bool, Keep | None]


class Informers:
    """A factory of informers that share one client."""

    def __init__(self, client: Client, random: Random | None = None) -> None:
        self.client = client
        self._random = random or Random()
        self._door = Door(client, self._random)
        self._informers: dict[Selection, Informer] = {}
        self._holds: Counter[Selection] = Counter()  # how often each was asked for and not released
        self._tasks: dict[Selection, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._background: asyncio.Task[None] | None = None
        self._over = asyncio.Event()

    def informer(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
        indexers: Mapping[str, Indexer] | None = None,
        is_metadata_only: bool = False,
        keep: Keep | None = None,
    ) -> Informer:
        """The informer of a selection. With `is_metadata_only` its objects may be cut down to their metadata: they are
        whole all the same if somebody has asked for whole ones before. `keep` makes what is held of each object, at
        least its key, uid and resourceVersion where they were; such an informer is nobody else's."""
        selection = (resource, namespace, label_selector, field_selector, is_metadata_only, keep)
        if is_metadata_only and (whole := (*selection[:-2], False, None)) in self._informers:
            selection = whole
        informer = self._informers.get(selection)
        if informer is None:
            informer = Informer(
                self.client,
                resource,
                namespace=namespace,
                label_selector=label_selector,
                field_selector=field_selector,
                is_metadata_only=is_metadata_only,
                keep=keep,
                random=self._random,
                door=self._door,
            )
            self._informers[selection] = informer
            if self._group is not None:
                self._start(self._group, selection, informer)
        informer.add_indexers(indexers or {})
        self._holds[selection] += 1
        return informer

    def shared(self, resource: Resource, *, indexers: Mapping[str, Indexer] | None = None) -> Informer:
        """The informer of all objects of a resource that somebody has asked for, in whatever version and whole or not;
        a new one of their metadata if nobody has."""
        for selection, informer in self._informers.items():
            known, namespace, labels, fields, _, keep = selection
            if known.group_resource == resource.group_resource and not (namespace or labels or fields or keep):
                informer.add_indexers(indexers or {})
                self._holds[selection] += 1
                return informer
        return self.informer(resource, is_metadata_only=True, indexers=indexers)

    def release(self, informer: Informer) -> None:
        """Gives back what was asked for once; what nobody holds any more stops."""
        for selection, known in list(self._informers.items()):
            if known is informer:
                self._holds[selection] -= 1
                if self._holds[selection] > 0:
                    continue
                del self._informers[selection], self._holds[selection]
                if (task := self._tasks.pop(selection, None)) is not None:
                    task.cancel()

    async def run(self) -> None:
        """Runs all informers, present and to come, until cancelled. A second call waits for the first to end."""
        if self._group is not None:
            await self._over.wait()
            return
        self._over.clear()
        try:
            async with asyncio.TaskGroup() as self._group:
                for selection, informer in self._informers.items():
                    self._start(self._group, selection, informer)
                await asyncio.get_running_loop().create_future()
        finally:
            await self._door.close()
            self._group = None
            self._tasks.clear()
            self._over.set()

    async def wait_synced(self) -> None:
        """Until every informer asked for so far has the whole state."""
        for informer in list(self._informers.values()):
            await informer.wait_synced()

    def lagging(self) -> list[str]:
        """The resources whose first state is not there yet: what a component that does not start waits for."""
        return sorted(informer.resource.group_resource for informer in self._informers.values() if not informer.synced)

    async def __aenter__(self) -> Informers:
        if self._background is None:
            self._background = asyncio.create_task(self.run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        task, self._background = self._background, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _start(self, group: asyncio.TaskGroup, selection: Selection, informer: Informer) -> None:
        self._tasks[selection] = group.create_task(informer.run(), name=f"informer {informer.resource.group_resource}")
