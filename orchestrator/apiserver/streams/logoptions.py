"""PodLogOptions as a caller gives them, checked, and as the kubelet is asked.

A flag is set by any value but `0` and `false`. Which of its two streams a log is read from cannot be asked for: that is
a feature which is off in v1.36.
Source: core/v1 PodLogOptions; kube-apiserver pkg/registry/core/pod, LogLocation, and its validation.
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.api import meta
from orchestrator.api.kinds import faults
from orchestrator.api.status import BadRequest, Cause, invalid
from orchestrator.apiserver import options

FLAGS = ("follow", "previous", "timestamps")
NUMBERS = {"tailLines": 0, "limitBytes": 1, "sinceSeconds": 1}  # the least of each
Query = list[tuple[str, str]]


def kubelet_query(query: Query, pod: str) -> Query:
    """BadRequest where a value cannot be read, Invalid where it cannot be meant."""
    given = dict(reversed(query))  # the first of several counts
    numbers = {name: options.integer(given[name]) for name in NUMBERS if name in given}
    since = given.get("sinceTime", "")
    if since:
        _check_time(since)
    if causes := _causes(given, numbers):
        raise invalid("", "PodLogOptions", pod, causes)
    asked = [(name, "true") for name in FLAGS if name in given and not _is_false(given[name])]
    asked += [(name, str(value)) for name, value in numbers.items()]
    return asked + ([("sinceTime", since)] if since else [])


def _causes(given: Mapping[str, str], numbers: Mapping[str, int]) -> list[Cause]:
    causes = [_bound(name, numbers) for name in ("tailLines", "limitBytes")]
    if "sinceSeconds" in numbers and "sinceTime" in given:
        causes.append(faults.forbidden("[]", "at most one of `sinceTime` or `sinceSeconds` may be specified"))
    else:
        causes.append(_bound("sinceSeconds", numbers))
    if "stream" in given:
        causes.append(faults.forbidden("stream", "may not be specified"))
    return [cause for cause in causes if cause is not None]


def _bound(name: str, numbers: Mapping[str, int]) -> Cause | None:
    value, least = numbers.get(name), NUMBERS[name]
    if value is None or value >= least:
        return None
    return faults.invalid(name, value, "must be greater than 0" if least else "must be greater than or equal to 0")


def _check_time(text: str) -> None:
    try:
        meta.parse_time(text)
    except ValueError as error:
        why = f'parsing time "{text}" as "2006-01-02T15:04:05Z07:00": cannot parse "{text}" as "2006"'
        raise BadRequest(why) from error


def _is_false(text: str) -> bool:
    return text == "0" or text.lower() == "false"
