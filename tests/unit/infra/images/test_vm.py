"""What a build says when it fails, and what is left of it."""

from __future__ import annotations

import errno
import subprocess
from pathlib import Path

import pytest

from infra.images import cache, vm
from infra.images.machine import tree
from infra.images.tree import BuildError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return cache.folder()


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def build(*_: object) -> tree.Built:
        raise error

    monkeypatch.setattr(tree, "build", build)


def attempt(folder: Path) -> str:
    with pytest.raises(BuildError) as failure:
        cache.once("vm-1", lambda place: vm.build(folder / "node-1/tree", place, "1", lambda _: None))
    return str(failure.value)


def test_a_full_disk_is_said_with_the_place_and_what_to_do(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, OSError(errno.ENOSPC, "No space left on device", "/x/disk.raw"))
    said = attempt(folder)
    assert "a machine's root tree" in said
    assert f"{folder} is full" in said
    assert "XDG_CACHE_HOME" in said


def test_a_program_that_met_a_full_disk_is_understood_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, subprocess.CalledProcessError(1, ["qemu-img"], "", "qemu-img: error: No space left on device"))
    assert f"{folder} is full" in attempt(folder)


def test_another_failure_names_step_program_and_its_last_words(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = "\n".join(f"line {number}" for number in range(40))
    failing(monkeypatch, subprocess.CalledProcessError(100, ["unshare"], "", words))
    said = attempt(folder)
    assert "unshare ended with exit code 100" in said
    assert "line 39" in said and "line 20" not in said
    assert "is full" not in said


def test_a_failed_build_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        cache.once("vm-1", lambda place: vm.build(folder / "node-1/tree", place, "1", lambda _: None))
    assert [entry.name for entry in folder.iterdir() if not entry.name.endswith(".lock")] == []
