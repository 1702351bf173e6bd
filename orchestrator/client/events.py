"""Event recorder: tells users what a component did and why, as Event objects, without ever delaying the component.

`event()` only queues; a task writes while there is something to write. What would flood the API is thinned in three
steps, like client-go's correlator:
1. spam filter: per source and object a bucket of 25 events that refills one in 5 minutes;
2. aggregation: after 10 similar events (same object, type and reason) within 10 minutes, further ones become one event
   "(combined from similar events): …";
3. deduplication: an event just like an earlier one raises that one's `count` with a patch.
The queue is bounded: what does not fit is dropped and counted in the log. Events are hints, never state: a failed
write is given up after a few tries. Source: client-go tools/record; API reference, Event v1.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import OrderedDict, deque
from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field

from orchestrator.api import meta, status
from orchestrator.api.clock import Clock, SystemClock
from orchestrator.api.meta import Object
from orchestrator.api.resources import EVENTS
from orchestrator.client.client import Client

log = logging.getLogger(__name__)

QUEUE_MAX = 1000
CACHE_MAX = 4096
SPAM_BURST = 25
SPAM_REFILL_S = 300.0
SIMILAR_MAX = 10
SIMILAR_WINDOW_S = 600.0
TRIES_MAX = 4
RETRY_DELAY_S = 2.0

Key = tuple[str, ...]


class _Bucket(Struct):
    tokens: float
    at: float


class _Similar(Struct):
    messages: set[str] = field(default_factory=set)
    at: float = 0.0


class _Written(Struct):
    name: str
    count: int
    message: str


class Correlator:
    """Decides for each event whether it is written, and as what."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[Key, _Bucket] = OrderedDict()
        self._similar: OrderedDict[Key, _Similar] = OrderedDict()
        self._written: OrderedDict[Key, _Written] = OrderedDict()

    def admit(self, source: Key, now: float) -> bool:
        """Whether the source's bucket for this object has a token left."""
        bucket = _entry(self._buckets, source, _Bucket(SPAM_BURST, now))
        bucket.tokens = min(SPAM_BURST, bucket.tokens + (now - bucket.at) / SPAM_REFILL_S)
        bucket.at = now
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True

    def aggregate(self, similar: Key, message: str, now: float) -> tuple[Key, str]:
        """The key under which the event is one with earlier ones, and its message."""
        seen = _entry(self._similar, similar, _Similar(at=now))
        if now - seen.at > SIMILAR_WINDOW_S:
            seen.messages.clear()
        seen.at = now
        seen.messages.add(message)
        if len(seen.messages) < SIMILAR_MAX:
            return (*similar, message), message
        seen.messages.pop()
        return similar, f"(combined from similar events): {message}"

    def earlier(self, key: Key) -> _Written | None:
        return self._written.get(key)

    def remember(self, key: Key, written: _Written) -> None:
        _entry(self._written, key, written)
        self._written[key] = written

    def forget(self, key: Key) -> None:
        self._written.pop(key, None)


def _entry(entries: OrderedDict[Key, Any], key: Key, new: Any) -> Any:
    """The entry of a key, kept among the most recently used."""
    found = entries.setdefault(key, new)
    entries.move_to_end(key)
    if len(entries) > CACHE_MAX:
        entries.popitem(last=False)
    return found


class _Queued(Struct, frozen=True):
    reference: Object
    kind: str
    reason: str
    message: str
    action: str
    related: Object | None
    at: float


