from __future__ import annotations

import errno
import sys
from pathlib import Path

import pytest

from infra.toolchain import launchers
from infra.toolchain.tools import Tools, cannot_write


@pytest.mark.parametrize("official", [True, False], ids=["official", "ours"])
def test_the_official_language_host_finds_our_interpreter_on_path(tmp_path: Path, official: bool) -> None:
    for name in ("pulumi", *([launchers.LANGUAGE_HOST, launchers.DYNAMIC_PROVIDER] if official else [])):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    tools = Tools(tmp_path / "pulumi", "3.999.0", "on PATH", Path("/cache/bin"), Path("/state"))
    path = tools.environment("qemu:///system", {"PATH": "/usr/bin"})["PATH"].split(":")
    interpreter = [str(Path(sys.executable).parent)] if official else []
    assert path == ["/cache/bin", *interpreter, "/usr/bin"]


@pytest.mark.parametrize(
    ("number", "remedy"),
    [(errno.EACCES, "Run as root"), (errno.ENOSPC, "Free some space"), (errno.EROFS, "See to it that the folder")],
)
def test_a_place_that_cannot_be_written_is_named_with_the_way_out(number: int, remedy: str) -> None:
    error = OSError(number, "what the kernel says", "/var/lib/sampan-libvirt")
    assert str(cannot_write(error)).startswith(f"/var/lib/sampan-libvirt: what the kernel says\n{remedy}")
