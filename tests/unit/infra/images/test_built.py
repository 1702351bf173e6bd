from __future__ import annotations

import os
from pathlib import Path

import pytest

from infra.images import built, cache


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return cache.folder()


def test_an_empty_cache_has_no_images() -> None:
    assert built.listed() == []


def test_both_kinds_are_listed_the_newest_first_and_nothing_else(folder: Path) -> None:
    for age, name in enumerate(("vm-b", "vm-a", "node-a", "code-a")):
        (folder / name).mkdir(parents=True)
        (folder / name / "file").write_bytes(b"x" * 3_000_000)
        os.utime(folder / name, (1000 - age, 1000 - age))
    assert [Path(entry["place"]).name for entry in built.listed()] == ["node-a", "vm-b", "vm-a"]
    assert {entry["size"] for entry in built.listed()} == {"3 MB"}


def test_a_file_of_two_names_counts_once(folder: Path) -> None:
    (folder / "vm-a").mkdir(parents=True)
    (folder / "vm-a/one").write_bytes(b"x" * 1_000_000)
    (folder / "vm-a/two").hardlink_to(folder / "vm-a/one")
    assert built.size_bytes(folder / "vm-a") < 1_500_000
