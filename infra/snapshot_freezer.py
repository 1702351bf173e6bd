"""Hold a local lab's nodes still for as long as somebody reads: all processes of all nodes stop at one moment.

    python -m infra.snapshot_freezer LAB

Says `frozen` when everything stands still, and thaws when its standard input closes: so a lab runs on, whatever happens
to the command that froze it. cgroup2 has a freezer wherever it exists, on hybrid hosts too ("cgroup.freeze").
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.local import cgroups, syscalls
from infra.local.layout import Layout

ROOT = Path(__file__).resolve().parents[1]
FROZEN_TIMEOUT_S = 10.0
SUPERVISOR = "supervisor"  # of whom nothing is saved, and who shall answer


@contextmanager
def frozen(layout: Layout) -> Iterator[None]:
    """Errors: RuntimeError with the reason; the lab runs on."""
    command = [sys.executable, "-m", "infra.snapshot_freezer", layout.name]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,  # the terminal's Ctrl-C is not for it
    ) as freezer:  # fmt: skip
        assert freezer.stdin and freezer.stdout and freezer.stderr
        try:
            if freezer.stdout.readline() != "frozen\n":
                said = freezer.stderr.read().strip().splitlines()
                raise RuntimeError(f"lab {layout.name} could not be held still: {said[-1] if said else 'no reason'}")
            yield
        finally:
            freezer.stdin.close()
        if freezer.wait() != 0:
            said = freezer.stderr.read().strip().splitlines()
            raise RuntimeError(f"lab {layout.name} still stands still: {said[-1] if said else 'no reason'}")


def groups(lab: Path) -> list[Path]:
    return [group for group in sorted(lab.iterdir()) if group.is_dir() and group.name != SUPERVISOR]


def freeze(chosen: list[Path]) -> None:
    for group in chosen:
        (group / "cgroup.freeze").write_text("1")
    deadline = time.monotonic() + FROZEN_TIMEOUT_S
    for group in chosen:
        while "frozen 1" not in (group / "cgroup.events").read_text():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{group.name} does not stand still after {FROZEN_TIMEOUT_S:.0f} s")
            time.sleep(0.002)


def thaw(chosen: list[Path]) -> None:
    for group in chosen:
        if group.is_dir():
            (group / "cgroup.freeze").write_text("0")


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
    syscalls.mount("tmpfs", "/run", "tmpfs")
    cgroups.UNIFIED.mkdir(parents=True)
    syscalls.mount("cgroup2", cgroups.UNIFIED, "cgroup2")
    chosen = groups(cgroups.UNIFIED / Layout(sys.argv[1]).cgroup)
    try:
        freeze(chosen)
        print("frozen", flush=True)
        sys.stdin.read()
    finally:
        thaw(chosen)


if __name__ == "__main__":
    main()
