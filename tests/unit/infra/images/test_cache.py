from __future__ import annotations

import os
from pathlib import Path

import pytest

from infra.images import cache


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return cache.folder()


def test_an_entry_is_built_once() -> None:
    built: list[Path] = []

    def build(place: Path) -> None:
        built.append(place)
        (place / "file").write_text("x")

    assert cache.once("node-1", build) == cache.once("node-1", build)
    assert len(built) == 1
    assert (cache.folder() / "node-1/file").read_text() == "x"


def test_a_failed_build_leaves_nothing() -> None:
    def fail(place: Path) -> None:
        (place / "half").write_text("x")
        raise RuntimeError("no mirror")

    with pytest.raises(RuntimeError, match="no mirror"):
        cache.once("node-1", fail)
    assert [entry.name for entry in cache.folder().iterdir() if not entry.name.endswith(".lock")] == []


def test_pruning_keeps_the_newest_and_what_labs_use(folder: Path) -> None:
    for age, name in enumerate(("node-c", "node-b", "node-a")):  # node-c is the newest
        (folder / name / "tree").mkdir(parents=True)
        os.utime(folder / name, (1000 - age, 1000 - age))
    cache.prune({folder / "node-a/tree"})
    assert sorted(entry.name for entry in folder.iterdir()) == ["node-a", "node-c"]
