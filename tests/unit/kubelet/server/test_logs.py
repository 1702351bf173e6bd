"""Log options, lines, tails, following and rotation, on real files."""

import asyncio
import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.api import status
from orchestrator.kubelet.server import logfile
from orchestrator.kubelet.server.logoptions import LogOptions, parse, render

NOW = 1_700_000_000.0
LINE = b"2023-11-14T22:13:%02d.123456789+00:00 stdout F line %d\n"


async def never() -> bool:
    return False


async def read(path: Path, **options: Any) -> bytes:
    return b"".join([chunk async for chunk in logfile.read(path, LogOptions(**options), never)])


def written(path: Path, *numbers: int) -> Path:
    with path.open("ab") as file:
        for number in numbers:
            file.write(LINE % (number, number))
    return path


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ({}, LogOptions()),
        ({"follow": "true", "tailLines": "0"}, LogOptions(follow=True, tail_lines=0)),
        ({"sinceSeconds": "10"}, LogOptions(since=NOW - 10)),
        ({"sinceTime": "2023-11-14T22:13:20Z"}, LogOptions(since=NOW)),
        ({"stream": "Stderr", "limitBytes": "5"}, LogOptions(stream=b"stderr", limit_bytes=5)),
    ],
)
def test_options(query: dict[str, str], wanted: LogOptions) -> None:
    assert parse(query, NOW) == wanted


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"tailLines": "-1"}, "tailLines"),
        ({"sinceSeconds": "0"}, "sinceSeconds"),
        ({"limitBytes": "0"}, "limitBytes"),
        ({"sinceTime": "yesterday"}, "sinceTime"),
        ({"stream": "Both"}, "stream"),
    ],
)
def test_bad_options(query: dict[str, str], field: str) -> None:
    with pytest.raises(status.Invalid) as error:
        parse(query, NOW)
    assert [cause.field for cause in error.value.causes] == [field]


@pytest.mark.parametrize(
    ("line", "options", "shown"),
    [
        (b"2023-11-14T22:13:20Z stdout F hello", LogOptions(), b"hello\n"),
        (b"2023-11-14T22:13:20Z stdout F ", LogOptions(), b"\n"),
        (b"2023-11-14T22:13:20Z stdout P half", LogOptions(), b"half"),
        (b"2023-11-14T22:13:20+00:00 stdout F x", LogOptions(timestamps=True), b"2023-11-14T22:13:20Z x\n"),
        (b"2023-11-14T22:13:20Z stderr F x", LogOptions(stream=b"stdout"), b""),
        (b"2023-11-14T22:13:20Z stdout F old", LogOptions(since=NOW + 1), b""),
        (b"2023-11-14T22:13:20Z stdout F new", LogOptions(since=NOW), b"new\n"),
        (b"torn", LogOptions(), b""),
    ],
)
def test_a_line(line: bytes, options: LogOptions, shown: bytes) -> None:
    assert render(line, options) == shown


@given(st.lists(st.binary(max_size=6).map(lambda text: text.replace(b"\n", b"")), max_size=12), st.integers(0, 14))
def test_a_tail_is_the_last_lines(lines: list[bytes], count: int) -> None:
    text = b"".join(line + b"\n" for line in lines)
    file = io.BytesIO(text)
    file.seek(logfile.tail_offset(file, count))
    assert file.read() == b"".join(line + b"\n" for line in lines[max(0, len(lines) - count) :])


async def test_tail_and_limit(tmp_path: Path) -> None:
    path = written(tmp_path / "0.log", *range(10))
    assert await read(path, tail_lines=2) == b"line 8\nline 9\n"
    assert await read(path, tail_lines=2, limit_bytes=8) == b"line 8\nl"
    assert (await read(path)).count(b"\n") == 10


async def test_a_followed_log_goes_on_over_rotation_and_ends_with_its_container(tmp_path: Path) -> None:
    path = written(tmp_path / "0.log", 0, 1)
    alive = True
    seen: asyncio.Queue[bytes] = asyncio.Queue()

    async def is_alive() -> bool:
        return alive

    async def follow() -> None:
        async for chunk in logfile.read(path, LogOptions(follow=True, tail_lines=1), is_alive):
            seen.put_nowait(chunk)

    following = asyncio.create_task(follow())
    assert await asyncio.wait_for(seen.get(), 5) == b"line 1\n"
    began = asyncio.get_running_loop().time()
    written(path, 2)
    assert await asyncio.wait_for(seen.get(), 5) == b"line 2\n"
    assert asyncio.get_running_loop().time() - began < 0.05, "the kernel tells, nobody polls"
    path.rename(tmp_path / "0.log.20231114")
    written(path, 3)
    assert await asyncio.wait_for(seen.get(), 5) == b"line 3\n"
    alive = False
    written(path, 4)
    await asyncio.wait_for(following, 5)
    assert seen.get_nowait() == b"line 4\n"
