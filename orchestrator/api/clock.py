"""Time comes in from outside: components read the clock that they were given, so a simulation can hold it.

`now()` is the wall clock in seconds since the epoch. Intervals and deadlines are measured with the event loop's own
`loop.time()` and `asyncio.sleep`, which a simulation's loop makes virtual.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    def now(self) -> float: ...


class SystemClock:
    """The machine's wall clock."""

    def now(self) -> float:
        return time.time()


class FixedClock:
    """A clock that a test sets by hand."""

    def __init__(self, seconds: float = 1_700_000_000.0) -> None:
        self.seconds = seconds

    def now(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        self.seconds += seconds
