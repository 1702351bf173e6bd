"""Seat demand: how many seats a priority level could have used over the last period, on average and at most.

The value is integrated over time, so that a short peak weighs little. From period to period the demand is smoothed:
it follows a rise at once and a fall slowly (half of it in five minutes), so that a level that comes back finds seats.
Units: seats, seconds of the clock handed in. Source: KEP-1040, "Seat Borrowing".
"""

from __future__ import annotations

import math

from msgspec import Struct

PERIOD_S = 10.0
SMOOTHING = 0.977  # of each PERIOD_S


class Observed(Struct, frozen=True):
    """Of one period."""

    average: float = 0.0
    deviation: float = 0.0
    high: float = 0.0
    smoothed: float = 0.0


class Demand:
    def __init__(self, now: float) -> None:
        self.seats = 0
        self.last = Observed()
        self._high = 0
        self._since = self._at = now
        self._sum = self._squares = 0.0

    def set(self, seats: int, now: float) -> None:
        self._advance(now)
        self.seats = seats
        if seats > self._high:
            self._high = seats

    def _advance(self, now: float) -> None:
        part = self.seats * (now - self._at)
        self._sum += part
        self._squares += part * self.seats
        self._at = now

    def observe(self, now: float) -> Observed:
        """Ends the period and starts the next."""
        self._advance(now)
        before, took_s = self.last, now - self._since
        average, deviation, smoothed = before.average, before.deviation, before.smoothed
        if took_s > 0:
            average = self._sum / took_s
            deviation = math.sqrt(max(0.0, self._squares / took_s - average * average))
            envelope = average + deviation
            smoothed = max(envelope, SMOOTHING * before.smoothed + (1 - SMOOTHING) * envelope)
        self.last = Observed(average, deviation, self._high, smoothed)
        self._since, self._high = now, self.seats
        self._sum = self._squares = 0.0
        return self.last
