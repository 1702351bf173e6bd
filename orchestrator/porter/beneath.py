"""Open what lies beneath a folder, whatever the folder's owner does meanwhile.

The kubelet's user owns the pods folder and may swap a directory for a symbolic link at any instant; root must not
follow it out. So a path is walked one name at a time by descriptor, and no link is ever followed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath

from orchestrator.porter.verbs import PorterError

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def opened(root: str, relative: str, *, flags: int = _DIRECTORY) -> Iterator[int]:
    """A descriptor of `root`/`relative`. PorterError where a part is missing, a link, or `..`."""
    parts = _parts(relative)
    current = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for index, part in enumerate(parts):
            is_last = index == len(parts) - 1
            following = os.open(part, (flags if is_last else _DIRECTORY) | os.O_NOFOLLOW, dir_fd=current)
            os.close(current)
            current = following
        yield current
    except (FileNotFoundError, NotADirectoryError) as error:
        raise PorterError(f"{root}/{relative}: {error.strerror}") from error
    finally:
        os.close(current)


def make_directories(root: str, relative: str, uid: int, gid: int) -> None:
    """Each missing directory on the way is made and given to the user; the others are left as they are."""
    current = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in _parts(relative):
            try:
                os.mkdir(part, 0o750, dir_fd=current)
                is_new = True
            except FileExistsError:
                is_new = False
            following = os.open(part, _DIRECTORY, dir_fd=current)
            os.close(current)
            current = following
            if is_new:
                os.fchown(current, uid, gid)
    finally:
        os.close(current)


def relative_to(path: str, root: str) -> str:
    """`path` as seen from `root`. PorterError where it is not beneath it."""
    try:
        return str(PurePosixPath(path).relative_to(root))
    except ValueError as error:
        raise PorterError(f"{path} is not beneath {root}") from error


def _parts(relative: str) -> tuple[str, ...]:
    parts = PurePosixPath(relative).parts
    if ".." in parts or (parts and parts[0] == "/"):
        raise PorterError(f"{relative!r} leaves its folder")
    return parts
