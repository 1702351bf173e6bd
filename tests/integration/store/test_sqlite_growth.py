"""Leases renewed for hours: the file and its write-ahead log stay within a bound, and no write waits for upkeep."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from orchestrator.store.interface import Compacted
from orchestrator.store.sqlite import SqliteStore

NODES = 100
ROUNDS = 60  # of ten minutes' worth of history each, were they renewed every 10 s: 60 × 6,000 B × 100
VALUE = b"x" * 600  # a Lease
BYTES_MAX = 24 << 20


def size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.parent.iterdir())


async def test_leases_do_not_bloat_the_file(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = await SqliteStore.open(path)
    revisions = [await store.create(f"leases/{node}", VALUE) for node in range(NODES)]
    sizes = []
    for _ in range(ROUNDS):
        before = store.revision
        for _ in range(10):
            renewed = (store.update(f"leases/{n}", VALUE, expected=revisions[n]) for n in range(NODES))
            revisions = list(await asyncio.gather(*renewed))
        await store.compact(before)
        sizes.append(size(path))
    assert max(sizes) < BYTES_MAX
    assert max(sizes[ROUNDS // 2 :]) <= max(sizes[: ROUNDS // 2]) * 1.2
    assert len((await store.range("")).items) == NODES
    await store.close()
    assert size(path) < 4 << 20


async def test_a_restart_after_compaction_goes_on_counting(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = await SqliteStore.open(path)
    await store.create("a", VALUE)
    await store.delete("a", expected=2)
    await store.compact(3)
    await store.close()
    store = await SqliteStore.open(path)
    assert (store.revision, store.compacted) == (3, 3)
    assert await store.create("a", VALUE) == 4
    await store.close()


async def test_the_present_is_read_again_where_it_was_compacted_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await SqliteStore.open(tmp_path / "store.db")
    old = await store.create("a", b"1")
    read, overtaken = store._read, [False]

    async def slow(work: Any) -> Any:
        found = await read(work)
        if not overtaken[0]:
            overtaken[0] = True
            await store.create("b", b"2")
            await store.compact(store.revision)
        return found

    monkeypatch.setattr(store, "_read", slow)
    page = await store.range("")
    assert ([item.key for item in page.items], page.revision) == (["a", "b"], store.revision)
    with pytest.raises(Compacted):
        await store.range("", revision=old)
    await store.close()
