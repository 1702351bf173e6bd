"""The SQL of the SQLite store: every statement it runs, as functions of a connection."""

from __future__ import annotations

import sqlite3
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from orchestrator.store.heads import FIRST_REVISION, Write
from orchestrator.store.interface import Event, Item, Page, prefix_end

SCHEMA_VERSION = 2
WAL_PAGES = 2000  # of 4 KiB: checkpoint when the write-ahead log has 8 MiB
WAL_BYTES_MAX = 64 << 20  # what a checkpoint leaves of the file
SLICE_S = 0.008  # of upkeep at a time; with its fsync a write waits 20 ms for it at most
SLICE_REVISIONS = 100
VACUUM_PAGES = 100
FREE_PAGES_KEPT = 2000  # freed pages that stay in the file for the next writes
STATEMENTS_CACHED = 256  # one for each size of a batch

SCHEMA = """
CREATE TABLE log (
    revision INTEGER PRIMARY KEY,
    key      TEXT    NOT NULL,
    created  INTEGER NOT NULL,
    previous INTEGER NOT NULL,
    expires  REAL    NOT NULL,
    value    BLOB,
    sum      INTEGER
);
CREATE INDEX log_key ON log (key, revision);
CREATE TABLE state (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""


def connect(path: Path) -> sqlite3.Connection:
    """A connection in autocommit mode; makes the tables where the file is new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, cached_statements=STATEMENTS_CACHED, timeout=30
    )
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == 0:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_MAX}")
    connection.execute("PRAGMA cache_size = -4096")  # 4 MiB: the watch cache is the cache
    if version == 0:
        connection.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
    elif version == 1:  # rows of that time have no sum, and are believed
        connection.executescript("BEGIN; ALTER TABLE log ADD COLUMN sum INTEGER; PRAGMA user_version = 2; COMMIT;")
    elif version != SCHEMA_VERSION:
        raise sqlite3.DatabaseError(f"schema version {version} is not {SCHEMA_VERSION}")
    return connection


def checksum(revision: int, key: str, value: bytes | None) -> int:
    """What a row must add up to: a disk may give back other bytes than it was given."""
    return zlib.crc32(value or b"", zlib.crc32(f"{revision}\0{key}\0{value is None:d}".encode()))


def check(connection: sqlite3.Connection) -> list[str]:
    """What is wrong with the file, in words; nothing where it is sound."""
    found = [row[0] for row in connection.execute("PRAGMA quick_check(10)") if row[0] != "ok"]
    if found:
        return found
    for revision, key, value, total in connection.execute(
        "SELECT revision, key, value, sum FROM log ORDER BY revision"
    ):
        if total is not None and checksum(revision, key, value) != total:
            found.append(f"revision {revision} (key {key}): its bytes are not those that were written")
    return found


def rows(connection: sqlite3.Connection) -> Iterator[tuple[int, str, int, float, int]]:
    """(revision, key, created, expires, is deleted) of the whole log, in order. sqlite3.DatabaseError for a row whose
    bytes are not those that were written."""
    found = connection.execute("SELECT revision, key, created, expires, value, sum FROM log ORDER BY revision")
    for revision, key, created, expires, value, total in found:
        if total is not None and checksum(revision, key, value) != total:
            raise sqlite3.DatabaseError(f"revision {revision} (key {key}) is damaged: restore a backup (sampan store)")
        yield revision, key, created, expires, value is None


def compacted(connection: sqlite3.Connection) -> int:
    found = connection.execute("SELECT value FROM state WHERE name = 'compacted'").fetchone()
    return found[0] if found else FIRST_REVISION


def insert(connection: sqlite3.Connection, writes: Sequence[Write]) -> None:
    """One statement, so one transaction and one fsync, however many rows."""
    values: list[object] = []
    for write in writes:
        total = checksum(write.revision, write.key, write.value)
        values += (write.revision, write.key, write.created, write.previous, write.expires, write.value, total)
    marks = ",".join(["(?,?,?,?,?,?,?)"] * len(writes))
    columns = "revision, key, created, previous, expires, value, sum"
    connection.execute(f"INSERT INTO log ({columns}) VALUES {marks}", values)


def probe(connection: sqlite3.Connection) -> None:
    """Writes something that changes nothing; sqlite3.Error while the disk refuses."""
    connection.execute("INSERT OR REPLACE INTO state VALUES ('probe', 0)")


def get(connection: sqlite3.Connection, key: str, revision: int) -> Item | None:
    found = connection.execute(
        "SELECT value, revision, created FROM log WHERE key = ? AND revision <= ? ORDER BY revision DESC LIMIT 1",
        (key, revision),
    ).fetchone()
    if found is None or found[0] is None:
        return None
    return Item(key, found[0], found[1], found[2])


def page(connection: sqlite3.Connection, prefix: str, revision: int, after: str, limit: int) -> Page:
    start = after + "\x00" if after > prefix else prefix
    # With MAX() in the row, SQLite takes the other columns from the row that has the maximum.
    latest = connection.execute(
        "SELECT MAX(revision), value IS NULL FROM log WHERE key >= ? AND key < ? AND revision <= ?"
        " GROUP BY key ORDER BY key",
        (start, prefix_end(prefix), revision),
    )
    alive = [row[0] for row in latest if not row[1]]
    wanted = alive[:limit] if limit else alive
    items = []
    for one in wanted:
        found = connection.execute("SELECT key, value, created FROM log WHERE revision = ?", (one,)).fetchone()
        if found is not None:  # else compacted meanwhile: the caller looks at the compacted revision again
            items.append(Item(found[0], found[1], one, found[2]))
    return Page(items, revision, len(alive) - len(wanted))


def history(connection: sqlite3.Connection, prefix: str, after: int, upto: int, limit: int) -> list[Event]:
    found = connection.execute(
        "SELECT new.key, new.value, new.revision, new.created, new.previous, old.value FROM log AS new"
        " LEFT JOIN log AS old ON old.revision = new.previous"
        " WHERE new.revision > ? AND new.revision <= ? AND new.key >= ? AND new.key < ?"
        " ORDER BY new.revision LIMIT ?",
        (after, upto, prefix, prefix_end(prefix), limit),
    )
    return [Event(*row) for row in found]


def compact_slice(connection: sqlite3.Connection, after: int, upto: int) -> int:
    """Forgets what the revisions in (after, upto] replaced, for SLICE_S at most; returns the revision it came to. The
    state says how far reading is refused before the first row goes."""
    deadline = time.monotonic() + SLICE_S
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute("INSERT OR REPLACE INTO state VALUES ('compacted', ?)", (upto,))
        while after < upto and time.monotonic() < deadline:
            end = min(after + SLICE_REVISIONS, upto)
            connection.execute(
                "DELETE FROM log WHERE revision IN"
                " (SELECT previous FROM log WHERE revision > ? AND revision <= ? AND previous > 0)",
                (after, end),
            )
            connection.execute("DELETE FROM log WHERE revision > ? AND revision <= ? AND value IS NULL", (after, end))
            after = end
        connection.execute("COMMIT")
    except sqlite3.Error:
        connection.execute("ROLLBACK")
        raise
    return after


def vacuum_slice(connection: sqlite3.Connection) -> bool:
    """Gives some free pages back to the file system; True while there are more than FREE_PAGES_KEPT."""
    free = connection.execute("PRAGMA freelist_count").fetchone()[0]
    if free <= FREE_PAGES_KEPT:
        return False
    connection.execute(f"PRAGMA incremental_vacuum({VACUUM_PAGES})").fetchall()
    return True
