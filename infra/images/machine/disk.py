"""A root tree as a disk: ext4 without partitions, as qcow2. No loop device, no mount.

mke2fs is the tree's own, run by the tree's own loader, so the host's version does not show in the result.
Compressed, since it is copied into each hypervisor's pool: a third of the size, and made faster than without.
Reproducible: times later than the epoch are set to it, the file system's UUID and hash seed come from the inputs.
"""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Mapping
from pathlib import Path

DISK_BYTES = 4 << 30  # what a disk has at least; a machine's root file system grows to its disk at boot
LABEL = "sampan"


def clamp(tree: Path, epoch_s: int) -> None:
    """No time in `tree` later than `epoch_s`; links count themselves, not their targets."""
    for folder, folders, names in os.walk(tree, topdown=False):
        for name in (*names, *folders):
            _clamp(os.path.join(folder, name), epoch_s)  # noqa: PTH118  as os.walk gives them, 40,000 times
    _clamp(str(tree), epoch_s)


def _clamp(path: str, epoch_s: int) -> None:
    if os.lstat(path).st_mtime > epoch_s:
        os.utime(path, (epoch_s, epoch_s), follow_symlinks=False)


def write(tree: Path, epoch_s: int, seed: str, target: Path) -> None:
    """`target` is a qcow2 file; a raw sparse file of the disk's size lies beside it meanwhile."""
    raw = target.with_suffix(".raw")
    identity = uuid.uuid5(uuid.NAMESPACE_URL, f"sampan:{seed}")
    with raw.open("wb") as file:
        file.truncate(DISK_BYTES)
    options = f"hash_seed={identity},lazy_itable_init=1,root_owner=0:0"
    _run(
        *program(tree, "usr/sbin/mke2fs"), "-q", "-F", "-t", "ext4", "-d", str(tree), "-L", LABEL,
        *("-U", str(identity), "-E", options, "-m", "0", "-J", "size=32"), str(raw),
        environment={"SOURCE_DATE_EPOCH": str(epoch_s), "MKE2FS_CONFIG": str(tree / "etc/mke2fs.conf")},
    )  # fmt: skip
    compression = ("-c", "-o", "compression_type=zstd")
    _run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", *compression, str(raw), str(target))
    raw.unlink()


def _run(*command: str, environment: Mapping[str, str] | None = None) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | dict(environment or {}))


def program(tree: Path, path: str) -> list[str]:
    """A program of the tree, as a command of the host's: by the tree's loader and libraries, on the host's files."""
    (loader,) = (tree / "usr").glob("lib*/ld-linux-*.so.*")
    (libraries,) = (tree / "usr/lib").glob("*-linux-gnu")
    return [str(loader), "--library-path", str(libraries), str(tree / path)]
