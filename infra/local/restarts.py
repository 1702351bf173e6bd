"""When something that died is started again. Pure: the moment is an argument, seconds of a monotonic clock.

A first death is repaired at once, as one that comes after a good while is; quick deaths in a row wait longer each time.
"""

from __future__ import annotations

from dataclasses import dataclass

FIRST_DELAY_S = 0.1
DELAY_MAX_S = 5.0
GOOD_RUN_S = 10.0


@dataclass
class Restarts:
    """What is known of one supervised process. `pid` is 0 while it does not run; `due` is when it shall start."""

    wanted: bool = True
    pid: int = 0
    started: float = 0.0
    started_at: float = 0.0  # the same moment in seconds since the epoch
    due: float = 0.0
    failures: int = 0  # quick deaths in a row
    deaths: int = 0  # since the supervisor began
    last_exit: str = ""

    def ran(self, pid: int, now: float, wall_time: float = 0.0) -> None:
        self.pid, self.started, self.started_at = pid, now, wall_time

    def died(self, status: str, now: float) -> None:
        self.failures = 1 if now - self.started > GOOD_RUN_S else self.failures + 1
        self.pid, self.last_exit, self.deaths = 0, status, self.deaths + 1
        self.due = now + delay_s(self.failures)

    def failed(self, why: str, now: float) -> None:
        """It could not even be started."""
        self.started = now
        self.died(why, now)

    def is_due(self, now: float) -> bool:
        return self.wanted and self.pid == 0 and self.due <= now

    def want(self, wanted: bool) -> None:
        self.wanted, self.due, self.failures = wanted, 0.0, 0


def delay_s(failures: int) -> float:
    if failures <= 1:
        return 0.0
    return float(min(FIRST_DELAY_S * 2 ** (failures - 2), DELAY_MAX_S))
