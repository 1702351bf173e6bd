"""Kill -9 amid concurrent writes: every acknowledged write is there afterwards, and nothing half-written."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.store.interface import StoreFailed
from orchestrator.store.sqlite import SqliteStore

WRITER = """
import asyncio, sys
from orchestrator.store.sqlite import SqliteStore

async def client(store, number):
    key = f"key/{number}"
    revision = await store.create(key, b"0" * 2000)
    print(key, revision, 0, flush=True)
    for count in range(1, 1_000_000):
        revision = await store.update(key, str(count).encode() * 2000, expected=revision)
        print(key, revision, count, flush=True)
        if count % 50 == 0 and number == 0:
            await store.compact(store.revision)

async def main():
    store = await SqliteStore.open(sys.argv[1])
    await asyncio.gather(*(client(store, number) for number in range(16)))

asyncio.run(main())
"""


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_acknowledged_writes_survive(seed: int, tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    acknowledged: dict[str, tuple[int, int]] = {}
    lines_wanted = random.Random(seed).randint(200, 2000)
    for _ in range(lines_wanted):
        key, revision, count = process.stdout.readline().split()
        acknowledged[key] = (int(revision), int(count))
    os.kill(process.pid, signal.SIGKILL)
    for line in process.stdout:  # what it had said and we had not yet read
        if len(words := line.split()) == 3 and line.endswith("\n"):
            acknowledged[words[0]] = (int(words[1]), int(words[2]))
    process.wait()

    store = await SqliteStore.open(path)
    for key, (revision, count) in acknowledged.items():
        item = await store.get(key)
        assert item is not None
        assert item.revision >= revision
        # A write may be durable whose acknowledgement was not heard: at most the next one of this client.
        kept = (len(item.value) // 2000, item.value)
        possible = [str(number).encode() * 2000 for number in (count, count + 1)]
        assert item.value in possible or count == 0, (key, revision, count, kept[0])
    before = store.revision
    assert await store.create("after", b"") == before + 1
    await store.close()


async def test_a_full_disk_fails_the_write_and_says_so(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "store.db")
    await store.create("a", b"1")
    await store._on_writer(lambda connection: connection.execute("PRAGMA max_page_count = 10").fetchall())
    with pytest.raises(StoreFailed, match="full"):
        await store.create("b", b"x" * 100_000)
    assert (await store.range("")).items[0].key == "a"
    assert store.revision == 2
    await store._on_writer(lambda connection: connection.execute("PRAGMA max_page_count = 100000").fetchall())
    async with asyncio.timeout(10):
        while store.failure is not None:
            await asyncio.sleep(0.02)
    assert await store.create("b", b"2") == 4  # the revision that failed is not given out again
    assert await store.update("a", b"3", expected=2) == 5
    await store.close()
