"""Which image a lab's machines boot: the one that it was made from, as long as it lives, else the present one; and
whether a user's own one is whole, which is asked before anything is made of it."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from infra.images.vm import VmImage, vm_image
from infra.libvirt import registry

FORMATS = ("qcow2", "raw")
CORRUPT = 2  # qemu-img check's exit code; 3: clusters that nobody uses, which harms nobody
BOOT_SIGNATURE = b"\x55\xaa"  # at 510 of the first sector: without it no BIOS boots a disk


class ImageError(RuntimeError):
    """A user's image cannot be what machines boot from; the message names file, cause and remedy."""


def of_lab(name: str, say: Callable[[str], None]) -> VmImage:
    """Builds the present one where the lab has none (yet); that takes a minute or two, once."""
    known = registry.read(name)
    if known is not None and known.image:
        return VmImage(
            disk=Path(known.image["disk"]),
            kernel=Path(known.image["kernel"]),
            initrd=Path(known.image["initrd"]),
            cmdline=known.image["cmdline"],
            size_bytes=int(known.image["size_bytes"]),
        )
    return vm_image(say)


def noted(image: VmImage) -> dict[str, str]:
    """For lab.json."""
    return {name: str(value) for name, value in vars(image).items()}


def check(file: Path) -> None:
    """A cloud image of the user's own. Errors: ImageError."""
    if not file.is_file():
        raise _bad(file, "there is no such file")
    described = subprocess.run(
        ["qemu-img", "info", "--output=json", str(file)], capture_output=True, text=True, check=False
    )
    if described.returncode != 0:
        raise _bad(file, f"qemu-img cannot read it: {described.stderr.strip()}")
    form = json.loads(described.stdout)["format"]
    if form not in FORMATS:
        raise _bad(file, f"it is of the format {form}, not one of {', '.join(FORMATS)}")
    if form == "qcow2":
        tested = subprocess.run(
            ["qemu-img", "check", "-f", form, str(file)], capture_output=True, text=True, errors="replace", check=False
        )
        if tested.returncode in (1, CORRUPT):
            first = next(iter((tested.stderr or tested.stdout).strip().splitlines()), "")
            raise _bad(file, f"it is cut short or corrupt: {first}")
    if _first_sector(file, form)[510:] != BOOT_SIGNATURE:
        raise _bad(file, "it has no boot sector, so that a machine cannot boot from it")


def _first_sector(file: Path, form: str) -> bytes:
    with tempfile.NamedTemporaryFile() as sector:
        command = ["qemu-img", "dd", "-f", form, "-O", "raw", "bs=512", "count=1", f"if={file}", f"of={sector.name}"]
        subprocess.run(command, capture_output=True, check=False)
        return Path(sector.name).read_bytes()


def _bad(file: Path, cause: str) -> ImageError:
    return ImageError(
        f"image: {file}: {cause}. Take Debian's own cloud image for QEMU (debian-13-genericcloud-*.qcow2) and compare "
        "its checksum, or leave the setting out (pulumi config rm sampan:image) for Sampan's image"
    )
