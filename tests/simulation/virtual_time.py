"""An event loop whose time is virtual: when nothing is ready to run, it jumps to the next timer.

The loop's selector is asked how long it may sleep; instead of sleeping it moves the clock by that much. Programs use
`loop.time()`, `asyncio.sleep` and the `Clock` of this loop, and cannot tell. A loop with nothing ready and no timer can
never go on: that is a Deadlock. Work in threads would escape the clock and is not for simulations.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
EPOCH_S = 1_800_000_000.0


class Deadlock(RuntimeError):
    """Everything waits, and nothing will ever happen."""


class _Time:
    def __init__(self) -> None:
        self.seconds = 0.0


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self, time: _Time) -> None:
        super().__init__()
        self._time = time

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready:
            return ready
        if timeout is None:
            raise Deadlock("no task can run and no timer is set")
        self._time.seconds += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._virtual = _Time()
        super().__init__(_JumpingSelector(self._virtual))

    def time(self) -> float:
        return self._virtual.seconds


class VirtualClock:
    """The wall clock that goes with a virtual loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def now(self) -> float:
        return EPOCH_S + self._loop.time()


def run(main: Coroutine[Any, Any, T]) -> T:
    """As asyncio.run, in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
