"""Disks of this node by their serial number: where a disk's device is, how large, and whether anything holds it.

Where udev runs it is a link at /dev/disk/by-id; a namespace node has the device itself there, put by the lab; else the
kernel's own list of block devices tells. Source: virtio-blk, "Device ID"; sysfs, /sys/block; open(2), O_EXCL.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from orchestrator.porter.verbs import PorterError

DEVICES, BLOCK, BY_NUMBER = Path("/dev"), Path("/sys/block"), Path("/sys/dev/block")
LOOK_S = 0.05
APPEAR_MAX_S = 15.0  # of a disk that has been attached: until the kernel and udev have it
RELEASE_MAX_S = 15.0
SECTOR_BYTES = 512

Found = TypeVar("Found")


def find(serial: str, devices: Path = DEVICES, block: Path = BLOCK) -> Path | None:
    """The device of the disk with that serial number."""
    linked = devices / "disk/by-id" / f"virtio-{serial}"
    if linked.exists():
        return linked.resolve()
    for entry in sorted(block.iterdir()) if block.is_dir() else ():
        try:
            if (entry / "serial").read_text().strip("\0 \n") == serial:
                return devices / entry.name
        except OSError:
            continue
    return None


async def appeared(serial: str) -> Path:
    found = await _until(lambda: find(serial), APPEAR_MAX_S)
    if found is None:
        raise PorterError(f"disk {serial} is not on this node: no device of that serial number after {APPEAR_MAX_S} s")
    return found


def number(device: Path) -> str:
    """`major:minor`."""
    status = device.stat()
    if not stat.S_ISBLK(status.st_mode):
        raise PorterError(f"{device} is no block device")
    return f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"


def size_bytes(device: Path) -> int:
    return int((BY_NUMBER / number(device) / "size").read_text()) * SECTOR_BYTES


async def grown(device: Path, least_bytes: int) -> int:
    """The disk's size, once the kernel has seen that it grew. PorterError where it does not in time."""
    size = await _until(lambda: size_bytes(device) if size_bytes(device) >= least_bytes else None, APPEAR_MAX_S)
    if size is None:
        raise PorterError(f"{device} has {size_bytes(device)} bytes, and not yet the {least_bytes} that it shall have")
    return size


async def let_go(device: Path) -> None:
    """Writes out what the kernel keeps of a disk, once nothing has it mounted any more. PorterError where it stays."""
    if await _until(lambda: _flushed(device), RELEASE_MAX_S) is None:
        raise PorterError(f"{device} is still mounted on this node: {', '.join(holders(number(device))) or 'by whom?'}")


def _flushed(device: Path) -> bool | None:
    """A mounted file system holds its device exclusively, in whichever mount namespace it is."""
    try:
        descriptor = os.open(device, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.EBUSY:
            return None
        raise PorterError(f"{device}: {error.strerror}") from error
    try:
        os.fsync(descriptor)
        return True
    finally:
        os.close(descriptor)


def holders(device_number: str, processes: Path = Path("/proc")) -> list[str]:
    """Processes in whose mount namespace the device is mounted: `name (pid)`, a few of them."""
    found = []
    for process in processes.iterdir():
        try:
            if process.name.isdigit() and f" {device_number} " in (process / "mountinfo").read_text():
                found.append(f"{(process / 'comm').read_text().strip()} ({process.name})")
        except OSError:
            continue
    return found[:5]


async def _until(look: Callable[[], Found | None], seconds: float) -> Found | None:
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + seconds
    while True:
        found = look()
        if found is not None or loop.time() >= give_up_at:
            return found
        await asyncio.sleep(LOOK_S)
