"""A release is unpacked, compiled and switched to by the very scripts that run on a machine; /opt is the test's own."""

from __future__ import annotations

import io
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.install import release
from infra.install.release import Release

HOST_PYTHON = "cpython-0"  # another than ours, so that the machine compiles


class Opt:
    """Scripts run in a mount namespace of their own, with `folder` at /opt."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, script: str, stdin: bytes = b"") -> str:
        inside = 'mount --bind "$1" /opt && exec sh -c "$2"'
        command = [
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            inside,
            "opt",
            str(self.folder),
            script,
        ]
        done = subprocess.run(command, input=stdin, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()


@pytest.fixture
def opt(tmp_path: Path) -> Iterator[Opt]:
    (tmp_path / "opt/sampan/src").mkdir(parents=True)  # as in our image: an empty folder
    yield Opt(tmp_path / "opt")


def made(tmp_path: Path, text: str) -> tuple[Release, bytes]:
    wheel = tmp_path / f"{len(text)}.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("orchestrator/program.py", text)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        header = tarfile.TarInfo("orchestrator/program.py")
        header.size = len(text)
        tar.addfile(header, io.BytesIO(text.encode()))
    return release.of_wheel(wheel), buffer.getvalue()


def install(opt: Opt, one: Release, archive: bytes, present: str = "", known: tuple[str, ...] = ()) -> None:
    opt.run(release.unpack_script(one, HOST_PYTHON), archive)
    opt.run(release.switch_script(one, present, known))


def test_the_first_takes_the_place_of_the_empty_folder(opt: Opt, tmp_path: Path) -> None:
    one, archive = made(tmp_path, "print('one')")
    install(opt, one, archive)
    assert opt.run("python3 /opt/sampan/src/orchestrator/program.py") == "one\n"
    assert list((opt.folder / "sampan/src/orchestrator/__pycache__").glob("program.*.pyc"))
    assert str((opt.folder / "sampan/src").readlink()) == f"releases/{one.name}"


def test_the_next_keeps_the_one_before_and_no_older(opt: Opt, tmp_path: Path) -> None:
    names: list[str] = []
    for text in ("print('one')", "print('three')", "print('twelve')"):
        one, archive = made(tmp_path, text)
        install(opt, one, archive, f"releases/{names[-1]}" if names else "", tuple(names))
        names.append(one.name)
    assert opt.run("python3 /opt/sampan/src/orchestrator/program.py") == "twelve\n"
    assert {path.name for path in (opt.folder / "sampan/releases").iterdir()} == set(names[1:])


def test_one_that_broke_off_is_unpacked_anew(opt: Opt, tmp_path: Path) -> None:
    one, archive = made(tmp_path, "print('one')")
    for half in (".new", one.name):
        (opt.folder / "sampan/releases" / half).mkdir(parents=True)
        (opt.folder / "sampan/releases" / half / "rest").touch()
    install(opt, one, archive)
    assert [path.name for path in (opt.folder / "sampan/releases" / one.name).iterdir()] == ["orchestrator"]
    assert not (opt.folder / "sampan/releases/.new").exists()


def test_what_somebody_put_in_its_place_is_not_removed(opt: Opt, tmp_path: Path) -> None:
    (opt.folder / "sampan/src/own").touch()
    one, archive = made(tmp_path, "print('one')")
    opt.run(release.unpack_script(one, HOST_PYTHON), archive)
    with pytest.raises(AssertionError, match="not empty"):
        opt.run(release.switch_script(one, "", ()))
    assert (opt.folder / "sampan/src/own").exists()
