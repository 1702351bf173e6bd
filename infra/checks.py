"""`./sampan test`: what must hold before a change lands, in the order in which it fails fastest.

All checks run even if one fails, so that one run tells everything; the exit code is that of the first that failed.
pytest's output comes last and its closing line is the run's. Without arguments every suite runs, but for the tests
marked `wide` (several guests, minutes each), which `all` and `--wide` add.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from infra import host
from infra.hypervisor import host as hypervisor
from infra.images import cache
from infra.images.packages import TEST_COMMANDS
from infra.progress import console
from infra.toolchain import pulumi_cli

ROOT = Path(__file__).resolve().parents[1]
SUITES = ("unit", "contract", "simulation", "integration", "e2e")
WIDE = ("-m", "")  # instead of the marker expression that pyproject.toml has
STATIC = {
    "format": ("ruff", "format", "--check", "."),
    "lint": ("ruff", "check", "."),
    "types": ("mypy",),
    "layers": ("lint-imports",),
}

# What the tests of installing over SSH call: a server to reach, and systemd's own reading of units.
INSTALL_TEST_COMMANDS = {"sshd": "openssh-server", "systemd-analyze": "systemd"}


def run(arguments: Sequence[str]) -> int:
    everything = not arguments or "all" in arguments or list(arguments) == ["--wide"]
    suites = [suite for suite in SUITES if suite in arguments or everything]
    wide = WIDE if {"all", "--wide"} & set(arguments) else ()
    options = [*wide, *(argument for argument in arguments if argument not in (*SUITES, "all", "--wide"))]
    commands: dict[str, list[str]] = {}
    if everything:
        commands |= {name: _tool(*command) for name, command in STATIC.items()}
    paths = [f"tests/{suite}" for suite in suites if (ROOT / "tests" / suite).is_dir()]
    if paths or options:
        commands["tests"] = _tool("pytest", *paths, *options)
    environment = dict(os.environ)
    wants_nodes = any(suite in argument for argument in (*suites, *options) for suite in ("integration", "e2e"))
    if os.geteuid() == 0 and "tests" in commands:
        hypervisor.install_missing(console.print)  # before tests are collected: some import libvirt's binding
        if wants_nodes:
            environment["PATH"] = f"{prepare_host()}:{environment['PATH']}"
    first = 0
    for name, command in commands.items():
        began = time.monotonic()
        console.print(f"[bold]{name}[/]: {' '.join(command[1:])}")
        code = subprocess.run(command, cwd=ROOT, check=False, env=environment).returncode
        if name != "tests":  # pytest's own line is the last
            console.print(
                f"[bold]{name}[/]: {'ok' if code == 0 else f'failed ({code})'}, {time.monotonic() - began:.0f} s"
            )
        first = first or code
    return first


def prepare_host() -> Path:
    """What tests with nodes and networks need of this machine; the folder with the image's own network programs."""
    host.ensure(console.print)
    if missing := host.lacking(TEST_COMMANDS | INSTALL_TEST_COMMANDS):
        console.print(f"installing {', '.join(missing)} (apt-get)")
        host.apt_install(missing)
    # The first test that needs Pulumi's CLI would otherwise make it, which takes longer than a test may.
    pulumi_cli.find(console.print, os.environ)
    return cache.node_image(console.print).parent / "bin"


def _tool(name: str, *arguments: str) -> list[str]:
    if name == "lint-imports":
        return [str(Path(sys.executable).with_name(name)), *arguments]
    return [sys.executable, "-m", name, *arguments]
