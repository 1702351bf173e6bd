from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from orchestrator.api import meta
from orchestrator.api.meta import Object, format_time, parse_time
from orchestrator.controllers import cron
from orchestrator.controllers.cronjob import MISSED_MAX, Plan, plan, timetable

START = parse_time("2026-03-01T00:00:30Z")


@pytest.mark.parametrize(
    ("text", "after", "want"),
    [
        pytest.param("* * * * *", "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z", id="each-minute"),
        pytest.param("*/15 8-18/5 * * mon-fri", "2026-01-02T18:50:00Z", "2026-01-05T08:00:00Z", id="steps-and-names"),
        pytest.param("0 0 31 * *", "2026-01-31T00:00:00Z", "2026-03-31T00:00:00Z", id="months-that-have-the-day"),
        pytest.param("0 0 13 * 5", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", id="either-day-is-enough"),
        pytest.param("0 0 * * 7", "2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z", id="seven-is-sunday"),
        pytest.param("@yearly", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z", id="a-name"),
        pytest.param("0 0 30 2 *", "2026-01-01T00:00:00Z", None, id="never"),
    ],
)
def test_next(text: str, after: str, want: str | None) -> None:
    found = cron.parse(text).next_after(parse_time(after))
    assert (format_time(found) if found is not None else None) == want


def test_times_are_local_and_a_skipped_hour_has_none() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    schedule = cron.parse("30 2 * * *")
    found = schedule.next_after(parse_time("2026-03-28T12:00:00Z"), berlin)
    assert found is not None
    assert datetime.fromtimestamp(found, UTC).isoformat() == "2026-03-30T00:30:00+00:00"


@pytest.mark.parametrize("text", ["", "* * * *", "60 * * * *", "*/0 * * * *", "5-1 * * * *", "x * * * *", "@every 3x"])
def test_what_is_no_schedule(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        cron.parse(text)


def cronjob(status: dict[str, Any] | None = None, **spec: Any) -> Object:
    described = {"name": "tick", "namespace": "shop", "uid": "c", "creationTimestamp": format_time(START)}
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": described,
        "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {}}, **spec},
        "status": status or {},
    }


def job(name: str, end: str = "", age_s: float = 0) -> Object:
    conditions = [{"type": end, "status": "True"}] if end else []
    described = {"name": name, "namespace": "shop", "uid": name, "creationTimestamp": format_time(START - age_s)}
    return {"metadata": described, "spec": {}, "status": {"conditions": conditions}}


def planned(seen: Object, jobs: list[Object], after_s: float) -> Plan:
    return plan(seen, jobs, timetable(seen), START + after_s)


def test_each_time_has_its_job_once() -> None:
    early = planned(cronjob(), [], 10)
    assert (early.create_for, early.again_at) == (None, START + 30)
    due = planned(cronjob(), [], 31)
    assert due.create_for == START + 30
    again = planned(cronjob(), [job(f"tick-{int(START + 30) // 60}")], 31)
    assert again.create_for is None


def test_after_a_pause_only_the_latest_time_counts_and_too_many_are_told() -> None:
    assert planned(cronjob(), [], 600).create_for == START + 570
    late = planned(cronjob(), [], 60 * (MISSED_MAX + 50))
    assert late.create_for == START + 30 + 60 * (MISSED_MAX + 49)
    assert [reason for _, reason, _ in late.events] == ["TooManyMissedTimes"]
    assert planned(cronjob(startingDeadlineSeconds=10), [], 45).create_for is None


@pytest.mark.parametrize(
    ("policy", "creates", "deletes"), [("Allow", True, 0), ("Forbid", False, 0), ("Replace", True, 1)]
)
def test_concurrency(policy: str, creates: bool, deletes: int) -> None:
    found = planned(cronjob(concurrencyPolicy=policy), [job("earlier")], 31)
    assert (found.create_for is not None, len(found.delete)) == (creates, deletes)
    assert [each["name"] for each in found.status["active"]] == ["earlier"]


def test_a_suspended_one_only_cleans_up() -> None:
    jobs = [job(f"done-{number}", "Complete", age_s=number) for number in range(5)]
    found = planned(cronjob(suspend=True), jobs, 600)
    assert (found.create_for, [meta.name(each) for each in found.delete]) == (None, ["done-4", "done-3"])


def test_what_became_of_a_running_job_is_told() -> None:
    active = [{"name": name, "uid": name} for name in ("gone", "done", "going")]
    found = planned(cronjob({"active": active}, suspend=True), [job("done", "Failed"), job("going")], 10)
    assert found.events == [
        ("Normal", "MissingJob", "Active job went missing: gone"),
        ("Normal", "SawCompletedJob", "Saw completed job: done, condition: Failed"),
    ]
    assert [each["name"] for each in found.status["active"]] == ["going"]
