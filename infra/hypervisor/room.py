"""The room that a libvirtd of ours runs in: a mount namespace in which its three folders, /dev and /sys are its own.

    python -m infra.hypervisor.room FOLDER NETNS show-kvm|hide-kvm COMMAND…

Joins the network namespace, makes the mounts and becomes COMMAND. Every start makes the mounts anew, so that a
libvirtd that comes back sees what the one before it saw, and guests, who keep the mounts of the one that started them,
see the same files. Nothing of it is seen outside, and the last process that ends takes it away.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

from infra.local import syscalls

# Where libvirtd has its state by its build -> the part of the folder that is put there.
PLACES = {
    "/run/libvirt": "run",
    "/var/lib/libvirt": "var",
    "/etc/libvirt": "etc",
    "/var/cache/libvirt": "cache",
    "/var/log/libvirt": "log",
}
BUSES = ("/run/dbus", "/run/systemd")  # where libvirt would look for a service manager
NETNS = Path("/run/netns")


def enter(folder: Path, netns: str, *, hide_kvm: bool) -> None:
    descriptor = os.open(NETNS / netns, os.O_RDONLY | os.O_CLOEXEC)
    syscalls.setns(descriptor, syscalls.CLONE_NEWNET)
    os.close(descriptor)
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount(
        "", "/", flags=syscalls.MS_REC | syscalls.MS_SLAVE
    )  # mounts of later arrive here, or see late_mounts.py
    for place, part in PLACES.items():
        syscalls.bind(folder / part, place)
    for bus in filter(os.path.isdir, BUSES):
        syscalls.mount("tmpfs", bus, "tmpfs", syscalls.MS_RDONLY)
    # The interfaces of its own network namespace; and without the cgroup hierarchies, in which it would make groups
    # that nobody removes, and which it cannot use where they are hybrid.
    syscalls.unmount("/sys")
    syscalls.mount("sysfs", "/sys", "sysfs", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC)
    if hide_kvm and Path("/dev/kvm").exists():
        _copy_devices(folder / "dev")


def _copy_devices(place: Path) -> None:
    """A /dev that has what the host's has, but for kvm.

    Bound over by /dev/null it would be found, and QEMU be asked about it at every call (29 s each).
    """
    syscalls.mount("tmpfs", place, "tmpfs", syscalls.MS_NOSUID, "mode=755")
    for entry in sorted(Path("/dev").iterdir()):
        copy = place / entry.name
        found = entry.lstat()
        if entry.name == "kvm" or stat.S_ISSOCK(found.st_mode):
            continue
        if entry.is_symlink():
            copy.symlink_to(entry.readlink())
        elif stat.S_ISDIR(found.st_mode):
            copy.mkdir()
            syscalls.bind(entry, copy, recursive=True)
        elif stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode):
            os.mknod(copy, found.st_mode, found.st_rdev)
            copy.chmod(stat.S_IMODE(found.st_mode))
            os.chown(copy, found.st_uid, found.st_gid)
    syscalls.bind(place, "/dev", recursive=True)


def main() -> None:
    folder, netns, kvm, *command = sys.argv[1:]
    enter(Path(folder), netns, hide_kvm=kvm == "hide-kvm")
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
