"""Loop devices: files of this host as block devices.

A device is known by the file behind it (its device and inode numbers), never by a name that another process, in
another mount namespace, would spell otherwise. Device nodes are made where /dev lacks them: a container's /dev has few.
Errors: LoopError with what the kernel said. Source: loop(4); linux/loop.h.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOOP_MAJOR, CONTROL_NUMBER = 7, os.makedev(10, 237)
SET_FD, CLR_FD, SET_STATUS, GET_STATUS, SET_CAPACITY = 0x4C00, 0x4C01, 0x4C04, 0x4C05, 0x4C07
CTL_ADD, CTL_GET_FREE = 0x4C80, 0x4C82
INFO = struct.Struct("=QQQQQIIII64s64s32sQQ")  # struct loop_info64
BLOCK, CONTROL = Path("/sys/block"), Path("/dev/loop-control")
TRIES = 16  # another process may take a free device before us


class LoopError(OSError):
    """No loop device, or one that cannot be had."""


def of_file(file: Path) -> int | None:
    """The number of the device behind which a file is; None where there is none, or no file."""
    try:
        wanted = file.stat()
    except FileNotFoundError:
        return None
    for entry in sorted(BLOCK.glob("loop*/loop")):
        number = int(entry.parent.name.removeprefix("loop"))
        with contextlib.suppress(OSError), opened(number) as device:
            info = INFO.unpack(fcntl.ioctl(device, GET_STATUS, bytes(INFO.size)))
            if (info[0], info[1]) == (wanted.st_dev, wanted.st_ino):
                return number
    return None


def attach(file: Path) -> int:
    """The number of the device of a file, a new one where it has none."""
    if (found := of_file(file)) is not None:
        return found
    backing = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    try:
        for _ in range(TRIES):
            number = _free_number()
            try:
                with opened(number, os.O_RDWR) as device:
                    fcntl.ioctl(device, SET_FD, backing)
                    info = [0] * 9 + [file.name.encode()[:63], b"", b"", 0, 0]
                    fcntl.ioctl(device, SET_STATUS, INFO.pack(*info))
                return number
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise LoopError(error.errno, f"loop device {number} for {file}: {error.strerror}") from error
        raise LoopError(errno.EBUSY, f"no loop device could be had for {file}: others took them {TRIES} times")
    finally:
        os.close(backing)


def detach(number: int) -> None:
    """LoopError (EBUSY) while it is mounted somewhere."""
    if is_held(number):
        raise LoopError(errno.EBUSY, f"loop device {number} is mounted")
    with opened(number) as device:
        fcntl.ioctl(device, CLR_FD)


def is_held(number: int) -> bool:
    """Whether a file system on it is mounted, in whichever mount namespace."""
    try:
        with opened(number, os.O_RDONLY | os.O_EXCL):
            return False
    except OSError as error:
        if error.errno == errno.EBUSY:
            return True
        raise


def grow(number: int) -> None:
    """To the size that its file has by now."""
    with opened(number) as device:
        fcntl.ioctl(device, SET_CAPACITY)


def release_below(folder: Path) -> None:
    """Detaches the devices of all files of a folder; one that is still mounted goes with its last mount."""
    for file in sorted(folder.glob("*")) if folder.is_dir() else ():
        if (number := of_file(file)) is not None:
            with opened(number) as device:
                fcntl.ioctl(device, CLR_FD)


@contextmanager
def opened(number: int, flags: int = os.O_RDONLY) -> Iterator[int]:
    with _open(Path(f"/dev/loop{number}"), stat.S_IFBLK, os.makedev(LOOP_MAJOR, number), flags) as descriptor:
        yield descriptor


def _free_number() -> int:
    try:
        with _open(CONTROL, stat.S_IFCHR, CONTROL_NUMBER, os.O_RDWR) as control:
            return fcntl.ioctl(control, CTL_GET_FREE)
    except OSError as error:
        raise LoopError(
            error.errno,
            f"this host gives no loop devices ({error.strerror}), which the disks of a local lab are made of",
        ) from error


@contextmanager
def _open(path: Path, kind: int, device: int, flags: int) -> Iterator[int]:
    """A device by its number, through a node of our own where there is none at its usual place."""
    with contextlib.ExitStack() as stack:
        if not path.exists():
            path = Path(stack.enter_context(tempfile.TemporaryDirectory()), path.name)
            os.mknod(path, kind | 0o600, device)
        descriptor = os.open(path, flags | os.O_CLOEXEC)
        stack.callback(os.close, descriptor)
        yield descriptor
