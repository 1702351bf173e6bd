"""READY=1 to the service manager that asked for it, and to no other."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from orchestrator.apiserver import notify


@pytest.mark.parametrize("is_abstract", [False, True])
def test_who_asked_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_abstract: bool) -> None:
    name = f"@sampan-test-{os.getpid()}" if is_abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name.replace("@", "\0") if is_abstract else name)
        manager.settimeout(5)
        monkeypatch.setenv(notify.VARIABLE, name)
        notify.ready()
        assert manager.recv(100) == b"READY=1"


def test_where_nobody_asked_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(notify.VARIABLE, raising=False)
    notify.ready()


def test_who_asked_and_is_gone_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(notify.VARIABLE, str(tmp_path / "nobody"))
    with pytest.raises(OSError, match="No such file"):
        notify.ready()