class EventRecorder:
    """Records events in the name of one component on one host."""

    def __init__(self, client: Client, component: str, host: str = "", clock: Clock | None = None) -> None:
        self._client = client
        self._component = component
        self._host = host
        self._clock = clock or SystemClock()
        self._correlator = Correlator()
        self._queue: deque[_Queued] = deque()
        self._writer: asyncio.Task[None] | None = None
        self._dropped = 0
        self._serial = itertools.count()

    def event(
        self,
        obj: Object,
        kind: str,
        reason: str,
        message: str,
        *,
        action: str = "",
        related: Object | None = None,
        field_path: str = "",
    ) -> None:
        """Queues an event on an object. `kind` is Normal or Warning; `field_path` names a part, as a container."""
        if len(self._queue) >= QUEUE_MAX:
            self._dropped += 1
            if self._dropped % 100 == 1:
                log.warning("events dropped", extra={"component": self._component, "dropped": self._dropped})
            return
        concerns = reference(obj)
        if field_path:
            concerns["fieldPath"] = field_path
        other = reference(related) if related else None
        self._queue.append(_Queued(concerns, kind, reason, message[:1024], action, other, self._clock.now()))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.get_running_loop().create_task(self._write_all())

    async def close(self) -> None:
        """Writes what is queued, then ends."""
        if self._writer is not None:
            await asyncio.gather(self._writer, return_exceptions=True)

    async def _write_all(self) -> None:
        while self._queue:
            queued = self._queue.popleft()
            await self._correlate(queued)

    async def _correlate(self, queued: _Queued) -> None:
        concerns = queued.reference
        identity = tuple(str(concerns.get(part, "")) for part in ("kind", "namespace", "name", "uid", "fieldPath"))
        source = (self._component, self._host, *identity)
        if not self._correlator.admit(source, queued.at):
            return
        key, message = self._correlator.aggregate((*source, queued.kind, queued.reason), queued.message, queued.at)
        for attempt in range(TRIES_MAX):
            try:
                await self._write(key, message, queued)
                return
            except ConnectionError:
                await asyncio.sleep(RETRY_DELAY_S * (attempt + 1))
            except status.ApiError as error:
                # A namespace that is being deleted takes no events: nothing to tell anyone.
                log.debug("event refused", extra={"reason": queued.reason, "error": str(error)})
                return
        log.warning("event given up", extra={"reason": queued.reason, "object": identity})

    async def _write(self, key: Key, message: str, queued: _Queued) -> None:
        namespace = queued.reference.get("namespace") or "default"
        earlier = self._correlator.earlier(key)
        if earlier is not None:
            count = earlier.count + 1
            patch = {"count": count, "lastTimestamp": meta.format_time(queued.at), "message": message}
            try:
                await self._client.patch(EVENTS, earlier.name, namespace, patch, "strategic")
                self._correlator.remember(key, _Written(earlier.name, count, message))
                return
            except status.NotFound:
                self._correlator.forget(key)  # it has expired: write a new one
        name = f"{queued.reference['name']}.{int(queued.at * 1e6):x}{next(self._serial) & 0xFFFF:04x}"
        await self._client.create(EVENTS, self._object(name, namespace, message, queued))
        self._correlator.remember(key, _Written(name, 1, message))

    def _object(self, name: str, namespace: str, message: str, queued: _Queued) -> Object:
        at = meta.format_time(queued.at)
        source = {"component": self._component, "host": self._host}
        made: Object = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": queued.reference,
            "type": queued.kind,
            "reason": queued.reason,
            "message": message,
            "source": {part: value for part, value in source.items() if value},
            "firstTimestamp": at,
            "lastTimestamp": at,
            "count": 1,
            "reportingComponent": self._component,
            "reportingInstance": self._host,
        }
        if queued.action:
            made["action"] = queued.action
        if queued.related:
            made["related"] = queued.related
        return made


def reference(obj: Mapping[str, Any]) -> Object:
    """The ObjectReference to an object; one that is a reference already stays what it is."""
    if "metadata" not in obj:
        return dict(obj)
    parts = {
        "kind": obj.get("kind"),
        "namespace": meta.namespace(obj),
        "name": meta.name(obj),
        "uid": meta.uid(obj),
        "apiVersion": obj.get("apiVersion"),
        "resourceVersion": meta.resource_version(obj),
    }
    return {part: value for part, value in parts.items() if value}
