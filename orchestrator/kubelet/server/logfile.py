"""Reads a container's log file, and follows it while the container lives: no polling, the kernel says when it grows.

The kubelet rotates by renaming: the open file is read to its end, then the new one of the same name from its beginning.
Errors: FileNotFoundError where there is no log.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import BinaryIO

from orchestrator.kubelet.server.logoptions import LogOptions, render

CHUNK_BYTES = 64 * 1024
LOOK_S = 1.0  # how often it is asked whether the container still runs, while nothing is written
_IN_MODIFY, _IN_MOVED, _IN_CREATE, _IN_CLOSE_WRITE = 0x2, 0xC0, 0x100, 0x8

_libc = ctypes.CDLL(None, use_errno=True)


class FolderWatch:
    """Wakes its waiter when anything in a folder is written, made or renamed. Source: inotify(7)."""

    def __init__(self, folder: Path) -> None:
        self._descriptor = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        mask = _IN_MODIFY | _IN_MOVED | _IN_CREATE | _IN_CLOSE_WRITE
        if self._descriptor < 0 or _libc.inotify_add_watch(self._descriptor, str(folder).encode(), mask) < 0:
            number = ctypes.get_errno()
            if self._descriptor >= 0:
                os.close(self._descriptor)
            raise OSError(number, os.strerror(number), str(folder))
        self._changed = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._descriptor, self._drain)

    def _drain(self) -> None:
        try:
            os.read(self._descriptor, CHUNK_BYTES)
        except BlockingIOError:
            pass
        self._changed.set()

    async def wait(self, timeout_s: float) -> None:
        """Returns after the next change since the last call, or the timeout."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        except TimeoutError:
            pass
        self._changed.clear()

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)


async def read(path: Path, options: LogOptions, is_running: Callable[[], Awaitable[bool]]) -> AsyncIterator[bytes]:
    """The log as the options ask, in chunks. When followed it ends with the container, all of its output read."""
    left = options.limit_bytes
    async for chunk in _follow(path, options, is_running):
        if left is not None:
            chunk = chunk[:left]
            left -= len(chunk)
        if chunk:
            yield chunk
        if left == 0:
            return


async def _follow(path: Path, options: LogOptions, is_running: Callable[[], Awaitable[bool]]) -> AsyncIterator[bytes]:
    watch = FolderWatch(path.parent) if options.follow else None
    file = path.open("rb")
    try:
        if options.tail_lines is not None:
            file.seek(tail_offset(file, options.tail_lines))
        half = b""
        is_last_look = False
        while True:
            is_rotated = watch is not None and _is_rotated(file, path)  # asked first: nothing is written to it any more
            data = file.read(CHUNK_BYTES)
            if data:
                *lines, half = (half + data).split(b"\n")
                if shown := b"".join(render(line, options) for line in lines):
                    yield shown
                continue
            if watch is None or is_last_look:
                return
            if is_rotated:
                file.close()
                file, half = path.open("rb"), b""
                continue
            await watch.wait(LOOK_S)
            # What was written before the container ended is there now: one more look, then no more.
            if not _has_more(file, path):
                is_last_look = not await is_running()
    finally:
        file.close()
        if watch is not None:
            watch.close()


def _has_more(file: BinaryIO, path: Path) -> bool:
    return os.fstat(file.fileno()).st_size > file.tell() or _is_rotated(file, path)


def _is_rotated(file: BinaryIO, path: Path) -> bool:
    try:
        return path.stat().st_ino != os.fstat(file.fileno()).st_ino
    except FileNotFoundError:
        return False  # renamed, and the new one is not there yet


def tail_offset(file: BinaryIO, count: int) -> int:
    """Where the last `count` lines begin, found from the end."""
    at = file.seek(0, os.SEEK_END)
    if count == 0:
        return at
    found = 0
    is_end = True  # the newline that ends the last line begins no other
    while at > 0:
        start = max(0, at - CHUNK_BYTES)
        file.seek(start)
        block = file.read(at - start)
        end = len(block) - 1 if is_end and block.endswith(b"\n") else len(block)
        is_end = False
        while (newline := block.rfind(b"\n", 0, end)) >= 0:
            found += 1
            if found == count:
                return start + newline + 1
            end = newline
        at = start
    return 0
