"""Mounts that the host has made since a libvirtd of ours was started, brought into its room.

Where the host's root is a shared mount (systemd makes it one) they arrive by themselves. Elsewhere, in a container for
example, a pool on a disk that was mounted later would be an empty folder for libvirtd, and silently fill the disk
below. Roots of containers are left out: kept in another room they could not be removed.

    python -m infra.hypervisor.late_mounts PID PLACE…    copies them into the mount namespace of that process
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from infra.hypervisor.errors import HypervisorError
from infra.local import syscalls

# The room has its own of these, or no disk of a guest can be there.
LEFT_OUT = (
    "/dev",
    "/proc",
    "/sys",
    "/run",
    "/etc/libvirt",
    "/var/lib/libvirt",
    "/var/cache/libvirt",
    "/var/log/libvirt",
)

NO_STORAGE = ("overlay", "aufs", "nsfs", "proc", "sysfs", "cgroup", "cgroup2", "devpts", "mqueue")


def bring(pid: int) -> None:
    """`pid`: libvirtd's. Errors: HypervisorError."""
    places = missing(Path("/proc/self/mountinfo").read_text(), Path(f"/proc/{pid}/mountinfo").read_text())
    if not places:
        return
    command = [sys.executable, "-m", "infra.hypervisor.late_mounts", str(pid), *places]
    done = subprocess.run(command, cwd=Path(__file__).resolve().parents[2], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise HypervisorError(
            f"libvirtd does not see {', '.join(places)}, mounted since it was started: {said[-1] if said else ''}",
            "Stop the guests and start libvirtd anew (virsh shutdown …, ./sampan toolchain).",
        )


def missing(ours: str, room: str) -> list[str]:
    """Mount points of the host whose mount is not in the room, outer ones first (proc_pid_mountinfo(5))."""
    there = _mounts(room)
    return [
        place
        for place, what in _mounts(ours).items()
        if there.get(place) != what and not any(place == left or place.startswith(f"{left}/") for left in LEFT_OUT)
    ]


def _mounts(mountinfo: str) -> dict[str, tuple[str, str]]:
    """Mount point -> device and root of what is uppermost there."""
    found: dict[str, tuple[str, str]] = {}
    for line in mountinfo.splitlines():
        fields = line.split()
        if fields[fields.index("-") + 1] in NO_STORAGE:
            continue
        found[fields[4].encode().decode("unicode_escape")] = (fields[2], fields[3])
    return found


def main() -> None:
    pid, *places = sys.argv[1:]
    copies = [(syscalls.copy_mount(place), place) for place in places]
    room = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    syscalls.setns(room, syscalls.CLONE_NEWNS)
    for copy, place in copies:
        syscalls.attach_mount(copy, place)


if __name__ == "__main__":
    main()
