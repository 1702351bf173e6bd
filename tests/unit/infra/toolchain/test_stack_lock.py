from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.toolchain import command, stack_lock
from infra.toolchain.errors import ToolchainError


@pytest.fixture
def living(tmp_path: Path) -> Iterator[int]:
    """A process of a program named pulumi."""
    program = tmp_path / "pulumi"
    shutil.copy("/bin/sleep", program)
    process = subprocess.Popen([program, "600"])
    yield process.pid
    process.kill()
    process.wait()


@pytest.fixture
def dead() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def lock(state: Path, pid: int, name: str = "a", host: str | None = None, stack: str = "dev") -> Path:
    file = state / ".pulumi/locks/organization/labs" / stack / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {"pid": pid, "username": "root", "hostname": host or socket.gethostname(), "timestamp": "2026-01-02"}
    file.write_text(json.dumps(content))
    return file


def release(state: Path) -> list[int]:
    return [found.pid for found in stack_lock.release_stale(f"file://{state}?no_tmp_dir=true", "labs", "dev")]


def test_a_lock_of_a_killed_cli_is_removed(tmp_path: Path, dead: int) -> None:
    file, other = lock(tmp_path, dead), lock(tmp_path, dead, stack="other")
    assert release(tmp_path) == [dead]
    assert not file.exists()
    assert other.exists()
    assert release(tmp_path) == []


def test_a_number_that_another_program_has_by_now_holds_nothing(tmp_path: Path) -> None:
    lock(tmp_path, os.getpid())
    assert release(tmp_path) == [os.getpid()]


def test_a_living_cli_keeps_its_stack_and_every_lock_on_it(tmp_path: Path, living: int, dead: int) -> None:
    files = [lock(tmp_path, dead, "a"), lock(tmp_path, living, "b")]
    with pytest.raises(ToolchainError, match=rf"stack dev of labs is being changed by root@\S+ \(process {living}, "):
        release(tmp_path)
    assert all(file.exists() for file in files)


def test_a_lock_of_another_host_is_not_ours_to_judge(tmp_path: Path, dead: int) -> None:
    file = lock(tmp_path, dead, host="elsewhere")
    with pytest.raises(ToolchainError, match="pulumi cancel --stack dev"):
        release(tmp_path)
    assert file.exists()


def test_a_lock_that_is_just_being_written_is_passed_over(tmp_path: Path, dead: int) -> None:
    lock(tmp_path, dead).write_text('{"pid": ')
    assert release(tmp_path) == []


def test_other_backends_are_left_to_pulumi() -> None:
    assert stack_lock.release_stale("https://api.pulumi.com", "labs", "dev") == ()


def test_stacks_that_only_killed_commands_hold_are_told(tmp_path: Path, living: int, dead: int) -> None:
    url = f"file://{tmp_path}"
    lock(tmp_path, dead)
    lock(tmp_path, dead, stack="both")
    lock(tmp_path, living, name="b", stack="both")
    lock(tmp_path, dead, host="elsewhere", stack="far")
    assert stack_lock.stale_stacks(url) == [("labs", "dev")]
    release(tmp_path)
    assert stack_lock.stale_stacks(url) == []


def test_a_shell_for_plain_pulumi_is_made_with_no_stale_lock(tmp_path: Path, living: int, dead: int) -> None:
    url, said = f"file://{tmp_path}", list[str]()
    mine, other = lock(tmp_path, dead), lock(tmp_path, living, stack="busy")
    half = tmp_path / ".pulumi/stacks/labs/dev.json"
    half.parent.mkdir(parents=True)
    half.write_text("")
    half.with_name("dev.json.bak").write_text('{"n": 1}')
    command.mend(url, said.append)
    assert (mine.exists(), other.exists(), half.read_text()) == (False, True, '{"n": 1}')
    assert said == [
        f"stack dev of labs: a command was killed (process {dead}): the next pulumi up goes on where it was"
    ]
    command.mend(url, said.append)
    assert len(said) == 1
