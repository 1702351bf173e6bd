"""Cron schedules: `minute hour day-of-month month day-of-week`, and names for some of them (@hourly, @daily, …).

A field is `*` or `?`, numbers, names, ranges, lists and steps. Where both days are restricted, either is enough, as in
cron. Times are local to a zone: an hour that a change of clocks skips has no times, one that it repeats has its times
once. `@every 90m` counts from an origin, without a calendar, in whole seconds. Errors: ValueError says which field.
Source: Concepts, CronJob, "Schedule syntax"; crontab(5).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

from msgspec import Struct

from orchestrator.api import go_duration

NAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
MONTHS = {name: number for number, name in enumerate(MONTH_NAMES, 1)}
DAYS = {name: number for number, name in enumerate(["sun", "mon", "tue", "wed", "thu", "fri", "sat"])}
YEARS_MAX = 5  # beyond which a schedule never comes (30 February)


class Schedule(Struct, frozen=True):
    minutes: frozenset[int] = frozenset()
    hours: frozenset[int] = frozenset()
    days: frozenset[int] = frozenset()
    months: frozenset[int] = frozenset()
    weekdays: frozenset[int] = frozenset()  # Sunday is 0
    any_day: bool = True
    any_weekday: bool = True
    every_s: float = 0.0

    def next_after(self, after: float, zone: tzinfo = UTC, origin: float = 0.0) -> float | None:
        """The first time of the schedule after a moment; None where there is none."""
        if self.every_s:
            count = int((after - origin) // self.every_s) + 1
            return origin + max(1, count) * self.every_s
        local = datetime.fromtimestamp(after, zone).replace(second=0, microsecond=0)
        moment = local.replace(tzinfo=None) + timedelta(minutes=1)
        end = moment.year + YEARS_MAX
        while moment.year <= end:
            if moment.month not in self.months:
                moment = _next_month(moment)
            elif not self._is_day(moment):
                moment = moment.replace(hour=0, minute=0) + timedelta(days=1)
            elif moment.hour not in self.hours:
                moment = moment.replace(minute=0) + timedelta(hours=1)
            elif moment.minute not in self.minutes:
                moment += timedelta(minutes=1)
            else:
                found = moment.replace(tzinfo=zone).timestamp()
                exists = datetime.fromtimestamp(found, zone).replace(tzinfo=None) == moment
                if exists and found > after:
                    return found
                moment += timedelta(minutes=1)
        return None

    def _is_day(self, moment: datetime) -> bool:
        day, weekday = moment.day in self.days, (moment.weekday() + 1) % 7 in self.weekdays
        return day and weekday if self.any_day or self.any_weekday else day or weekday


def _next_month(moment: datetime) -> datetime:
    first = moment.replace(day=1, hour=0, minute=0)
    return first.replace(year=first.year + 1, month=1) if first.month == 12 else first.replace(month=first.month + 1)


def parse(text: str) -> Schedule:
    text = text.strip()
    if text.startswith("@every "):
        return Schedule(every_s=max(1, int(go_duration.seconds(text.removeprefix("@every ")))))
    fields = NAMES.get(text, text).split()
    if len(fields) != 5:
        raise ValueError(f"expected exactly 5 fields, found {len(fields)}: [{text}]")
    minute, hour, day, month, weekday = fields
    weekdays = _field(weekday, 0, 7, DAYS)
    return Schedule(
        _field(minute, 0, 59, {}),
        _field(hour, 0, 23, {}),
        _field(day, 1, 31, {}),
        _field(month, 1, 12, MONTHS),
        frozenset(number % 7 for number in weekdays),
        day[0] in "*?",
        weekday[0] in "*?",
    )


def _field(text: str, first: int, last: int, names: dict[str, int]) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        span, slash, step_text = part.partition("/")
        step = int(step_text) if slash and step_text.isdecimal() else 1
        if slash and (not step_text.isdecimal() or step == 0):
            raise ValueError(f"step of range should be a positive number: {part}")
        if span in ("*", "?"):
            low, high = first, last
        else:
            start, dash, end = span.partition("-")
            low = _number(start, names)
            high = _number(end, names) if dash else last if slash else low
        if not first <= low <= high <= last:
            raise ValueError(f"value out of range ({first}-{last}): {part}")
        found.update(range(low, high + 1, step))
    return frozenset(found)


def _number(text: str, names: dict[str, int]) -> int:
    found = names.get(text.lower())
    if found is None and not text.isdecimal():
        raise ValueError(f"failed to parse int from {text!r}")
    return int(text) if found is None else found
