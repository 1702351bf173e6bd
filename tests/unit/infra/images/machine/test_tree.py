from __future__ import annotations

import os
from pathlib import Path

import pytest

from infra.images.machine import disk, tree

EPOCH_S = 1_750_000_000  # day 20254


def test_accounts_do_not_tell_the_day_of_the_build() -> None:
    built = ["root:*:20782:0:99999:7:::\nsshd:!:20782::::::\n", "root:*:20790:0:99999:7:::\nsshd:!:20790::::::\n"]
    assert tree.dated(built[0], EPOCH_S) == tree.dated(built[1], EPOCH_S)
    assert tree.dated(built[0], EPOCH_S).splitlines()[0] == "root:*:20254:0:99999:7:::"


def test_what_the_builder_left_is_taken_out(tmp_path: Path) -> None:
    left = ("etc/ssh/ssh_host_ed25519_key", "var/log/dpkg.log", "dev/shm/sem.mp-1", "var/lib/cloud/data/x", "tmp/y")
    kept = ("etc/ssh/sshd_config", "var/log/wtmp", "usr/bin/sh")
    for name in (*left, *kept):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "etc/shadow").write_text("root:*:20782:0:99999:7:::\n")
    (tmp_path / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    (tmp_path / "var/lib/containers").mkdir(mode=0o700)
    tree.clean(tmp_path, EPOCH_S)
    assert not [name for name in left if (tmp_path / name).exists()]
    assert [name for name in kept if (tmp_path / name).exists()] == list(kept)
    assert (tmp_path / "etc/machine-id").read_text() == ""
    assert (tmp_path / "var/lib/containers").stat().st_mode & 0o777 == 0o755


def test_the_epoch_is_the_date_of_the_archives_release(tmp_path: Path) -> None:
    lists = tmp_path / "var/lib/apt/lists"
    lists.mkdir(parents=True)
    with pytest.raises(LookupError, match="no release file"):
        tree.release_date(tmp_path)
    (lists / "mirror_dists_trixie_InRelease").write_text("Origin: Debian\nDate: Sun, 15 Jun 2025 15:06:40 UTC\n")
    assert tree.release_date(tmp_path) == EPOCH_S


def test_no_time_is_later_than_the_epoch_and_earlier_ones_stay(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("x")
    new.write_text("x")
    (tmp_path / "link").symlink_to("old")
    os.utime(old, (1000, 1000))
    disk.clamp(tmp_path, EPOCH_S)
    times = {path.name: path.lstat().st_mtime for path in (old, new, tmp_path / "link", tmp_path)}
    assert times == {"old": 1000, "new": EPOCH_S, "link": EPOCH_S, tmp_path.name: EPOCH_S}
