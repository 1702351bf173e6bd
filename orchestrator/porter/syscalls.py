"""System calls that Python lacks: mount, umount2, mount_setattr, fsopen and its kin, and (before 3.12) setns.

Source: mount(2), umount(2), mount_setattr(2), fsopen(2), fsconfig(2), fsmount(2), move_mount(2), setns(2).
Errors: OSError with the kernel's errno.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC = 1, 2, 4, 8, 32, 4096, 16384
MS_SHARED, MS_SLAVE, MS_PRIVATE = 1 << 20, 1 << 19, 1 << 18
MNT_DETACH, UMOUNT_NOFOLLOW = 2, 8
CLONE_NEWNET = 0x40000000
AT_EMPTY_PATH, AT_RECURSIVE = 0x1000, 0x8000
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV, MOUNT_ATTR_IDMAP = 1, 2, 4, 0x00100000
# The same numbers on every architecture.
_SYS_MOVE_MOUNT, _SYS_FSOPEN, _SYS_FSCONFIG, _SYS_FSMOUNT, _SYS_MOUNT_SETATTR = 429, 430, 431, 432, 442
_FSOPEN_CLOEXEC, _FSMOUNT_CLOEXEC, _MOVE_MOUNT_F_EMPTY_PATH = 1, 1, 4
_SET_FLAG, _SET_STRING, _CMD_CREATE = 0, 1, 6
_AT_FDCWD = -100

_libc = ctypes.CDLL(None, use_errno=True)


class _MountAttr(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd")]


def _result(result: int, subject: str) -> int:
    _checked(result, subject)
    return result


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


def mount_file_system(
    kind: str, source: str, target: str, options: Sequence[str], attributes: int, users: int | None
) -> None:
    """Makes a file system and mounts it, in that order: `attributes` and the id mapping hold from the first moment.

    `options` are flags and key=value. `users` is a user namespace whose inner ids are those on the disk, and whose
    outer ones those that this machine shall see. The error carries what the file system had to say.
    """
    context = _result(_libc.syscall(_SYS_FSOPEN, kind.encode(), _FSOPEN_CLOEXEC), f"file system {kind}")
    try:
        _configure(context, _SET_STRING, "source", source)
        for option in options:
            key, given, value = option.partition("=")
            _configure(context, _SET_STRING if given else _SET_FLAG, key, value if given else None)
        _configure(context, _CMD_CREATE, None, None)
        mounted = _result(_libc.syscall(_SYS_FSMOUNT, context, _FSMOUNT_CLOEXEC, attributes), source)
        try:
            if users is not None:
                _set_attributes(mounted, _MountAttr(MOUNT_ATTR_IDMAP, 0, 0, users), source)
            moved = _libc.syscall(
                _SYS_MOVE_MOUNT, mounted, b"", _AT_FDCWD, target.encode(), ctypes.c_uint(_MOVE_MOUNT_F_EMPTY_PATH)
            )
            _checked(moved, target)
        finally:
            os.close(mounted)
    finally:
        os.close(context)


def _configure(context: int, command: int, key: str | None, value: str | None) -> None:
    arguments = [text.encode() if text is not None else None for text in (key, value)]
    if _libc.syscall(_SYS_FSCONFIG, context, command, *arguments, 0) < 0:
        number = ctypes.get_errno()
        raise OSError(number, _said(context) or os.strerror(number), value or key or "")


def _said(context: int) -> str:
    """The file system's own words, which it leaves at its descriptor."""
    try:
        return os.read(context, 4096).decode(errors="replace").partition(" ")[2].strip()
    except OSError:
        return ""


def _set_attributes(descriptor: int, attributes: _MountAttr, subject: str) -> None:
    size = ctypes.c_size_t(ctypes.sizeof(attributes))
    flags = ctypes.c_uint(AT_EMPTY_PATH)
    _checked(
        _libc.syscall(_SYS_MOUNT_SETATTR, descriptor, b"", flags, ctypes.byref(attributes), size),
        f"id mapping of {subject}",
    )


def setns(descriptor: int, kind: int) -> None:
    _checked(_libc.setns(descriptor, kind), f"namespace {descriptor}")
