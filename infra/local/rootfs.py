"""The file system of a namespace node, put together in the node's own mount namespace; the host sees none of it.

Lower layer: the node image. Upper layer, volumes and logs: the lab's folder on the host's own file system (an overlay
on an overlay, or id-mapped mounts of one, would not work). Our code is read-only at /opt/sampan/src; the shared image
store is an id-mapped mount in which container id n belongs to the node's id user + n.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from infra.images.store import STORE
from infra.images.sysctls import SYSCTLS
from infra.local import syscalls
from infra.local.layout import CGROUPS, V1_CONTROLLERS
from infra.local.syscalls import MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_REC, MS_SHARED
from infra.topology import NODE_IDS

# Path in the node -> folder of the node on the host: all that Podman, volumes and logs write.
VOLUMES = {"/var/lib/sampan": "sampan", "/var/lib/containers": "containers", "/var/log": "log"}
DEVICES = {
    "null": (1, 3, 0o666), "zero": (1, 5, 0o666), "full": (1, 7, 0o666), "random": (1, 8, 0o666),
    "urandom": (1, 9, 0o666), "tty": (5, 0, 0o666), "fuse": (10, 229, 0o666), "net/tun": (10, 200, 0o666),
}  # fmt: skip


@dataclass(frozen=True)
class Sources:
    """Where a node's file system comes from, as the supervisor sees the paths."""

    tree: Path
    code: Path
    node: Path  # the node's folder
    cgroup: str  # `sampan-lab/node`, below each hierarchy
    user_id: int
    store_ids: int  # descriptor of a user namespace: id n of the image store is the node's id user + n


def make_folders(sources: Sources) -> None:
    for name in ("upper", "work", "root", *VOLUMES.values()):
        (sources.node / name).mkdir(parents=True, exist_ok=True)


def assemble(sources: Sources) -> Path:
    """Everything but what needs the final root. The caller is alone in new mount, pid, net and cgroup namespaces."""
    syscalls.mount("", "/", flags=MS_REC | syscalls.MS_PRIVATE)
    root = sources.node / "root"
    data = f"lowerdir={sources.tree},upperdir={sources.node / 'upper'},workdir={sources.node / 'work'}"
    syscalls.mount("overlay", root, "overlay", data=data)
    syscalls.mount("proc", root / "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    syscalls.mount("sysfs", root / "sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    syscalls.mount("cgroup2", root / "sys/fs/cgroup", "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    for place, mode in (("run", "755"), ("tmp", "1777")):
        syscalls.mount("tmpfs", root / place, "tmpfs", MS_NOSUID | MS_NODEV, f"mode={mode}")
    devices(root / "dev")
    for place, folder in VOLUMES.items():
        target = root / place.lstrip("/")
        target.mkdir(parents=True, exist_ok=True)
        syscalls.bind(sources.node / folder, target)
    syscalls.bind(sources.code, root / "opt/sampan/src", read_only=True)
    image_store(sources, root)
    legacy_cgroups(sources, root)
    runtime_folders(root, sources.user_id)
    return root


def devices(dev: Path) -> None:
    syscalls.mount("tmpfs", dev, "tmpfs", MS_NOSUID, "mode=755")
    for name in ("net", "pts", "shm", "mqueue"):
        (dev / name).mkdir()
    for name, (major, minor, mode) in DEVICES.items():
        os.mknod(dev / name, stat.S_IFCHR | mode, os.makedev(major, minor))
        (dev / name).chmod(mode)
    syscalls.mount("devpts", dev / "pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620,gid=5")
    syscalls.mount("tmpfs", dev / "shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
    syscalls.mount("mqueue", dev / "mqueue", "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    links = {"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1"}
    for name, target in {**links, "stderr": "/proc/self/fd/2", "core": "/proc/kcore"}.items():
        (dev / name).symlink_to(target)


def image_store(sources: Sources, root: Path) -> None:
    store = STORE.lstrip("/")
    syscalls.bind_mapped(sources.tree / store, root / store, sources.store_ids, read_only=True)


def legacy_cgroups(sources: Sources, root: Path) -> None:
    for controller in V1_CONTROLLERS:
        group = CGROUPS / controller / sources.cgroup
        if group.is_dir():
            target = root / "run/sampan/cgroup-v1" / controller
            target.mkdir(parents=True, exist_ok=True)
            syscalls.bind(group, target)


def runtime_folders(root: Path, user_id: int) -> None:
    """What /run holds from power-on: it is empty at each boot."""
    for path, owner, group, mode in (
        ("run/lock", 0, 0, 0o1777),
        ("run/sampan", 0, user_id, 0o750),
        ("run/user", 0, 0, 0o755),
        (f"run/user/{user_id}", user_id, user_id, 0o700),
        (f"run/user/{user_id}/podman", user_id, user_id, 0o700),
    ):
        folder = root / path
        folder.mkdir(exist_ok=True)
        os.chown(folder, owner, group)
        folder.chmod(mode)


def enter(root: Path) -> None:
    """Make `root` the file system's root, and share its mounts, so that what the porter mounts reaches the pods."""
    os.chdir(root)
    syscalls.pivot_root(".", ".")
    syscalls.unmount(".")
    os.chdir("/")
    syscalls.mount("", "/", flags=MS_REC | MS_SHARED)


def set_sysctls(user_id: int) -> None:
    # ping_group_range ends at the largest id that a container of this node may have.
    settings = {**SYSCTLS, "net/ipv4/ping_group_range": f"0 {min(user_id + NODE_IDS - 1, 2**31 - 1)}"}
    _write_all(settings.items())


def _write_all(settings: Iterable[tuple[str, str]]) -> None:
    for name, value in settings:
        with contextlib.suppress(FileNotFoundError):  # a kernel without bridge netfilter or IPv6
            Path("/proc/sys", name).write_text(value)
