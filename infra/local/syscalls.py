"""The Linux calls that a namespace node is made of and that Python 3.11 does not have: mounts, namespaces, pivot_root.

Thin: names and flags are the kernel's (mount(2), mount_setattr(2), setns(2), unshare(2)); every failure is an OSError
that names the call's path. x86-64 and arm64 share the numbers of the calls that libc does not wrap.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC = 32, 4096, 16384
MS_PRIVATE, MS_SLAVE, MS_SHARED = 1 << 18, 1 << 19, 1 << 20
MNT_DETACH = 2

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS = 0x00020000, 0x02000000, 0x04000000
CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x08000000, 0x10000000, 0x20000000, 0x40000000

PR_SET_PDEATHSIG, PR_SET_NAME, PR_SET_CHILD_SUBREAPER = 1, 15, 36

_AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE = -100, 0x1000, 0x8000
_OPEN_TREE_CLONE, _MOVE_MOUNT_F_EMPTY_PATH = 1, 4
_MOUNT_ATTR_RDONLY, _MOUNT_ATTR_IDMAP = 1, 0x00100000
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}[os.uname().machine]
_SYS_OPEN_TREE, _SYS_MOVE_MOUNT, _SYS_MOUNT_SETATTR = 428, 429, 442

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return result


def mount(source: str, target: str | Path, kind: str = "", flags: int = 0, data: str = "") -> None:
    result = _libc.mount(
        source.encode(), str(target).encode(), kind.encode() or None, ctypes.c_ulong(flags), data.encode() or None
    )
    _checked(result, f"mount {kind or source} on {target}")


def bind(source: str | Path, target: str | Path, *, recursive: bool = False, read_only: bool = False) -> None:
    mount(str(source), target, flags=MS_BIND | (MS_REC if recursive else 0))
    if read_only:
        mount("", target, flags=MS_BIND | MS_REMOUNT | MS_RDONLY)


def unmount(target: str | Path) -> None:
    _checked(_libc.umount2(str(target).encode(), MNT_DETACH), f"umount {target}")


def pivot_root(new: str | Path, old: str | Path) -> None:
    _checked(_libc.syscall(_SYS_PIVOT_ROOT, str(new).encode(), str(old).encode()), f"pivot_root {new}")


def unshare(flags: int) -> None:
    _checked(_libc.unshare(flags), f"unshare {flags:#x}")


def setns(descriptor: int, flags: int) -> None:
    _checked(_libc.setns(descriptor, flags), f"setns {flags:#x}")


def prctl(option: int, value: int | bytes) -> None:
    argument = ctypes.c_char_p(value) if isinstance(value, bytes) else ctypes.c_ulong(value)
    _checked(_libc.prctl(option, argument, 0, 0, 0), f"prctl {option}")


class _MountAttr(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd")]


def copy_mount(source: str | Path) -> int:
    """A descriptor of a copy of what is mounted at `source`, attached nowhere yet (open_tree(2))."""
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC
    return _checked(_libc.syscall(_SYS_OPEN_TREE, _AT_FDCWD, str(source).encode(), flags), f"open_tree {source}")


def attach_mount(copy: int, target: str | Path) -> None:
    """In the mount namespace that the caller is in by now (move_mount(2))."""
    moved = _libc.syscall(_SYS_MOVE_MOUNT, copy, b"", _AT_FDCWD, str(target).encode(), _MOVE_MOUNT_F_EMPTY_PATH)
    _checked(moved, f"move_mount to {target}")


def bind_mapped(source: str | Path, target: str | Path, userns: int, *, read_only: bool) -> None:
    """Bind `source` so that its owners appear as the user namespace maps them (mount_setattr(2), MOUNT_ATTR_IDMAP)."""
    tree = copy_mount(source)
    try:
        wanted = _MountAttr(_MOUNT_ATTR_IDMAP | (_MOUNT_ATTR_RDONLY if read_only else 0), 0, 0, userns)
        _checked(
            _libc.syscall(_SYS_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH, ctypes.byref(wanted), ctypes.sizeof(wanted)),
            f"mount_setattr idmap of {source}",
        )
        attach_mount(tree, target)
    finally:
        os.close(tree)


def user_namespace(mappings: Sequence[tuple[int, int, int]]) -> int:
    """A descriptor of a new user namespace with these (inside, outside, count) mappings for users and groups alike.

    The namespace needs a process only while it is made; the descriptor keeps it.
    """
    ready, told = os.pipe()
    done, finish = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            unshare(CLONE_NEWUSER)
            os.write(told, b"1")
            os.close(finish)
            os.read(done, 1)
        finally:
            os._exit(0)
    os.close(told)
    os.close(done)
    try:
        if os.read(ready, 1) != b"1":
            raise OSError("a user namespace could not be made: is user.max_user_namespaces 0 on this machine?")
        lines = "".join(f"{inside} {outside} {count}\n" for inside, outside, count in mappings)
        for kind in ("uid", "gid"):
            Path(f"/proc/{child}/{kind}_map").write_text(lines)
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(ready)
        os.close(finish)
        os.waitpid(child, 0)
