"""Backups taken from a running store, restores that clients notice, and damage that is said and never served."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from orchestrator.cli.app import main
from orchestrator.store import upkeep
from orchestrator.store.interface import Compacted, StoreFailed
from orchestrator.store.sqlite import SqliteStore


async def test_a_backup_of_a_running_store_is_one_revision(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "store.db")
    for number in range(200):
        await store.create(f"k{number}", b"x" * 1000)

    async def write() -> None:
        for number in range(200):
            await store.create(f"l{number}", b"y" * 1000)

    writing = asyncio.ensure_future(write())
    revision = await asyncio.to_thread(upkeep.backup, tmp_path / "store.db", tmp_path / "backup.db")
    await writing
    await store.close()
    copy = await SqliteStore.open(tmp_path / "backup.db")
    page = await copy.range("")
    assert copy.revision == revision
    assert len(page.items) == revision - 1  # a creation for each revision after the first
    await copy.close()


async def test_a_restored_store_goes_on_ahead_of_all_that_was_known(tmp_path: Path) -> None:
    path, saved = tmp_path / "store.db", tmp_path / "backup.db"
    store = await SqliteStore.open(path)
    await store.create("kept", b"1")
    upkeep.backup(path, saved)
    await store.create("lost", b"1")
    known = store.revision
    with pytest.raises(StoreFailed, match="an API server has it open"):
        upkeep.restore(saved, path)
    await store.close()
    ahead = upkeep.restore(saved, path)
    store = await SqliteStore.open(path)
    assert store.revision == ahead > known
    assert [item.key for item in (await store.range("")).items] == ["kept"]
    with pytest.raises(Compacted):
        await store.watch("", after=known, sink=lambda events: None)
    item = await store.get("kept")
    assert item is not None
    assert await store.update("kept", b"2", expected=item.revision) == ahead + 1
    await store.close()


async def _filled(path: Path) -> None:
    store = await SqliteStore.open(path)
    for number in range(500):
        await store.create(f"pods/default/pod-{number}", b"the-value-of-a-pod " * 50)
    await store.compact(store.revision)
    await store.close()


async def test_a_changed_byte_is_found(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    await _filled(path)
    assert upkeep.check(path) == []
    data = bytearray(path.read_bytes())
    at = data.rindex(b"the-value-of-a-pod")
    data[at] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(StoreFailed, match=r"revision \d+ \(key pods/default/pod-\d+\) is damaged"):
        await SqliteStore.open(path)
    (damage,) = upkeep.check(path)
    assert "its bytes are not those that were written" in damage
    with pytest.raises(StoreFailed, match="not backed up, it is damaged"):
        upkeep.backup(path, tmp_path / "backup.db")
    assert not (tmp_path / "backup.db").exists()


async def test_a_truncated_file_is_found(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    await _filled(path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    with pytest.raises(StoreFailed):
        await SqliteStore.open(path)
    assert upkeep.check(path) != []


async def test_two_servers_do_not_share_a_file(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "store.db")
    with pytest.raises(StoreFailed, match="another API server has it open"):
        await SqliteStore.open(tmp_path / "store.db")
    await store.close()


async def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, saved = tmp_path / "store.db", tmp_path / "backup.db"
    await _filled(path)
    main(["store", "backup", str(saved), "--path", str(path)])
    assert capsys.readouterr().out == f"{saved}: the store at revision 501\n"
    main(["store", "check", "--path", str(path)])
    assert "is sound, at revision 501" in capsys.readouterr().out
    main(["store", "restore", str(saved), "--path", str(path)])
    with pytest.raises(SystemExit, match=r"sampan: .*none\.db"):
        main(["store", "check", "--path", str(tmp_path / "none.db")])
