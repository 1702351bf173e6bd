"""A running lab as its user sees it: the `sampan` command, the real kubectl, and waiting for a condition."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 300.0  # how long anything may take where machines are emulated, beside others; what comes is seen at once
WITHIN = f"--timeout={WAIT_S:.0f}s"  # as kubectl takes it


class Failed(AssertionError):
    """A command that ended with an error; shows what it printed."""


class Lab:
    """A running lab, through the commands that its user has."""

    def __init__(self, name: str, kubeconfig: Path) -> None:
        self.name = name
        self.kubeconfig = kubeconfig
        self.kubectl_program = "kubectl"

    @property
    def program(self) -> str:
        return str(ROOT / "sampan")

    def sampan(self, *args: str, timeout_s: float = 300, check: bool = True) -> str:
        return run(self.program, *args, timeout_s=timeout_s, check=check)

    def kubectl(self, *args: str, stdin: str | None = None, timeout_s: float = WAIT_S + 30, check: bool = True) -> str:
        return run(*self.command(*args), stdin=stdin, timeout_s=timeout_s, check=check)

    def command(self, *args: str) -> list[str]:
        return [self.kubectl_program, f"--kubeconfig={self.kubeconfig}", *args]

    def json(self, *args: str) -> Any:
        return json.loads(self.kubectl(*args, "-o", "json"))

    def nodes(self) -> list[str]:
        return [node["metadata"]["name"] for node in self.json("get", "nodes")["items"]]


def run(*command: str, stdin: str | None = None, timeout_s: float = 120, check: bool = True) -> str:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False)
    if check and done.returncode != 0:
        raise Failed(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout if done.returncode == 0 else done.stdout + done.stderr


def eventually(condition: Callable[[], Any], what: str = "", timeout_s: float = WAIT_S) -> Any:
    """The first true value of `condition`; a failed command counts as not yet."""
    deadline = time.monotonic() + timeout_s
    last: Any = None
    while time.monotonic() < deadline:
        try:
            last = condition()
            if last:
                return last
        except (Failed, KeyError, IndexError, ConnectionError, subprocess.TimeoutExpired) as error:
            last = error
        time.sleep(0.1)
    raise AssertionError(f"{what or condition} did not come true in {timeout_s} s; last seen: {last!r}")
