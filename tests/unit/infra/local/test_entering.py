from __future__ import annotations

import os
from pathlib import Path

import pytest

from infra.local import entering


def test_a_log_is_appended_to_until_it_is_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entering, "LOG_BYTES_MAX", 5)
    log = tmp_path / "sampan/proxy.log"
    for text in (b"one", b"two", b"three"):
        descriptor = entering.open_log(log)
        os.write(descriptor, text)
        os.close(descriptor)
    assert log.read_text() == "three"
    assert log.with_suffix(".log.1").read_text() == "onetwo"


def test_accounts_have_their_own_places() -> None:
    user = entering.node_user(4_194_304)
    assert user.variables["XDG_RUNTIME_DIR"] == "/run/user/4194304"
    assert (user.cgroup, entering.root_account().cgroup) == ("user/service", "init")
