"""Disks of a lab on one machine: sparse files, which loop devices make into block devices of the nodes.

    <lab>/volumes/<name>                                   the file
    /dev/disk/by-id/virtio-<name>, in the node             its device, where a virtual machine has it too

A node is entered through its PID 1; where that is gone, so is everything that it had mounted. Whether a disk is
attached is read from the node's /dev, and is lost with it: a node that was off is given its disks again.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import ParamSpec, TypeVar

from orchestrator.cloud import loopdevices
from orchestrator.cloud.loopdevices import LOOP_MAJOR
from orchestrator.cloud.provider import CloudError, Volume

BY_ID = "dev/disk/by-id"
PREFIX = "virtio-"

P = ParamSpec("P")
T = TypeVar("T")

Pids = Callable[[], Awaitable[Mapping[str, int]]]  # node → its PID 1 as this process sees it, 0 where it is off


class LocalVolumes:
    """One operation at a time: loop devices are the whole machine's."""

    def __init__(self, folder: Path, pids: Pids, processes: Path = Path("/proc")) -> None:
        self._folder, self._pids, self._processes = folder, pids, processes
        self._lock = asyncio.Lock()

    async def create(self, name: str, size_bytes: int, near: str) -> Volume:
        async with self._lock:
            return await _in_thread(self._create, name, size_bytes)

    def _create(self, name: str, size_bytes: int) -> Volume:
        file = self._folder / name
        if not file.exists():
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._check_space(size_bytes)
            made = file.with_name(f".{name}")
            with made.open("wb") as opened:
                opened.truncate(size_bytes)
            made.rename(file)
        return Volume(name=name, size_bytes=file.stat().st_size)

    def _check_space(self, more_bytes: int) -> None:
        """Files are sparse, and may together be larger than the disk below; one alone may not."""
        found = os.statvfs(self._folder)
        free = found.f_bavail * found.f_frsize
        if more_bytes > free:
            raise CloudError(f"no space for a disk of {more_bytes} bytes: {self._folder} has {free} left")

    async def delete(self, name: str) -> None:
        async with self._lock:
            await _in_thread(self._delete, name)

    def _delete(self, name: str) -> None:
        file = self._folder / name
        number = loopdevices.of_file(file)
        if number is not None:
            if loopdevices.is_held(number):
                raise CloudError(f"disk {name} is still mounted")
            loopdevices.detach(number)
        file.unlink(missing_ok=True)

    async def attach(self, name: str, node: str) -> None:
        async with self._lock:
            pids = await self._pids()
            if not pids.get(node):
                raise CloudError(f"disk {name} cannot be attached: node {node} is off, or gone")
            await _in_thread(self._attach, name, node, pids)

    def _attach(self, name: str, node: str, pids: Mapping[str, int]) -> None:
        file = self._folder / name
        if not file.exists():
            raise CloudError(f"disk {name} does not exist")
        for other in sorted(pids):
            if other != node and self._place(name, pids[other]).exists():
                raise CloudError(f"disk {name} is attached to node {other}")
        place = self._place(name, pids[node])
        device = os.makedev(LOOP_MAJOR, loopdevices.attach(file))
        if not _is_device(place, device):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.unlink(missing_ok=True)
            os.mknod(place, stat.S_IFBLK | 0o600, device)

    async def detach(self, name: str, node: str) -> None:
        async with self._lock:
            await _in_thread(self._detach, name, node, await self._pids())

    def _detach(self, name: str, node: str, pids: Mapping[str, int]) -> None:
        for other in sorted(pids):
            if other != node and self._place(name, pids[other]).exists():
                return  # it has it, so this node has not
        number = loopdevices.of_file(self._folder / name)
        if number is not None:
            if loopdevices.is_held(number):
                raise CloudError(f"disk {name} is still mounted on node {node}")
            loopdevices.detach(number)
        self._place(name, pids.get(node, 0)).unlink(missing_ok=True)

    async def attached(self, node: str) -> frozenset[str]:
        async with self._lock:
            return await _in_thread(self._attached, (await self._pids()).get(node, 0))

    def _attached(self, pid: int) -> frozenset[str]:
        """A device that is behind no file, or another, is not the disk."""
        found = []
        folder = self._place("", pid).parent
        for place in folder.iterdir() if folder.is_dir() else ():
            name = place.name.removeprefix(PREFIX)
            number = loopdevices.of_file(self._folder / name)
            if number is not None and _is_device(place, os.makedev(LOOP_MAJOR, number)):
                found.append(name)
        return frozenset(found)

    async def resize(self, name: str, size_bytes: int) -> int:
        async with self._lock:
            return await _in_thread(self._resize, name, size_bytes)

    def _resize(self, name: str, size_bytes: int) -> int:
        file = self._folder / name
        if not file.exists():
            raise CloudError(f"disk {name} does not exist")
        size = file.stat().st_size
        if size_bytes > size:
            self._check_space(size_bytes - size)
            os.truncate(file, size_bytes)
        number = loopdevices.of_file(file)
        if number is not None:
            loopdevices.grow(number)
        return max(size, size_bytes)

    async def all(self) -> tuple[Volume, ...]:
        async with self._lock:
            return await _in_thread(self._list, await self._pids())

    def _list(self, pids: Mapping[str, int]) -> tuple[Volume, ...]:
        having = {node: self._attached(pid) for node, pid in sorted(pids.items())}
        files = sorted(self._folder.glob("vol-*")) if self._folder.is_dir() else []
        return tuple(
            Volume(
                name=file.name,
                size_bytes=file.stat().st_size,
                attached_to=tuple(node for node, names in having.items() if file.name in names),
            )
            for file in files
        )

    def _place(self, name: str, pid: int) -> Path:
        """The disk's device in a node; nowhere in a node that is off."""
        return self._processes / str(pid or "off") / "root" / BY_ID / f"{PREFIX}{name}"


def _is_device(place: Path, device: int) -> bool:
    try:
        found = place.stat()
    except OSError:
        return False
    return stat.S_ISBLK(found.st_mode) and found.st_rdev == device


async def _in_thread(function: Callable[P, T], *args: P.args, **more: P.kwargs) -> T:
    """Files and devices may keep one waiting. What the system refuses is the cloud's refusal."""
    try:
        return await asyncio.to_thread(function, *args, **more)
    except OSError as error:
        raise CloudError(str(error.strerror or error)) from error
