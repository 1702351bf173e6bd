"""The store on etcd: several API servers share it, and it outlives any of its members.

Every write is a transaction that compares a key's revision. One watch of the whole cluster feeds this server; a write
is acknowledged, and a lost race told, once that watch has brought everything up to it, so a cache behind this store is
never older than what its own clients were told. What other servers wrote is in `latest_revision`.
Keys with a time to live share leases, a lease for each LEASE_WINDOW_S of their end. Where a write's answer is lost, its
outcome is not known: StoreFailed says so, as etcd's own clients do.
Source: etcd v3 API guarantees; k8s.io/apiserver pkg/storage/etcd3.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Sequence
from typing import Any

import aiohttp

from orchestrator.store.broadcast import Broadcast
from orchestrator.store.etcd_api import OUT_OF_RANGE, Etcd, EtcdError, b64, text, value
from orchestrator.store.interface import (
    Cancel,
    Compacted,
    Event,
    FutureRevision,
    Item,
    KeyExists,
    Page,
    RevisionMismatch,
    Sink,
    StoreFailed,
    prefix_end,
)

log = logging.getLogger(__name__)

PREFIX = "/registry/"
LEASE_WINDOW_S = 60.0
RANGE_PAGE = 10_000
RETRY_S = 0.2
ARRIVAL_TIMEOUT_S = 10.0
Unreachable = (aiohttp.ClientError, OSError, TimeoutError)


class EtcdStore:
    """Opened by `await EtcdStore.open(endpoints)`."""

    def __init__(self, etcd: Etcd, prefix: str) -> None:
        self._etcd = etcd
        self._prefix = prefix
        self._delivered = 0
        self._compacted = 1
        self._failure: str | None = None
        self._broadcast = Broadcast()
        self._arrived: dict[int, asyncio.Future[None]] = {}
        self._leases: dict[int, tuple[str, float]] = {}  # window → (lease, until when it is used)
        self._question: asyncio.Task[int] | None = None  # of the latest revision: asked last
        self._next_question: asyncio.Task[int] | None = None
        self._feed: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, endpoints: Sequence[str], tls: ssl.SSLContext | None = None, prefix: str = PREFIX) -> EtcdStore:
        """StoreFailed where no endpoint answers."""
        store = cls(Etcd(endpoints, tls), prefix)
        try:
            store._delivered = await store._current()
        except (EtcdError, *Unreachable) as error:
            await store._etcd.close()
            raise StoreFailed(f"etcd {', '.join(endpoints)}: {error or type(error).__name__}") from error
        store._feed = asyncio.get_running_loop().create_task(store._follow())
        return store

    async def close(self) -> None:
        if self._feed is not None:
            self._feed.cancel()
            await asyncio.gather(self._feed, return_exceptions=True)
        await self._etcd.close()

    # -- state ---------------------------------------------------------------------------------------------------------

    @property
    def revision(self) -> int:
        return self._delivered

    @property
    def compacted(self) -> int:
        return self._compacted

    @property
    def failure(self) -> str | None:
        return self._failure

    @property
    def is_shared(self) -> bool:
        return True

    async def latest_revision(self) -> int:
        """Asked of etcd. A question may have been decided before this call, so whoever comes while one is out waits for
        the next, and all of them share that one."""
        if self._next_question is None:
            self._next_question = asyncio.get_running_loop().create_task(self._ask_after(self._question))
        try:
            return await asyncio.shield(self._next_question)
        except (EtcdError, *Unreachable) as error:
            raise StoreFailed(f"etcd: {error or type(error).__name__}") from error

    async def _ask_after(self, question: asyncio.Task[int] | None) -> int:
        if question is not None:
            await asyncio.wait([question])
        self._question, self._next_question = self._next_question, None
        return await self._current()

    async def _current(self) -> int:
        answer = await self._etcd.call("kv/range", {"key": b64(self._prefix), "count_only": True}, is_read=True)
        return int(answer["header"]["revision"])

    # -- reads ---------------------------------------------------------------------------------------------------------

    async def get(self, key: str) -> Item | None:
        answer = await self._read({"key": b64(self._prefix + key)})
        found = answer.get("kvs")
        return self._item(found[0]) if found else None

    async def range(self, prefix: str, *, revision: int = 0, after: str = "", limit: int = 0) -> Page:
        first = self._prefix + (f"{after}\0" if after > prefix else prefix)
        body: dict[str, Any] = {"key": b64(first), "range_end": b64(self._end(prefix))}
        if revision:
            body["revision"] = str(revision)
        items: list[Item] = []
        while True:
            body["limit"] = str(limit or RANGE_PAGE)
            answer = await self._read(body, revision)
            items += [self._item(found) for found in answer.get("kvs") or ()]
            at = revision or int(answer["header"]["revision"])
            remaining = int(answer.get("count") or 0) - len(answer.get("kvs") or ())
            if limit or not answer.get("more"):
                return Page(items, at, remaining if limit else 0)
            body["key"] = b64(f"{self._prefix}{items[-1].key}\0")
            revision = at
            body["revision"] = str(at)

    async def _read(self, body: dict[str, Any], revision: int = 0) -> dict[str, Any]:
        try:
            return await self._etcd.call("kv/range", body, is_read=True)
        except EtcdError as error:
            if error.code == OUT_OF_RANGE and "compacted" in str(error):
                raise Compacted(revision, max(self._compacted, revision + 1)) from error
            if error.code == OUT_OF_RANGE:
                raise FutureRevision(revision, self._delivered) from error
            raise StoreFailed(f"etcd: {error}") from error
        except Unreachable as error:
            raise StoreFailed(f"etcd: {error or type(error).__name__}") from error

    async def history(self, prefix: str, *, after: int, limit: int) -> list[Event]:
        upto = self._delivered
        if after < self._compacted:
            raise Compacted(after, self._compacted)
        if after > upto:
            raise FutureRevision(after, upto)
        found: list[Event] = []
        if after == upto:
            return found
        try:
            async for message in self._etcd.watch(after + 1):
                if message.get("compact_revision"):
                    raise Compacted(after, int(message["compact_revision"]))
                for event in self._events(message, with_previous=True):
                    if event.key.startswith(prefix) and event.revision <= upto:
                        found.append(event)
                last = message.get("events")
                if len(found) >= limit or (last and int(last[-1]["kv"]["mod_revision"]) >= upto):
                    break
        except (EtcdError, *Unreachable) as error:
            raise StoreFailed(f"etcd: {error or type(error).__name__}") from error
        return found[:limit]

    def _end(self, prefix: str) -> str:
        return prefix_end(self._prefix + prefix)

    def _item(self, found: dict[str, Any]) -> Item:
        key = text(found["key"])[len(self._prefix) :]
        return Item(key, value(found.get("value")), int(found["mod_revision"]), int(found["create_revision"]))

    # -- writes --------------------------------------------------------------------------------------------------------

    async def create(self, key: str, value: bytes, *, ttl_s: float = 0) -> int:
        done, revision, _ = await self._swap(key, {"target": "CREATE", "create_revision": "0"}, value, ttl_s)
        if not done:
            raise KeyExists(key)
        return revision

    async def update(self, key: str, value: bytes, *, expected: int, ttl_s: float = 0) -> int:
        compare = {"target": "MOD", "mod_revision": str(expected)}
        done, revision, actual = await self._swap(key, compare, value, ttl_s)
        if not done or not expected:
            raise RevisionMismatch(key, expected, actual)
        return revision

    async def delete(self, key: str, *, expected: int) -> int:
        done, revision, actual = await self._swap(key, {"target": "MOD", "mod_revision": str(expected)}, None, 0)
        if not done or not expected:
            raise RevisionMismatch(key, expected, actual)
        return revision

    async def _swap(self, key: str, compare: dict[str, str], new: bytes | None, ttl_s: float) -> tuple[bool, int, int]:
        """(whether it was written, etcd's revision, the key's revision where it was not)."""
        place = b64(self._prefix + key)
        if compare["target"] == "MOD" and compare["mod_revision"] == "0":
            compare = {"target": "CREATE", "create_revision": "-1"}  # nothing has revision 0: never true
        if new is None:
            write: dict[str, Any] = {"request_delete_range": {"key": place}}
        else:
            write = {"request_put": {"key": place, "value": b64(new)}}
            if ttl_s:
                write["request_put"]["lease"] = await self._lease(ttl_s)
        body = {
            "compare": [{"key": place, "result": "EQUAL", **compare}],
            "success": [write],
            "failure": [{"request_range": {"key": place, "keys_only": True}}],
        }
        try:
            answer = await self._etcd.call("kv/txn", body)
        except EtcdError as error:
            raise StoreFailed(f"etcd: {error}") from error
        except Unreachable as error:
            why = error or type(error).__name__
            raise StoreFailed(f"etcd did not answer, so whether it was written is not known: {why}") from error
        revision = int(answer["header"]["revision"])
        await self._arrival(revision)
        if answer.get("succeeded"):
            return True, revision, revision
        found = answer["responses"][0]["response_range"].get("kvs")
        return False, revision, int(found[0]["mod_revision"]) if found else 0

    async def _lease(self, ttl_s: float) -> str:
        """A lease that ends between `ttl_s` and LEASE_WINDOW_S later (a tenth later, for short times)."""
        now = time.monotonic()
        window_s = min(LEASE_WINDOW_S, ttl_s / 10)
        window = round(ttl_s)
        lease, until = self._leases.get(window, ("", 0.0))
        if now < until:
            return lease
        try:
            answer = await self._etcd.call("lease/grant", {"TTL": str(max(1, round(ttl_s + window_s)))})
        except (EtcdError, *Unreachable) as error:
            raise StoreFailed(f"etcd: {error or type(error).__name__}") from error
        self._leases[window] = (str(answer["ID"]), now + window_s)
        return str(answer["ID"])

    async def compact(self, revision: int) -> None:
        if revision > self._delivered:
            raise FutureRevision(revision, self._delivered)
        try:
            await self._etcd.call("kv/compaction", {"revision": str(revision)})
        except EtcdError as error:
            if error.code != OUT_OF_RANGE:  # another server has compacted further
                raise StoreFailed(f"etcd: {error}") from error
        except Unreachable as error:
            raise StoreFailed(f"etcd: {error or type(error).__name__}") from error
        self._compacted = max(self._compacted, revision)

    # -- the feed ------------------------------------------------------------------------------------------------------

    async def watch(self, prefix: str, *, after: int, sink: Sink) -> Cancel:
        if after < self._compacted:
            raise Compacted(after, self._compacted)
        if after > self._delivered:  # a read is ahead of the feed while others write
            if after > await self.latest_revision():
                raise FutureRevision(after, self._delivered)
            await self._arrival(after)
        watch = self._broadcast.add(prefix, sink, replaying=True)
        try:
            while old := await self.history(prefix, after=after, limit=RANGE_PAGE):
                held = {(event.key, event.revision) for event in watch.held or ()}
                new = [event for event in old if (event.key, event.revision) not in held]
                if new:
                    sink(new)
                after = old[-1].revision
                if len(old) < RANGE_PAGE:
                    break
        except BaseException:
            self._broadcast.remove(watch)
            raise
        watch.go_live()
        return lambda: self._broadcast.remove(watch)

    async def _follow(self) -> None:
        """The one watch of this server; begun again where it left off when its connection breaks."""
        while True:
            try:
                async for message in self._etcd.watch(self._delivered + 1):
                    if message.get("compact_revision"):
                        self._failure = f"etcd was compacted past revision {self._delivered}: this server must restart"
                        log.error(self._failure)
                        return
                    self._failure = None
                    self._deliver(message)
                reason = "closed"
            except (EtcdError, *Unreachable) as error:
                reason = str(error) or type(error).__name__
            self._failure = f"the watch of etcd has ended: {reason}"
            log.warning("watch of etcd ended", extra={"reason": reason, "revision": self._delivered})
            await asyncio.sleep(RETRY_S)

    def _deliver(self, message: dict[str, Any]) -> None:
        raw = message.get("events") or ()
        if not raw:
            return
        events = [event for event in self._events(message) if event.revision > self._delivered]
        self._delivered = max(self._delivered, int(raw[-1]["kv"]["mod_revision"]))
        if events:
            self._broadcast.deliver(events)
        for revision in [revision for revision in self._arrived if revision <= self._delivered]:
            arrived = self._arrived.pop(revision)
            if not arrived.done():
                arrived.set_result(None)

    def _events(self, message: dict[str, Any], *, with_previous: bool = False) -> list[Event]:
        made = []
        for raw in message.get("events") or ():
            found, before = raw["kv"], raw.get("prev_kv")
            key = text(found["key"])
            if not key.startswith(self._prefix):
                continue
            is_gone = raw.get("type") == "DELETE"
            created = (before or {}).get("create_revision") if is_gone else found["create_revision"]
            made.append(
                Event(
                    key[len(self._prefix) :],
                    None if is_gone else value(found.get("value")),
                    int(found["mod_revision"]),
                    int(created or 0),
                    int(before["mod_revision"]) if before else 0,
                    value(before.get("value")) if before and with_previous else None,
                )
            )
        return made

    async def _arrival(self, revision: int) -> None:
        """Waits until the watch has brought everything up to `revision`."""
        if revision <= self._delivered:
            return
        arrived = self._arrived.setdefault(revision, asyncio.get_running_loop().create_future())
        done, _ = await asyncio.wait([arrived], timeout=ARRIVAL_TIMEOUT_S)
        if not done:
            raise StoreFailed(f"etcd's watch has not brought revision {revision} in {ARRIVAL_TIMEOUT_S:.0f} s")
