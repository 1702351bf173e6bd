"""Backup, restore and check of a store file, by whoever looks after it.

A backup is taken through SQLite's own backup while the server goes on writing: it is the store at one revision. A
restore puts a backup in the place of the file while no server has it open; its revision is moved far ahead, so that
clients which knew a later revision than the backup's are told to begin again (410), and none mistakes an old object for
a new one. Errors: StoreFailed, with the file and what is wrong with it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from orchestrator.store import sqlite_log
from orchestrator.store.interface import StoreFailed

AHEAD = 1_000_000  # revisions between a backup's last and the first after its restore


def _open(path: Path) -> sqlite3.Connection:
    if not path.is_file():
        raise StoreFailed(f"{path}: there is no such file")
    try:
        return sqlite3.connect(f"file:{path}?mode=rw", uri=True, isolation_level=None, timeout=30)
    except sqlite3.Error as error:
        raise StoreFailed(f"{path}: {error}") from error


def check(path: Path) -> list[str]:
    """What is wrong with the file, nothing where it is sound."""
    connection = _open(path)
    try:
        return sqlite_log.check(connection)
    except sqlite3.Error as error:
        return [str(error)]
    finally:
        connection.close()


def revision(path: Path) -> int:
    connection = _open(path)
    try:
        found = connection.execute("SELECT COALESCE(MAX(revision), 1) FROM log").fetchone()[0]
        return max(int(found), sqlite_log.compacted(connection))
    except sqlite3.Error as error:
        raise StoreFailed(f"{path}: {error}") from error
    finally:
        connection.close()


def backup(path: Path, target: Path) -> int:
    """Writes `target`, whole or not at all; returns the revision that it holds."""
    source = _open(path)
    temporary = target.with_name(f".{target.name}.new")
    temporary.unlink(missing_ok=True)
    try:
        copy = sqlite3.connect(temporary, isolation_level=None)
        try:
            source.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")
            if damage := sqlite_log.check(copy):
                raise StoreFailed(f"{path}: not backed up, it is damaged: {'; '.join(damage)}")
        finally:
            copy.close()
        temporary.chmod(0o600)
        temporary.rename(target)
    except (sqlite3.Error, OSError) as error:
        raise StoreFailed(f"backup of {path} to {target}: {error}") from error
    finally:
        source.close()
        temporary.unlink(missing_ok=True)
    return revision(target)


@contextlib.contextmanager
def unused(path: Path) -> Iterator[None]:
    """While no server has the store open; StoreFailed where one has."""
    with path.with_name(f"{path.name}.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StoreFailed(f"{path}: an API server has it open: stop that one first") from error
        yield


def restore(source: Path, path: Path) -> int:
    """Puts the backup in the place of the store file; returns the revision from which the store goes on."""
    if damage := check(source):
        raise StoreFailed(f"{source}: not restored, it is damaged: {'; '.join(damage)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with unused(path):
        ahead = max(revision(source), revision(path) if path.is_file() and not check(path) else 0) + AHEAD
        temporary = path.with_name(f".{path.name}.new")
        temporary.unlink(missing_ok=True)
        backup(source, temporary)
        connection = sqlite3.connect(temporary, isolation_level=None)
        try:
            connection.execute("INSERT OR REPLACE INTO state VALUES ('compacted', ?)", (ahead,))
        finally:
            connection.close()
        if path.exists():  # the account that the server runs as keeps it
            kept = path.stat()
            os.chown(temporary, kept.st_uid, kept.st_gid)
            temporary.chmod(kept.st_mode & 0o777)
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        temporary.rename(path)
    return ahead
