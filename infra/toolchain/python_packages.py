"""The Python packages of the VM lab, installed into the running environment when it lacks them.

The local lab must not pay for them, so the environment that `./sampan` makes has them only after the first use of a VM.
"""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path

from infra.images.tree import Progress
from infra.toolchain.errors import ToolchainError

LOCK = Path(__file__).resolve().parents[2] / "requirements-vm.lock"
NEEDED = ("pulumi", "pulumi-libvirt", "fabric")


def ensure(say: Progress) -> None:
    missing = lacking(LOCK.read_text(), _installed)
    if not missing:
        return
    if sys.prefix == sys.base_prefix:
        raise ToolchainError(
            f"{sys.executable} lacks {', '.join(missing)}, and it is no virtual environment to install them into",
            "use ./sampan, which makes one",
        )
    say(f"installing {', '.join(missing)} (pip, {LOCK.name})")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--require-hashes", "--only-binary", ":all:"]
    command += ["--requirement", str(LOCK)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ToolchainError(
            f"pip could not install what {LOCK.name} names: {done.stderr.strip()[-400:]}",
            "make PyPI or a mirror of it reachable for pip (PIP_INDEX_URL) and run the command again",
        )
    importlib.invalidate_caches()


def lacking(lock: str, installed: Callable[[str], str | None]) -> list[str]:
    """Which of NEEDED are not there in the version that the lock names, as `name==version`."""
    wanted = pinned(lock)
    return [f"{name}=={wanted[name]}" for name in NEEDED if installed(name) != wanted[name]]


def pinned(lock: str) -> Mapping[str, str]:
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", lock, re.MULTILINE))


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
