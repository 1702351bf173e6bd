"""Seats for priority levels: what each nominally has, and what it has now, since idle seats are lent.

Nominal seats follow the concurrency shares. Of them a level can always count on `lowest` (it lends the rest) and may
never have more than `highest`. Every period the seats are dealt out anew: each level is given what it lately could use,
all in the same proportion, within its bounds. Exempt levels take what they use off the top.
Source: KEP-1040, "Assignment of current concurrency limits" and "Fair allocation".
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence

from msgspec import Struct

from orchestrator.apiserver.fairness.demand import Observed

TARGET_MIN = 0.001


class Seats(Struct, frozen=True):
    """Of one level: nominal, lowest, highest."""

    nominal: int
    lowest: int
    highest: int


def seats(server_limit: int, shares: int, shares_sum: int, lendable_percent: int, borrowing: int | None) -> Seats:
    """`borrowing` is a percentage of the nominal seats; None lets it borrow whatever there is."""
    nominal = math.ceil(server_limit * shares / shares_sum) if shares_sum else 0
    lent = _rounded(nominal * lendable_percent / 100)
    borrowed = server_limit if borrowing is None else _rounded(nominal * borrowing / 100)
    return Seats(nominal, nominal - lent, nominal + borrowed)


def _rounded(value: float) -> int:
    return math.floor(value + 0.5)


class Claim(Struct, frozen=True):
    """What one limited level may, and lately could use."""

    seats: Seats
    demand: Observed

    @property
    def floor(self) -> int:
        """Its own use, up to the nominal seats, is never lent away."""
        return max(self.seats.lowest, min(self.seats.nominal, round(self.demand.high)))

    @property
    def target(self) -> float:
        return max(self.floor, self.demand.smoothed)


def current(total: int, exempt: int, claims: Sequence[Claim]) -> tuple[list[int], float]:
    """The seats that each limited level has from now on, in the order of `claims`, and the fair fraction of its target
    that each is given. `total`: the sum of nominal seats; `exempt`: seats that exempt levels use."""
    left = total - exempt
    lowest, floors = sum(one.seats.lowest for one in claims), sum(one.floor for one in claims)
    if left <= lowest:
        return [one.seats.lowest for one in claims], 0.0
    if left <= floors:
        part = (left - lowest) / (floors - lowest)
        return [one.seats.lowest + _rounded((one.floor - one.seats.lowest) * part) for one in claims], 0.0
    # kube-apiserver, too, deals out all of it here: what exempt levels use comes on top while there is enough.
    given, fraction = allocate(total, [Bounded(one.floor, one.seats.highest, one.target) for one in claims])
    return [_rounded(value) for value in given], fraction


class Bounded(Struct, frozen=True):
    lower: float
    upper: float
    target: float

    def at(self, fraction: float) -> float:
        return max(self.lower, min(self.upper, fraction * max(self.target, TARGET_MIN)))


def allocate(total: float, items: Sequence[Bounded]) -> tuple[list[float], float]:
    """Each item gets the same fraction of its target, less where its upper bound says so, more where its lower does,
    such that all together get `total` (or as near as the bounds allow)."""

    def given(fraction: float) -> float:
        return sum(item.at(fraction) for item in items)

    bounds = sorted({bound / max(item.target, TARGET_MIN) for item in items for bound in (item.lower, item.upper)})
    if not bounds:
        return [], 0.0
    place = bisect_left(bounds, total, key=given)
    if place == 0 or place == len(bounds):
        fraction = bounds[0] if place == 0 else bounds[-1]
    else:  # between two bounds what is given grows with the fraction in a straight line
        low, high = bounds[place - 1], bounds[place]
        fraction = low + (high - low) * (total - given(low)) / (given(high) - given(low))
    return [item.at(fraction) for item in items], fraction
