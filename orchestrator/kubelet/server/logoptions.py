"""What of a log is asked for, and what that means for each line of it.

A log file has one line for each piece of output: `<RFC 3339 time> <stdout|stderr> <F|P> <text>`; P says that the line
goes on in the next piece, so no newline belongs after it.
Source: CRI logging format; core/v1 PodLogOptions.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from orchestrator.api import meta, status
from orchestrator.api.status import Cause

TRUE = ("1", "true", "True", "TRUE", "t", "T")
STREAMS = {"All": b"", "Stdout": b"stdout", "Stderr": b"stderr"}


class LogOptions(Struct, frozen=True):
    """`since` is in seconds since the epoch; None means no bound."""

    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    tail_lines: int | None = None
    since: float | None = None
    limit_bytes: int | None = None
    stream: bytes = b""  # "" is both


def parse(query: Mapping[str, str], now: float) -> LogOptions:
    """From PodLogOptions as query parameters. Invalid with a cause for each fault."""
    causes: list[Cause] = []
    tail_lines = _count(query, "tailLines", 0, causes)
    since_seconds = _count(query, "sinceSeconds", 1, causes)
    limit_bytes = _count(query, "limitBytes", 1, causes)
    since = None if since_seconds is None else now - since_seconds
    if text := query.get("sinceTime"):
        if since_seconds is not None:
            causes.append(
                Cause("", "FieldValueForbidden", "at most one of `sinceTime` or `sinceSeconds` may be specified")
            )
        try:
            since = meta.parse_time(text)
        except ValueError:
            causes.append(Cause("sinceTime", "FieldValueInvalid", f'Invalid value: "{text}": must be an RFC 3339 time'))
    stream = query.get("stream") or "All"
    if stream not in STREAMS:
        supported = ", ".join(f'"{name}"' for name in STREAMS)
        causes.append(
            Cause("stream", "FieldValueNotSupported", f'Unsupported value: "{stream}": supported values: {supported}')
        )
    if causes:
        raise status.invalid("", "PodLogOptions", "", causes)
    return LogOptions(
        follow=query.get("follow") in TRUE,
        previous=query.get("previous") in TRUE,
        timestamps=query.get("timestamps") in TRUE,
        tail_lines=tail_lines,
        since=since,
        limit_bytes=limit_bytes,
        stream=STREAMS[stream],
    )


def _count(query: Mapping[str, str], name: str, least: int, causes: list[Cause]) -> int | None:
    text = query.get(name)
    if not text:
        return None
    try:
        value = int(text)
    except ValueError as error:
        raise status.BadRequest(f'unable to decode query: {name}: invalid number "{text}"') from error
    if value < least:
        rule = "must be greater than or equal to 0" if least == 0 else "must be greater than 0"
        causes.append(Cause(name, "FieldValueInvalid", f"Invalid value: {value}: {rule}"))
    return value


def render(line: bytes, options: LogOptions) -> bytes:
    """What the caller sees of one line of the file (without its newline); b"" for nothing."""
    time, _, rest = line.partition(b" ")
    stream, _, rest = rest.partition(b" ")
    tag, _, text = rest.partition(b" ")
    if tag[:1] not in (b"F", b"P"):
        return b""  # half a line of a runtime that was killed
    if options.stream and stream != options.stream:
        return b""
    if options.since is not None and _seconds(time) < options.since:
        return b""
    end = b"" if tag.startswith(b"P") else b"\n"
    return (_utc(time) + b" " if options.timestamps else b"") + text + end


def _seconds(time: bytes) -> float:
    try:
        return meta.parse_time(time.decode())
    except ValueError:
        return 0.0


def _utc(time: bytes) -> bytes:
    return time.removesuffix(b"+00:00") + b"Z" if time.endswith(b"+00:00") else time
