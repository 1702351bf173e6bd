"""Equal inputs give equal bytes: the cheap last step twice, and (wide) the whole of it, packages included."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from infra.images import cache
from infra.images.machine import disk
from infra.images.tree import build as build_node
from infra.images.vm import DISK, INITRD, KERNEL, build

EPOCH_S = 1_750_000_000
IMAGE_MB_MAX = 700


def digests(folder: Path) -> dict[str, str]:
    found = {}
    for file in sorted(folder.iterdir()):
        if file.is_file():
            with file.open("rb") as opened:
                found[file.name] = hashlib.file_digest(opened, "sha256").hexdigest()
    return found


@pytest.fixture(scope="module")
def node_tree() -> Path:
    return cache.node_image(print)


def small_tree(node_tree: Path, place: Path, order: int) -> Path:
    """The programs that make the disk, and files that came in another order, at another time."""
    for part in ("usr/sbin/mke2fs", "etc/mke2fs.conf", "usr/bin/busybox"):
        (place / part).parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-a", str(node_tree / part), str(place / part)], check=True)
    for library in (*(node_tree / "usr").glob("lib*/ld-linux-*"), *(node_tree / "usr/lib").glob("*-linux-gnu")):
        target = place / library.relative_to(node_tree)
        target.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-a", str(library), str(target)], check=True)
    names = [f"file-{number}" for number in range(300)]
    (place / "srv").mkdir()
    for name in names[::order]:
        (place / "srv" / name).write_text(name)
    os.utime(place / "srv", (EPOCH_S + 10 * abs(order) + order, EPOCH_S + 10 + order))
    return place


def test_one_tree_gives_one_disk(node_tree: Path, tmp_path: Path) -> None:
    made = []
    for name, order in (("one", 1), ("two", -1)):
        tree = small_tree(node_tree, tmp_path / name, order)
        disk.clamp(tree, EPOCH_S)
        disk.write(tree, EPOCH_S, "seed", tmp_path / f"{name}.qcow2")
        made.append(hashlib.sha256((tmp_path / f"{name}.qcow2").read_bytes()).hexdigest())
    assert made[0] == made[1]
    checked = subprocess.run(["qemu-img", "check", str(tmp_path / "one.qcow2")], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_another_seed_gives_a_file_system_of_another_name(node_tree: Path, tmp_path: Path) -> None:
    tree = small_tree(node_tree, tmp_path / "tree", 1)
    for seed in ("a", "b"):
        disk.write(tree, EPOCH_S, seed, tmp_path / f"{seed}.qcow2")
    assert (tmp_path / "a.qcow2").read_bytes() != (tmp_path / "b.qcow2").read_bytes()


@pytest.mark.wide
@pytest.mark.timeout(1800)
def test_all_of_it_built_twice_is_the_same(tmp_path: Path) -> None:
    made = []
    for name in ("one", "two"):
        place = tmp_path / name
        place.mkdir()
        build_node(place / "node", cache.LOCK, print)
        build(place / "node", place, "seed", print)
        subprocess.run(["rm", "-rf", str(place / "node")], check=True)
        made.append(digests(place))
    assert set(made[0]) == {DISK, KERNEL, INITRD}
    assert made[0] == made[1]
    assert sum(file.stat().st_size for file in (tmp_path / "one").iterdir()) < IMAGE_MB_MAX * 10**6
