"""The store in one SQLite file: a log table, one writer thread, group commit.

A write is decided on the event loop (`heads.py`) and handed to the writer thread. The thread takes all that wait, up to
BATCH_WRITES_MAX, and inserts them as **one statement**: one transaction, one fsync (WAL, synchronous=FULL), and one
release of the interpreter lock. The loop then delivers the batch to the watches and acknowledges it, in this order.
Nothing is acknowledged before it is on the disk; kill the process at any instant and every acknowledged write is there
afterwards.

    log(revision, key, created, previous, expires, value)     value NULL: a deletion
    state(name, value)                                        compacted: the oldest revision that can be read

Since a row names the revision it replaced, compaction never searches: the rows of a range of revisions say themselves
which older rows nobody needs any more. It runs in slices of SLICE_S on the writer thread, between batches of writes.
The pages it frees are used again, the rest is given back by incremental vacuum, and the write-ahead log is checkpointed
every WAL_PAGES: the file is bounded by what is alive plus what was written since the last compaction.
Reads of old revisions go through a second connection in a thread of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from orchestrator.api.clock import Clock, SystemClock
from orchestrator.store import sqlite_log
from orchestrator.store.broadcast import Broadcast
from orchestrator.store.expiry import Expiry
from orchestrator.store.heads import Heads, Write
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
)

log = logging.getLogger(__name__)

BATCH_WRITES_MAX = 64
BATCH_BYTES_MAX = 4 << 20
HISTORY_PAGE = 1000
RECOVERY_STEP_S = 1.0

T = TypeVar("T")
Waiting = tuple[Write, "asyncio.Future[int]"]
Work = Callable[[sqlite3.Connection], object]


class SqliteStore:
    """Opened by `await SqliteStore.open(path)`."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._heads = Heads()
        self._delivered = self._heads.revision
        self._compacted = self._heads.revision
        self._broadcast = Broadcast()
        self._expiry = Expiry(clock, lambda key, revision: self.delete(key, expected=revision))
        self._queue: queue.SimpleQueue[Waiting | Work | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write_batches, name="store-writer", daemon=True)
        self._reader = ThreadPoolExecutor(1, "store-reader")
        self._reading: sqlite3.Connection | None = None
        self._failed: BaseException | None = None
        self._compacting = asyncio.Lock()
        self._recovery: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, path: str | Path, clock: Clock | None = None) -> SqliteStore:
        """Creates the file where there is none; StoreFailed where it cannot be used."""
        store = cls(Path(path), clock or SystemClock())
        store._lock()
        try:
            connection = sqlite_log.connect(store._path)
            if damage := [row[0] for row in connection.execute("PRAGMA quick_check(3)") if row[0] != "ok"]:
                raise sqlite3.DatabaseError(f"damaged: {'; '.join(damage)}: restore a backup (sampan store restore)")
            await store._restore(connection)
        except sqlite3.Error as error:
            raise StoreFailed(f"{path}: {error}") from error
        store._connection = connection
        store._writer.start()
        return store

    _connection: sqlite3.Connection

    def _lock(self) -> None:
        """One server at a time; the file beside the store tells others, and goes free with the process."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._locked = self._path.with_name(f"{self._path.name}.lock").open("a")
        try:
            fcntl.flock(self._locked, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._locked.close()
            raise StoreFailed(f"{self._path}: another API server has it open") from error

    async def _restore(self, connection: sqlite3.Connection) -> None:
        self._compacted = sqlite_log.compacted(connection)
        self._heads.revision = max(self._heads.revision, self._compacted)
        expiring: dict[str, tuple[int, float]] = {}
        for revision, key, created, expires, deleted in sqlite_log.rows(connection):
            self._heads.restore(key, revision, created, deleted=bool(deleted))
            expiring.pop(key, None)
            if expires:
                expiring[key] = (revision, expires)
        self._delivered = self._heads.revision
        for key, (revision, expires) in expiring.items():
            self._expiry.add(key, revision, expires)

    # -- reads ---------------------------------------------------------------------------------------------------------

    @property
    def revision(self) -> int:
        return self._delivered

    @property
    def compacted(self) -> int:
        return self._compacted

    @property
    def failure(self) -> str | None:
        return None if self._failed is None else str(self._failed)

    @property
    def is_shared(self) -> bool:
        return False

    async def latest_revision(self) -> int:
        return self._delivered  # no one else writes to this file

    async def get(self, key: str) -> Item | None:
        return await self._read(lambda connection: sqlite_log.get(connection, key, self._delivered))

    async def range(self, prefix: str, *, revision: int = 0, after: str = "", limit: int = 0) -> Page:
        while True:
            at = revision or self._delivered
            self._check(at)
            page = await self._read(partial(sqlite_log.page, prefix=prefix, revision=at, after=after, limit=limit))
            if revision or at >= self._compacted:
                self._check(at)  # it may have been compacted while we read
                return page
            # What was the present then cannot be read any more, but there is another.

    async def history(self, prefix: str, *, after: int, limit: int) -> list[Event]:
        self._check(after)
        upto = self._delivered
        events = await self._read(lambda connection: sqlite_log.history(connection, prefix, after, upto, limit))
        self._check(after)
        return events

    async def watch(self, prefix: str, *, after: int, sink: Sink) -> Cancel:
        self._check(after)
        watch = self._broadcast.add(prefix, sink, replaying=after < self._delivered)
        upto = self._delivered
        try:
            while after < upto:
                self._check(after)
                events = await self._read(partial(_history_page, prefix=prefix, after=after, upto=upto))
                if events:
                    sink(events)
                after = events[-1].revision if len(events) == HISTORY_PAGE else upto
        except BaseException:
            self._broadcast.remove(watch)
            raise
        watch.go_live()
        return lambda: self._broadcast.remove(watch)

    def _check(self, revision: int) -> None:
        if revision < self._compacted:
            raise Compacted(revision, self._compacted)
        if revision > self._delivered:
            raise FutureRevision(revision, self._delivered)

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def run() -> T:
            if self._reading is None:
                self._reading = sqlite_log.connect(self._path)
            return work(self._reading)

        return await self._loop.run_in_executor(self._reader, run)

    # -- writes --------------------------------------------------------------------------------------------------------

    async def create(self, key: str, value: bytes, *, ttl_s: float = 0) -> int:
        return await self._write(partial(self._heads.create, key, value, self._expires(ttl_s)))

    async def update(self, key: str, value: bytes, *, expected: int, ttl_s: float = 0) -> int:
        return await self._write(partial(self._heads.update, key, value, expected, self._expires(ttl_s)))

    async def delete(self, key: str, *, expected: int) -> int:
        return await self._write(partial(self._heads.delete, key, expected))

    async def _write(self, decide: Callable[[], Write]) -> int:
        """Carries out what may be written. Who lost a race is told only when the watches have been told who won: it
        looks again in the cache that they feed, and would find the same old revision there, again and again."""
        self._usable()
        try:
            write = decide()
        except (KeyExists, RevisionMismatch):
            await self._on_writer(_nothing)
            raise
        return await self._commit(write)

    def _expires(self, ttl_s: float) -> float:
        return self._clock.now() + ttl_s if ttl_s else 0

    def _usable(self) -> None:
        if self._failed is not None:
            raise StoreFailed(f"{self._path}: {self._failed}") from self._failed

    def _commit(self, write: Write) -> asyncio.Future[int]:
        done: asyncio.Future[int] = self._loop.create_future()
        self._queue.put((write, done))
        return done

    def _write_batches(self) -> None:
        """The writer thread: takes what waits, commits it, tells the loop."""
        taken: Waiting | Work | None = self._queue.get()
        while taken is not None:
            if callable(taken):
                taken(self._connection)
                taken = self._queue.get()
                continue
            batch, taken = self._batch(taken)
            error = self._insert(batch)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits for the answer any more
                self._loop.call_soon_threadsafe(self._settle, batch, error)
            if taken is _EMPTY:
                taken = self._queue.get()
        self._connection.close()

    def _batch(self, first: Waiting) -> tuple[list[Waiting], Waiting | Work | None]:
        """The batch that starts with `first`, and what was taken from the queue but does not belong to it."""
        batch, size_bytes = [first], len(first[0].value or b"")
        while len(batch) < BATCH_WRITES_MAX and size_bytes < BATCH_BYTES_MAX:
            try:
                taken = self._queue.get_nowait()
            except queue.Empty:
                break
            if taken is None or callable(taken):
                return batch, taken
            batch.append(taken)
            size_bytes += len(taken[0].value or b"")
        return batch, _EMPTY

    def _insert(self, batch: list[Waiting]) -> BaseException | None:
        if self._failed is not None:
            return self._failed
        try:
            sqlite_log.insert(self._connection, [write for write, _ in batch])
        except (sqlite3.Error, OSError) as error:
            # The writes behind this one were decided on top of it, so none of them may land either.
            self._failed = error
            return error
        return None

    def _settle(self, batch: list[Waiting], error: BaseException | None) -> None:
        """On the loop: deliver, then acknowledge; or fail all of them."""
        if error is not None:
            log.error("store failed", extra={"path": str(self._path), "error": str(error)})
            for _, done in batch:
                if not done.done():
                    done.set_exception(StoreFailed(f"{self._path}: {error}"))
            if self._recovery is None:
                self._recovery = self._loop.create_task(self._recover())
            return
        self._delivered = batch[-1][0].revision
        for write, _ in batch:
            if write.expires:
                self._expiry.add(write.key, write.revision, write.expires)
        self._broadcast.deliver(
            [Event(write.key, write.value, write.revision, write.created, write.previous) for write, _ in batch]
        )
        for write, done in batch:
            if not done.done():
                done.set_result(write.revision)

    async def _recover(self) -> None:
        """After a write that the disk refused: begins again from what the disk holds, as soon as it can be written. By
        then all that waited has failed. Reads go on meanwhile; revisions that failed are never given out again."""
        while True:
            await asyncio.sleep(RECOVERY_STEP_S)
            try:
                await self._on_writer(sqlite_log.probe)
                kept = await self._on_writer(lambda connection: list(sqlite_log.rows(connection)))
            except StoreFailed:
                continue
            heads = Heads()
            heads.revision = self._heads.revision
            for revision, key, created, _, deleted in kept:
                heads.restore(key, revision, created, deleted=bool(deleted))
            self._heads, self._failed, self._recovery = heads, None, None
            log.warning("store recovered", extra={"path": str(self._path), "revision": self._delivered})
            return

    # -- upkeep --------------------------------------------------------------------------------------------------------

    async def compact(self, revision: int) -> None:
        self._check(revision)
        async with self._compacting:
            start, self._compacted = self._compacted, max(self._compacted, revision)
            while start < revision:
                start = await self._on_writer(partial(sqlite_log.compact_slice, after=start, upto=revision))
            while await self._on_writer(sqlite_log.vacuum_slice):
                continue

    async def _on_writer(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Runs `work` on the writer thread, between two batches."""
        done: asyncio.Future[T] = self._loop.create_future()

        def settle(result: T | None, error: BaseException | None) -> None:
            if done.done():
                return
            if error is not None:
                done.set_exception(StoreFailed(f"{self._path}: {error}"))
            else:
                done.set_result(result)  # type: ignore[arg-type]

        def run(connection: sqlite3.Connection) -> None:
            result, failure = None, None
            started = time.monotonic()
            try:
                result = work(connection)
            except sqlite3.Error as error:
                failure = error
            log.debug("store upkeep", extra={"took_s": time.monotonic() - started})
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(settle, result, failure)

        self._queue.put(run)
        return await done

    async def close(self) -> None:
        """Commits what waits, then closes the file."""
        await self._expiry.close()
        if self._recovery is not None:
            self._recovery.cancel()
        self._queue.put(None)
        await self._loop.run_in_executor(None, self._writer.join)
        self._reader.shutdown()
        if self._reading is not None:
            self._reading.close()
        self._locked.close()


def _history_page(connection: sqlite3.Connection, prefix: str, after: int, upto: int) -> list[Event]:
    return sqlite_log.history(connection, prefix, after, upto, HISTORY_PAGE)


def _nothing(connection: sqlite3.Connection) -> None:
    """Stands for an empty queue, where None means the end."""


_EMPTY: Work = _nothing
