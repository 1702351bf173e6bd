"""The format `duration` of a schema, and `@every` of a schedule, as kube-apiserver v1.36 answered."""

from __future__ import annotations

import pytest

from orchestrator.api.kinds import cron as grammar
from orchestrator.api.structural import formats
from orchestrator.controllers import cron


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("1.5h", 5400), ("3 days", 259200), ("5d", 432000), ("2w", 1209600), ("1h 30m", 5400), ("+5s", 5), ("-5s", -5),
        ("1 hour 2 minutes", 3720), ("0", 0), ("3.s", 3), (".5s", 0.5), ("5 Days", 432000), ("1day", 86400),
        ("1hr", 3600), ("x1d", 86400), ("1.5d", 432000), ("1d2h", 93600), ("10 wk", 6048000), ("3 nanos", 3e-9),
        ("1 µs", 1e-6), ("1 secs", 1), ("2 mins", 120), ("4 ms foo", 0.004), ("4 foo 2s", 2), ("1w1", 604800),
        ("1h30", 3600),
        ("-3d", 259200), ("1e3s", 3), ("1_000s", 0), (" 5s", 5), ("5s ", 5),
    ],
)  # fmt: skip
def test_what_is_a_length(text: str, want: float) -> None:
    assert formats.holds("duration", text)
    assert formats.duration_s(text) == pytest.approx(want)


@pytest.mark.parametrize("text", ["5", "", "5xd", "abc", "1dx", "1 hrs"])
def test_what_is_none(text: str) -> None:
    assert not formats.holds("duration", text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("@every 1h30m", ""),
        ("@every 1.5s", ""),
        ("@every -5s", ""),
        ("@every 5", 'failed to parse duration @every 5: time: missing unit in duration "5"'),
        ("@every x", 'failed to parse duration @every x: time: invalid duration "x"'),
        ("@every  5s", 'failed to parse duration @every  5s: time: invalid duration " 5s"'),
        ("@every", "unrecognized descriptor: @every"),
    ],
)
def test_what_may_come_every_so_often(text: str, why: str) -> None:
    assert grammar.fault(text) == why


@pytest.mark.parametrize(("text", "every_s"), [("@every 1h30m", 5400), ("@every 1.9s", 1), ("@every -5s", 1)])
def test_it_comes_in_whole_seconds_and_at_most_each(text: str, every_s: int) -> None:
    assert cron.parse(text).every_s == every_s
