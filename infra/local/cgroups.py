"""The lab's control groups: one group a lab in each hierarchy, one a node below it, so that a lab ends exactly.

cgroup2 is mounted by the supervisor for itself wherever the host has it (`/sys/fs/cgroup`, `…/unified`, or nowhere).
Layout of a node's part, which is the root of the node's cgroup namespace:
    init/   PID 1 and what runs as root        user/   the user's, delegated; pods are below user/
Where v1 controllers hold memory, cpu and pids (hybrid hosts), the lab has groups there too; the node sees its own
ones under /run/sampan/cgroup-v1 for the porter. Where v2 has the controllers they are enabled down to the user's part.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from infra.local import syscalls
from infra.local.layout import CGROUPS, V1_CONTROLLERS

UNIFIED = CGROUPS / "unified"
WANTED = ("cpu", "cpuset", "memory", "pids")
EMPTY_TIMEOUT_S = 10.0


def v1_hierarchies(proc_cgroup: str) -> dict[str, str]:
    """controller -> mount options, from /proc/self/cgroup (`4:cpu,cpuacct:/`): hierarchies are mounted whole."""
    found = {}
    for line in proc_cgroup.splitlines():
        _, controllers, _ = line.split(":", 2)
        for controller in controllers.split(","):
            if controller in V1_CONTROLLERS:
                found[controller] = controllers
    return found


def mount_hierarchies() -> None:
    """In the caller's own mount namespace; `/run` must be its own."""
    UNIFIED.mkdir(parents=True, exist_ok=True)
    syscalls.mount("cgroup2", UNIFIED, "cgroup2")
    for controller, options in v1_hierarchies(Path("/proc/self/cgroup").read_text()).items():
        place = CGROUPS / controller
        place.mkdir(exist_ok=True)
        syscalls.mount("cgroup", place, "cgroup", data=options)


def hierarchies() -> list[Path]:
    return [place for name in ("unified", *V1_CONTROLLERS) if (place := CGROUPS / name).is_dir()]


def make(group: str, user_id: int) -> None:
    """The groups of one node (`sampan-lab/node`); controllers are handed down where v2 has them."""
    lab, node = group.split("/")
    available = set((UNIFIED / "cgroup.controllers").read_text().split()) & set(WANTED)
    place = UNIFIED
    for part in (lab, node, "user"):
        if available:
            _enable(place, available)
        place /= part
        place.mkdir(exist_ok=True)
    if available:
        _enable(place, available)
    for name in ("", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"):
        _chown(place / name, user_id)
    (place / "service").mkdir(exist_ok=True)  # the user's own processes: inner groups may hold none
    for name in ("", "cgroup.procs", "cgroup.threads"):
        _chown(place / "service" / name, user_id)
    (UNIFIED / group / "init").mkdir(exist_ok=True)
    for hierarchy in hierarchies()[1:]:
        (hierarchy / group).mkdir(parents=True, exist_ok=True)


def _chown(path: Path, user_id: int) -> None:
    os.chown(path, user_id, user_id)


def _enable(group: Path, controllers: set[str]) -> None:
    for controller in sorted(controllers):
        with contextlib.suppress(OSError):  # a host that keeps one for itself: the node reports what is enforced
            (group / "cgroup.subtree_control").write_text(f"+{controller}")


def join(group: Path) -> None:
    (group / "cgroup.procs").write_text("0")


def end(root: Path, lab: str) -> None:
    """Kill whatever is in the lab's groups of the hierarchy mounted at `root` (cgroup2), and remove them."""
    top = root / lab
    if not top.is_dir():
        return
    if (top / "cgroup.kill").exists():
        (top / "cgroup.kill").write_text("1")
        deadline = time.monotonic() + EMPTY_TIMEOUT_S
        while "populated 1" in (top / "cgroup.events").read_text() and time.monotonic() < deadline:
            time.sleep(0.005)
    remove(top)


def remove(top: Path) -> None:
    """Deepest first. A group whose last process is still being reaped answers EBUSY for a moment."""
    if not top.is_dir():
        return
    groups = sorted((path for path in top.rglob("*") if path.is_dir()), key=lambda path: len(path.parts), reverse=True)
    deadline = time.monotonic() + EMPTY_TIMEOUT_S
    for group in [*groups, top]:
        while True:
            try:
                group.rmdir()
                break
            except FileNotFoundError:
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.005)
