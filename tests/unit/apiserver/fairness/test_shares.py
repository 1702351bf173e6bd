"""Seats of levels: nominal as upstream computes them, lent and borrowed within bounds, all given out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.apiserver.fairness.demand import Demand, Observed
from orchestrator.apiserver.fairness.shares import Bounded, Claim, Seats, allocate, current, seats


def test_nominal_seats_are_shares_of_the_server() -> None:
    # kube-apiserver with its defaults (600 seats) says this of node-high and of catch-all
    assert seats(600, 40, 245, 25, None) == Seats(98, 73, 698)
    assert seats(600, 5, 245, 0, None) == Seats(13, 13, 613)
    assert seats(600, 100, 245, 90, 20) == Seats(245, 24, 294)
    assert seats(600, 0, 0, 0, None) == Seats(0, 0, 600)


def test_idle_seats_go_to_whoever_can_use_them() -> None:
    busy = Claim(Seats(50, 25, 650), Observed(high=400, smoothed=400))
    idle = Claim(Seats(550, 55, 1150), Observed())
    (more, less), _ = current(600, 0, [busy, idle])
    assert more > 300 and less >= 55 and more + less == 600


def test_what_a_level_uses_itself_is_not_lent() -> None:
    busy = Claim(Seats(50, 25, 650), Observed(high=600, smoothed=600))
    other = Claim(Seats(550, 55, 1150), Observed(high=500, smoothed=500))
    (_, kept), _ = current(600, 0, [busy, other])
    assert kept >= 500


def test_exempt_use_that_leaves_too_little_brings_all_to_their_lowest() -> None:
    claims = [Claim(Seats(50, 25, 650), Observed(high=50)), Claim(Seats(50, 10, 650), Observed(high=50))]
    assert current(100, 90, claims)[0] == [25, 10]
    assert current(100, 30, claims)[0] == [38, 32]


ITEMS = st.builds(
    lambda lower, more, extra: Bounded(lower, lower + more, lower + extra),
    st.integers(0, 50),
    st.integers(0, 200),
    st.floats(0, 200),
)


@given(st.lists(ITEMS, min_size=1, max_size=8), st.floats(0, 1))
def test_allocation_is_fair_and_complete(items: list[Bounded], place: float) -> None:
    lowest, highest = sum(item.lower for item in items), sum(item.upper for item in items)
    total = lowest + (highest - lowest) * place
    found, fraction = allocate(total, items)
    assert sum(found) == pytest.approx(total, abs=1e-4)
    for item, given_seats in zip(items, found, strict=True):
        assert item.lower - 1e-6 <= given_seats <= item.upper + 1e-6
        if item.lower < given_seats < item.upper:
            assert given_seats == pytest.approx(fraction * max(item.target, 0.001), rel=1e-6)


def test_demand_is_averaged_over_time() -> None:
    demand = Demand(0.0)
    demand.set(4, 0.0)
    demand.set(0, 5.0)
    seen = demand.observe(10.0)
    assert (seen.average, seen.deviation, seen.high) == (2.0, 2.0, 4)
    assert seen.smoothed == 4.0
    after = demand.observe(20.0)
    assert after.average == 0 and after.high == 0
    assert after.smoothed == pytest.approx(0.977 * 4)


def test_half_of_a_demand_is_forgotten_in_five_minutes() -> None:
    demand = Demand(0.0)
    demand.set(100, 0.0)
    demand.observe(10.0)
    demand.set(0, 10.0)
    for period in range(30):
        demand.observe(20.0 + 10 * period)
    assert 48 < demand.last.smoothed < 52
