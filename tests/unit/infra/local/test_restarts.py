from __future__ import annotations

import pytest

from infra.local.restarts import DELAY_MAX_S, GOOD_RUN_S, Restarts, delay_s


@pytest.mark.parametrize(
    ("failures", "delay"),
    [(0, 0.0), (1, 0.0), (2, 0.1), (3, 0.2), (5, 0.8), (100, DELAY_MAX_S)],
)
def test_delay_grows_to_a_bound(failures: int, delay: float) -> None:
    assert delay_s(failures) == pytest.approx(delay)


def test_a_first_death_is_repaired_at_once() -> None:
    state = Restarts()
    assert state.is_due(100.0)
    state.ran(7, 100.0)
    assert not state.is_due(101.0)
    state.died("signal 9", 101.0)
    assert state.is_due(101.0)
    assert (state.deaths, state.last_exit) == (1, "signal 9")


def test_quick_deaths_in_a_row_wait() -> None:
    state = Restarts()
    for now in (100.0, 101.0, 102.0):
        state.ran(7, now)
        state.died("exit code 1", now + 0.5)
    assert not state.is_due(102.6)
    assert state.is_due(102.7)


def test_a_good_run_forgets_earlier_deaths() -> None:
    state = Restarts(failures=8)
    state.ran(7, 100.0)
    state.died("signal 9", 100.0 + GOOD_RUN_S + 1)
    assert state.is_due(100.0 + GOOD_RUN_S + 1)


def test_what_is_not_wanted_is_never_due_until_it_is() -> None:
    state = Restarts()
    state.ran(7, 1.0)
    state.want(False)
    state.died("signal 9", 2.0)
    assert not state.is_due(1000.0)
    state.want(True)
    assert state.is_due(1000.0)
