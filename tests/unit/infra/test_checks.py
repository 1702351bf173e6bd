"""`./sampan test` brings what the chosen tests need before they are collected."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from infra import checks


@pytest.mark.parametrize(
    ("arguments", "made_ready"),
    [
        (["unit"], ["binding"]),
        (["e2e"], ["binding", "nodes"]),
        (["tests/integration/store"], ["binding", "nodes"]),
        ([], ["binding", "nodes"]),
    ],
)
def test_what_is_missing_is_installed_before_the_tests(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], made_ready: list[str]
) -> None:
    done: list[str] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        done.append("pytest" if "pytest" in command else "static")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(checks.os, "geteuid", lambda: 0)
    monkeypatch.setattr(checks.hypervisor, "install_missing", lambda say: done.append("binding") or [])
    monkeypatch.setattr(checks, "prepare_host", lambda: done.append("nodes") or "/bin")
    monkeypatch.setattr(checks.subprocess, "run", run)
    assert checks.run(arguments) == 0
    assert [step for step in done if step != "static"] == [*made_ready, "pytest"]


def test_every_folder_of_tests_is_run() -> None:
    folders = {
        file.relative_to(checks.ROOT / "tests").parts[0] for file in (checks.ROOT / "tests").glob("*/**/test_*.py")
    }
    assert folders <= set(checks.SUITES)
