"""What hostPath volumes name: checked, and made where their type says so."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.porter import paths
from orchestrator.porter.processes import IdMap
from orchestrator.porter.verbs import PorterError

OWN = IdMap(os.getuid(), os.getgid(), 100_000, 65536, 100_000, 65536)


@pytest.mark.parametrize("kind", ["", "DirectoryOrCreate"])
def test_a_folder_is_made_where_nothing_is(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a" / "b"
    paths._ensure(path, kind, OWN)
    assert path.is_dir() and path.stat().st_mode & 0o777 == 0o755


def test_of_no_type_anything_will_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    paths._ensure(tmp_path / "file", "", OWN)
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.parametrize("kind", ["Directory", "File", "Socket"])
def test_what_only_has_to_be_there_is_not_made(tmp_path: Path, kind: str) -> None:
    with pytest.raises(PorterError, match="hostPath type check failed"):
        paths._ensure(tmp_path / "missing", kind, OWN)
    assert not (tmp_path / "missing").exists()
