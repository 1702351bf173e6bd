from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.api.settings import SettingsError
from orchestrator.cli import process
from orchestrator.cli.logs import Formatter


def test_a_signal_ends_the_work_gracefully() -> None:
    seen: list[str] = []

    async def work() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    process.run(work())
    assert seen == ["cancelled"]


def test_a_failure_ends_the_process_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        raise ValueError("no such store")

    with pytest.raises(SystemExit) as stopped:
        process.run(work())
    assert stopped.value.code == 1
    assert "no such store" in caplog.text


def test_work_that_ends_by_itself_ends_the_process() -> None:
    async def work() -> None:
        return

    process.run(work())


def test_a_mistyped_setting_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "proxy.yaml"
    file.write_text("node_nam: worker-1\n")
    with pytest.raises(SettingsError, match=r"unknown setting 'node_nam'"):
        process.load("proxy", file)


def test_fields_of_a_record_are_shown_after_its_message() -> None:
    record = logging.makeLogRecord(
        {"name": "n", "levelname": "INFO", "msg": "pod bound", "pod": "default/a", "tries": 2}
    )
    assert Formatter().format(record).endswith("INFO n: pod bound pod='default/a' tries=2")


WRITES_TO_NOBODY = """
import os, signal
from orchestrator.cli import process

signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # as a parent may leave it

async def work():
    reader, writer = os.pipe()
    os.close(reader)
    try:
        os.write(writer, b"x")
    except BrokenPipeError:
        print("survived")

process.run(work())
"""


def test_a_peer_that_has_gone_does_not_end_the_process() -> None:
    done = subprocess.run([sys.executable, "-c", WRITES_TO_NOBODY], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "survived\n"), done.stderr
