"""The initrd's format, read back by a second reader: fields of the cpio "newc" format, not our own writer's words."""

from __future__ import annotations

import gzip
import lzma
import subprocess
from pathlib import Path

import pytest

from infra.images.machine import initrd


def read(archive: bytes) -> dict[str, tuple[int, bytes]]:
    """Mode and data by name, as the kernel reads it: each header at a multiple of four, until the trailer."""
    found: dict[str, tuple[int, bytes]] = {}
    position = 0
    while True:
        assert archive[position : position + 6] == b"070701"
        fields = [int(archive[position + 6 + 8 * n : position + 14 + 8 * n], 16) for n in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = archive[position + 110 : position + 110 + name_size - 1].decode()
        begin = position + 110 + name_size + -(110 + name_size) % 4
        if name == "TRAILER!!!":
            return found
        found[name] = (mode, archive[begin : begin + size])
        position = begin + size + -size % 4


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/busybox").write_bytes(b"\x7fELF busybox!")  # 13 bytes: not a multiple of four
    kernel = tmp_path / "usr/lib/modules/6.12/kernel/drivers/block"
    kernel.mkdir(parents=True)
    (kernel / "virtio_blk.ko.xz").write_bytes(lzma.compress(b"module"))
    return tmp_path


def test_it_holds_a_shell_the_disks_module_unpacked_and_init(tree: Path) -> None:
    initrd.write(tree, tree / "usr/lib/modules/6.12", tree / "initrd.img")
    files = read(gzip.decompress((tree / "initrd.img").read_bytes()))
    assert files["bin/busybox"] == (0o100755, b"\x7fELF busybox!")
    assert files["modules/virtio_blk.ko"] == (0o100644, b"module")
    assert files["init"] == (0o100755, initrd.INIT.encode())
    assert files["dev/console"][0] == 0o020600
    assert {name for name, (mode, _) in files.items() if mode == 0o040755} == {"bin", "dev", "modules", "proc", "root"}


def test_equal_trees_give_equal_bytes(tree: Path) -> None:
    for name in ("one.img", "two.img"):
        initrd.write(tree, tree / "usr/lib/modules/6.12", tree / name)
    assert (tree / "one.img").read_bytes() == (tree / "two.img").read_bytes()


def test_a_module_that_is_not_packed_is_taken_as_it_is(tree: Path) -> None:
    folder = tree / "usr/lib/modules/6.12/kernel/drivers/block"
    (folder / "virtio_blk.ko.xz").unlink()
    (folder / "virtio_blk.ko").write_bytes(b"plain")
    assert initrd.module(tree / "usr/lib/modules/6.12", "virtio_blk") == b"plain"


def test_a_kernel_without_the_module_is_refused(tree: Path) -> None:
    with pytest.raises(LookupError, match=r"has no module nvme, which the root disk needs"):
        initrd.module(tree / "usr/lib/modules/6.12", "nvme")


def test_its_script_is_one_that_a_shell_accepts() -> None:
    done = subprocess.run(["sh", "-n"], input=initrd.INIT, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
