"""A folder of files that changes all at once: what configMap, secret, projected and downwardAPI volumes are.

    <volume>/..2026_11_25_13_04_05.123456   the files themselves
    <volume>/..data -> ..2026_…             moved by one rename: readers see the old files or the new, never both
    <volume>/name -> ..data/name            one link for each top-level name

Writing what is there already does nothing. A path must stay below the volume: no `..`, not absolute.
Errors: PayloadError names the path. Source: kubelet's AtomicWriter.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from msgspec import Struct

DATA, NEW_DATA = "..data", "..data_tmp"


class PayloadError(ValueError):
    """A path that may not be in a volume."""


class File(Struct, frozen=True):
    content: bytes
    mode: int = 0o644


Payload = Mapping[str, File]


def check(path: str) -> str:
    if not path or path.startswith(("/", "..")) or ".." in PurePosixPath(path).parts:
        raise PayloadError(f"invalid path: {path!r}: must be relative and must not contain '..'")
    return path


def digest(payload: Payload) -> str:
    """What identifies the files: their paths, modes and contents."""
    made = hashlib.sha256()
    for path, file in sorted(payload.items()):
        made.update(f"{path}\0{file.mode:o}\0{len(file.content)}\0".encode())
        made.update(file.content)
    return made.hexdigest()


def is_written(folder: Path, payload: Payload) -> bool:
    """Whether the volume holds exactly these files. It is told by a digest beside the volume, for the files may belong
    to a user whose they are alone; and a volume in memory is gone after a restart of the node, digest or not."""
    try:
        return (folder / DATA).is_symlink() and _digest_file(folder).read_text() == digest(payload)
    except OSError:
        return False


def _digest_file(folder: Path) -> Path:
    return folder.parent / f"{folder.name}.digest"


def stage(folder: Path, payload: Payload, now: float) -> Path:
    """Writes the files beside the present ones; `publish` then puts them in place."""
    for path in payload:
        check(path)
    folder.mkdir(parents=True, exist_ok=True)
    stamp = datetime.fromtimestamp(now, UTC).strftime("..%Y_%m_%d_%H_%M_%S.%f")
    staged = folder / stamp
    if staged.exists():
        shutil.rmtree(staged)
    staged.mkdir(mode=0o755)
    staged.chmod(0o755)
    for path, file in payload.items():
        target = staged / path
        target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        target.write_bytes(file.content)
        target.chmod(file.mode)
    return staged


def publish(folder: Path, staged: Path, payload: Payload) -> None:
    """Makes the staged files the volume's, then removes what is left of the former ones."""
    kept = _digest_file(folder)
    kept.unlink(missing_ok=True)
    link = folder / NEW_DATA
    link.unlink(missing_ok=True)
    link.symlink_to(staged.name)
    os.replace(link, folder / DATA)  # noqa: PTH105 (the atomic step, named as the system call)
    top_level = {file.name for file in staged.iterdir()}
    for name in top_level:
        visible = folder / name
        if not visible.is_symlink():
            visible.symlink_to(Path(DATA) / name)
    for old in folder.iterdir():
        if old.name in (DATA, staged.name) or old.name in top_level:
            continue
        if old.is_symlink():
            old.unlink()
        elif old.name.startswith("..") and old.is_dir():
            shutil.rmtree(old)
    kept.touch(mode=0o600)
    kept.write_text(digest(payload))
