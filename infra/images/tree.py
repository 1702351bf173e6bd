"""The root tree of a node: Debian packages, our dependencies, the user `sampan`, the image store. Nothing of one lab.

Errors: BuildError with the failed step, its command and the end of what it said.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from infra.images import containers, dependencies, store
from infra.images.packages import NODE_PACKAGES, NODE_SUITE
from infra.images.sources import debian_mirror

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# What mmdebstrap leaves out: text that nobody reads in a node (65 MB).
EXCLUDED = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*")
DIRECTORIES = ("opt/sampan/src", "etc/sampan", "var/lib/sampan", "var/lib/containers", "etc/cni/net.d", "run/sampan")
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}  # the kernel's name -> Debian's

Progress = Callable[[str], None]


class BuildError(RuntimeError):
    """A step of the image build failed; nothing of it is kept."""


def build(tree: Path, lock: Path, say: Progress) -> None:
    """Fill `tree`, a new directory. The steps take about 26, 6 and 6 s with a near mirror on two cores."""
    steps: tuple[tuple[str, Callable[[], None]], ...] = (
        (f"Debian {NODE_SUITE} root tree: {len(NODE_PACKAGES)} packages and what they need", lambda: bootstrap(tree)),
        ("Python dependencies from requirements.lock", lambda: dependencies.install(tree, lock)),
        ("container images pause, busybox, nginx and echo", lambda: fill_store(tree)),
    )
    for what, step in steps:
        say(what)
        try:
            step()
        except subprocess.CalledProcessError as error:
            said = ((error.stderr or "") + (error.stdout or "")).strip().splitlines()[-12:]
            program = error.cmd[0] if isinstance(error.cmd, list) else error.cmd
            failed = f"building the node image: {what}: {program} ended with exit code {error.returncode}"
            raise BuildError("\n".join([failed, *said])) from error
    prepare(tree)


def bootstrap(tree: Path) -> None:
    mirror = debian_mirror()
    options = [f"--dpkgopt=path-exclude={pattern}" for pattern in EXCLUDED] + apt_options()
    subprocess.run(
        [
            *("mmdebstrap", "--quiet", "--variant=minbase", "--format=directory", *options),
            *('--aptopt=APT::Install-Recommends "0"', f"--include={','.join(NODE_PACKAGES)}"),
            *(NODE_SUITE, str(tree), f"deb {trust()}{mirror} {NODE_SUITE} main"),
        ],
        check=True,
        capture_output=True,
        text=True,
    )


def trust() -> str:
    """The host's Debian keyring, named where the host is not Debian's and apt would not look there by itself."""
    return f"[signed-by={KEYRING}] " if KEYRING.exists() else ""


def apt_options() -> list[str]:
    return [f"--aptopt={line}" for line in apt_settings()]


def apt_settings() -> list[str]:
    """How this machine reaches its mirror: proxies and TLS settings of apt, taken over as they are."""
    dumped = subprocess.run(["apt-config", "dump", "Acquire"], capture_output=True, text=True, check=True).stdout
    wanted = ("Acquire::http", "Acquire::https", "Acquire::Check-Valid-Until", "Acquire::Check-Date")
    return [line for line in dumped.splitlines() if line.startswith(wanted) and not line.endswith('"";')]


def fill_store(tree: Path) -> None:
    architecture = ARCHITECTURES[os.uname().machine]
    store.fill(tree, containers.offline_images(tree), architecture)


def prepare(tree: Path) -> None:
    """Directories that become mount points, no service of the distribution's own, and a neutral identity."""
    for directory in DIRECTORIES:
        (tree / directory).mkdir(parents=True, exist_ok=True)
    for name in ("etc/resolv.conf", "etc/hostname", "etc/machine-id"):
        (tree / name).unlink(missing_ok=True)
        (tree / name).touch()
    shutil.rmtree(tree / "var/cache/apt", ignore_errors=True)
    # Components find our code and its dependencies without any variable in their environment.
    (tree / "usr/lib/python3/dist-packages/sampan.pth").write_text("/opt/sampan/src\n/opt/sampan/lib\n")
    program = tree / "usr/bin/sampan"
    program.write_text('#!/bin/sh\nexec /usr/bin/python3 -m orchestrator.cli "$@"\n')
    program.chmod(0o755)
