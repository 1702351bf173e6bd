"""How a process behaves that Pulumi's engine starts: it ends quietly when it is told to, or when the engine is gone.

The engine sends SIGINT to a plugin's process group when it has no more use for it, and shows whatever a plugin then
writes as a diagnostic, so that a traceback would look like a failed update. An engine that is killed tells nobody, and
its plugins would stay for good: the parent is watched by a pidfd, which neither polls nor mistakes another process
that got the same number for it.
"""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import grpc

POLITE = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def serve(server: grpc.Server) -> None:
    """Listens on a port of the loopback that the kernel chooses, and says it first of all: the engine reads it."""
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


def _nothing() -> None:
    return None


def end_with_parent(before: Callable[[], None] = _nothing) -> None:
    """From now on SIGINT, SIGTERM, SIGHUP and the parent's end each end this process, after `before`."""

    def told(_number: int, _frame: FrameType | None) -> None:
        _end(0, before)

    for number in POLITE:
        signal.signal(number, told)
    parent = os.getppid()
    try:
        watched = os.pidfd_open(parent)
    except ProcessLookupError:  # it has gone already
        _end(1, before)
        return
    if os.getppid() != parent:  # it went between the two calls
        _end(1, before)
    threading.Thread(target=_wait_for_end, args=(watched, before), daemon=True, name="parent").start()


def _wait_for_end(watched: int, before: Callable[[], None]) -> None:
    poll = select.poll()
    poll.register(watched, select.POLLIN)
    poll.poll()
    _end(1, before)


def _end(code: int, before: Callable[[], None]) -> None:
    try:
        before()
    finally:
        os._exit(code)  # gRPC's threads would hold up an ordinary exit, and its handlers would write to a closed pipe
