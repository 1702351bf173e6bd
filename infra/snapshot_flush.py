"""Bring what file systems on a lab's disks still hold in memory into the files behind them.

Those disks are loop devices, whose file systems are mounted in the nodes' mount namespaces: what a pod has written is
in the page cache of that file system, not yet in the file that a snapshot copies. The nodes themselves write on the
host's own file system, through which the copy reads.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from orchestrator.cloud.loopdevices import LOOP_MAJOR

_libc = ctypes.CDLL(None, use_errno=True)


def flush(pids: Iterable[int], processes: Path = Path("/proc")) -> None:
    """`pids`: PID 1 of each node. Errors: OSError with the mount that could not be written."""
    for pid in filter(None, pids):
        root = processes / str(pid) / "root"
        for place in on_loop_devices((processes / str(pid) / "mountinfo").read_text()):
            with suppress(FileNotFoundError):  # unmounted just now
                _sync(root / place.lstrip("/"))


def on_loop_devices(mountinfo: str) -> list[str]:
    """One mount point of each file system on a loop device (proc_pid_mountinfo(5))."""
    found: dict[str, str] = {}
    for line in mountinfo.splitlines():
        fields = line.split()
        device, place = fields[2], fields[4]
        if device.startswith(f"{LOOP_MAJOR}:"):
            found.setdefault(device, place.encode().decode("unicode_escape"))
    return list(found.values())


def _sync(place: Path) -> None:
    descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(place))
    finally:
        os.close(descriptor)
