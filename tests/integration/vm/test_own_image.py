"""A user's own image is looked at before anything is made of it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from infra.hypervisor import host
from infra.libvirt import image
from infra.libvirt.image import BOOT_SIGNATURE, ImageError

MIB = 1 << 20


def disk(folder: Path, form: str, *, bootable: bool = True) -> Path:
    """Of 4 MiB, filled, with or without the sign that a BIOS looks for."""
    host.install_missing(print)
    raw = folder / "content"
    raw.write_bytes(os.urandom(510) + (BOOT_SIGNATURE if bootable else bytes(2)) + os.urandom(4 * MIB - 512))
    made = folder / f"disk.{form}"
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", form, str(raw), str(made)], check=True)
    return made


@pytest.mark.parametrize("form", ["qcow2", "raw"])
def test_a_whole_image_is_taken(tmp_path: Path, form: str) -> None:
    image.check(disk(tmp_path, form))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"image: /nowhere.qcow2: there is no such file\. .*pulumi config rm"):
        image.check(Path("/nowhere.qcow2"))


def test_a_download_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    file = disk(tmp_path, "qcow2")
    os.truncate(file, file.stat().st_size // 2)
    with pytest.raises(ImageError, match=rf"image: {file}: it is cut short or corrupt: .*checksum"):
        image.check(file)


def test_a_corrupt_one_is_refused(tmp_path: Path) -> None:
    file = disk(tmp_path, "qcow2")
    with file.open("r+b") as content:
        content.seek(3 * 65536)  # its tables: header, refcount table, refcount block, L1
        content.write(b"\xff" * 65536)
    with pytest.raises(ImageError, match=r"cut short or corrupt|cannot read it"):
        image.check(file)


def test_one_of_another_program_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"of the format vmdk, not one of qcow2, raw"):
        image.check(disk(tmp_path, "vmdk"))


def test_one_that_no_machine_boots_from_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"it has no boot sector"):
        image.check(disk(tmp_path, "qcow2", bootable=False))
