"""The grammar of CronJob schedules: five fields of cron, or a name such as `@daily`.

`fault` says what is wrong in the words of the cron library that Kubernetes uses. Source: Concepts, "CronJob".
"""

from __future__ import annotations

import re

from orchestrator.api import go_duration
from orchestrator.api.kinds.faults import shown

CRON_FIELDS = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of month", 1, 31, ()),
    ("month", 1, 12, ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")),
    ("day of week", 0, 6, ("sun", "mon", "tue", "wed", "thu", "fri", "sat")),
)
CRON_NAMES = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")


def fault(schedule: str) -> str:
    """What the usual cron grammar of five fields says against a schedule; "" where nothing."""
    text = re.sub(r"^(CRON_)?TZ=\S+\s+", "", schedule)
    if text.startswith("@every "):
        try:
            go_duration.seconds(text.removeprefix("@every "))
        except ValueError as error:
            return f"failed to parse duration {text}: {error}"
        return ""
    if text.startswith("@"):
        return "" if text in CRON_NAMES else f"unrecognized descriptor: {text}"
    fields = text.split()
    if len(fields) != len(CRON_FIELDS):
        shown = " ".join(fields)
        return f"expected exactly {len(CRON_FIELDS)} fields, found {len(fields)}: [{shown}]"
    for field, (_, low, high, names) in zip(fields, CRON_FIELDS, strict=True):
        for part in field.split(","):
            if complaint := _cron_part(part, low, high, names):
                return complaint
    return ""


def _cron_part(part: str, low: int, high: int, names: tuple[str, ...]) -> str:
    match = re.fullmatch(r"(\*|\?|[A-Za-z0-9]+)(?:-([A-Za-z0-9]+))?(?:/(\d+))?", part)
    if match is None:
        return f"failed to parse int from {part}: strconv.Atoi: parsing {shown(part)}: invalid syntax"
    start, end, step = match.groups()
    numbers = []
    for text in (start, end):
        if text is None or text in "*?":
            continue
        if text.lower() in names:
            numbers.append(names.index(text.lower()) + low)
        elif text.isdigit():
            numbers.append(int(text))
        else:
            return f"failed to parse int from {text}: strconv.Atoi: parsing {shown(text)}: invalid syntax"
    for number in numbers[:1]:
        if number < low:
            return f"beginning of range ({number}) below minimum ({low}): {part}"
    for number in numbers[-1:]:
        if number > high:
            return f"end of range ({number}) above maximum ({high}): {part}"
    if len(numbers) == 2 and numbers[0] > numbers[1]:
        return f"beginning of range ({numbers[0]}) beyond end of range ({numbers[1]}): {part}"
    return f"step of range should be a positive number: {part}" if step == "0" else ""
