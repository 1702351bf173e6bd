"""The atomic writer: all of the new files or all of the old, nothing left behind, nothing outside."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.kubelet.volumes.atomicwriter import File, PayloadError, check, is_written, publish, stage

NAMES = st.from_regex(r"[a-z]{1,3}(\.[a-z]{1,3})?(/[a-z]{1,3})?", fullmatch=True)
MODES = st.sampled_from([0o644, 0o600, 0o755])
PAYLOADS = st.dictionaries(NAMES, st.builds(File, st.binary(max_size=20), MODES), max_size=6)


def write(folder: Path, payload: dict[str, File], now: float) -> None:
    publish(folder, stage(folder, payload, now), payload)


def seen(folder: Path) -> dict[str, File]:
    """What a container sees: everything but the writer's own names."""
    found = {}
    for entry in folder.iterdir():
        if entry.name.startswith(".."):
            continue
        for file in [entry] if entry.is_file() else entry.resolve().rglob("*"):
            if file.is_file():
                path = entry.name if file == entry else f"{entry.name}/{file.relative_to(entry.resolve())}"
                found[path] = File(file.read_bytes(), file.stat().st_mode & 0o7777)
    return found


def can_be(payload: dict[str, File]) -> bool:
    """No path is both a file and a folder."""
    return not any(other.startswith(f"{path}/") for path in payload for other in payload)


@given(st.lists(PAYLOADS.filter(can_be), min_size=1, max_size=4))
def test_the_volume_is_what_was_written_last(payloads: list[dict[str, File]]) -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made, "volumes", "v")
        for number, payload in enumerate(payloads):
            write(folder, payload, 1_700_000_000.0 + number)
            assert seen(folder) == payload
            assert is_written(folder, payload)
            assert len([entry for entry in folder.iterdir() if entry.name.startswith("..2")]) == 1


def test_a_change_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "v"
    payload = {"k": File(b"1")}
    assert not is_written(folder, payload)
    write(folder, payload, 1.0)
    assert is_written(folder, payload)
    assert not is_written(folder, {"k": File(b"2")})
    assert not is_written(folder, {"k": File(b"1", 0o600)})
    assert not is_written(folder, {"other": File(b"1")})


def test_open_files_keep_their_old_content(tmp_path: Path) -> None:
    folder = tmp_path / "v"
    write(folder, {"k": File(b"old")}, 1.0)
    with (folder / "k").open("rb") as reader:
        write(folder, {"k": File(b"new")}, 2.0)
        assert reader.read() == b"old"
    assert (folder / "k").read_bytes() == b"new"


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../../x", "..data"])
def test_paths_stay_inside(path: str) -> None:
    with pytest.raises(PayloadError):
        check(path)
