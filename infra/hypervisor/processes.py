"""Processes as /proc tells of them: who is in a network namespace, and to end some for certain."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def in_netns(place: Path) -> set[int]:
    """Process ids of those whose network namespace is the one at `place` (a file of /run/netns)."""
    try:
        wanted = place.stat().st_ino
    except FileNotFoundError:
        return set()
    found = set()
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            if process.name.isdigit() and (process / "ns/net").stat().st_ino == wanted:
                found.add(int(process.name))
    return found - {os.getpid()}


def end(ids: Iterable[int], *, timeout_s: float) -> None:
    """SIGKILL, and wait until they are gone. Errors: TimeoutError with those that are not."""
    descriptors: dict[int, int] = {}
    for process in ids:
        with suppress(ProcessLookupError):
            descriptors[process] = os.pidfd_open(process)
            signal.pidfd_send_signal(descriptors[process], signal.SIGKILL)
    deadline = time.monotonic() + timeout_s
    try:
        for process, descriptor in descriptors.items():
            if not select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError(f"process {process} has not ended {timeout_s:.0f} s after SIGKILL")
    finally:
        for descriptor in descriptors.values():
            os.close(descriptor)


def started_at(process: int) -> str | None:
    """Its start in clock ticks since boot: with the id it names one process for good. None: there is none."""
    try:
        text = Path(f"/proc/{process}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]
