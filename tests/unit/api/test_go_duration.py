"""Lengths of time as Go reads them."""

from __future__ import annotations

import pytest

from orchestrator.api import go_duration


@pytest.mark.parametrize(
    ("text", "want"),
    [("1h30m", 5400), ("300ms", 0.3), ("-1.5s", -1.5), ("+5m", 300), ("0", 0), (".5s", 0.5), ("1.s", 1), ("2us", 2e-6)],
)
def test_what_is_a_duration(text: str, want: float) -> None:
    assert go_duration.seconds(text) == pytest.approx(want)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("invalid", 'time: invalid duration "invalid"'),
        ("", 'time: invalid duration ""'),
        ("-", 'time: invalid duration "-"'),
        ("10", 'time: missing unit in duration "10"'),
        ("1x", 'time: unknown unit "x" in duration "1x"'),
        ("1s.", 'time: invalid duration "1s."'),
        ("999999999h", 'time: invalid duration "999999999h"'),
    ],
)
def test_what_is_none_is_told_in_gos_words(text: str, why: str) -> None:
    with pytest.raises(ValueError) as refused:
        go_duration.seconds(text)
    assert str(refused.value) == why
