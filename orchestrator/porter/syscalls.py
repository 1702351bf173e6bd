"""System calls that Python lacks: mount, umount2, mount_setattr and (before 3.12) setns.

Source: mount(2), umount(2), mount_setattr(2), setns(2). Errors: OSError with the kernel's errno.
"""

from __future__ import annotations

import ctypes
import os

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC = 1, 2, 4, 8, 32, 4096, 16384
MS_SHARED, MS_SLAVE, MS_PRIVATE = 1 << 20, 1 << 19, 1 << 18
MNT_DETACH, UMOUNT_NOFOLLOW = 2, 8
CLONE_NEWNET = 0x40000000
AT_EMPTY_PATH, AT_RECURSIVE = 0x1000, 0x8000
MOUNT_ATTR_RDONLY = 1
_SYS_MOUNT_SETATTR = 442  # the same number on every architecture

_libc = ctypes.CDLL(None, use_errno=True)


class _MountAttr(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd")]


def _checked(result: int, subject: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), subject)


def mount(source: str, target: str, kind: str, flags: int, data: str) -> None:
    arguments = [text.encode() if text else None for text in (source, target, kind)]
    _checked(_libc.mount(*arguments, ctypes.c_ulong(flags), data.encode() or None), target)


def umount(target: str) -> None:
    """Lazily: the mount leaves the tree at once, and goes when its last user does."""
    _checked(_libc.umount2(target.encode(), MNT_DETACH | UMOUNT_NOFOLLOW), target)


def make_read_only(target: str) -> None:
    """The whole tree of mounts at `target`, submounts included."""
    attributes = _MountAttr(MOUNT_ATTR_RDONLY, 0, 0, 0)
    size = ctypes.c_size_t(ctypes.sizeof(attributes))
    result = _libc.syscall(
        _SYS_MOUNT_SETATTR, -100, target.encode(), ctypes.c_uint(AT_RECURSIVE), ctypes.byref(attributes), size
    )
    _checked(result, target)


def setns(descriptor: int, kind: int) -> None:
    _checked(_libc.setns(descriptor, kind), f"namespace {descriptor}")
