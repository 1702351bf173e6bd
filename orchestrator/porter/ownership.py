"""Ownership of a volume's files: container ids become the host ids that the kubelet's user maps them to.

Files that a non-root container must read, and fsGroup, need a chown that an ordinary user may not do. Nothing is
followed: every entry is changed through a descriptor of its folder, links themselves included.
Source: Kubernetes docs, "Configure a Security Context", fsGroup; user_namespaces(7).
"""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

from orchestrator.porter import beneath
from orchestrator.porter.pods import Pods
from orchestrator.porter.processes import IdMap
from orchestrator.porter.verbs import Answer, PodArguments, PorterError, Verb

KEEP = -1


class Own(PodArguments, frozen=True, kw_only=True):
    """`path` is absolute and beneath the pod's folder. Ids are the container's; None keeps. `mode` is or-ed on files
    and directories when recursive (fsGroup widens), and set on the path itself otherwise. `if_differs`: nothing is done
    where the path itself has that group and mode already (fsGroupChangePolicy OnRootMismatch)."""

    path: str
    user_id: int | None = None
    group_id: int | None = None
    mode: int | None = None
    recursive: bool = False
    if_differs: bool = False


class Ownership:
    """The verb `volume.own`."""

    def __init__(self, pods_dir: Path, known: Pods, ids: IdMap) -> None:
        self._root, self._pods, self._ids = pods_dir, known, ids

    def verbs(self) -> dict[str, Verb]:
        return {"volume.own": Verb(Own, self.own)}

    async def own(self, wish: Own) -> Answer:
        await self._pods.require(wish)
        folder = f"{self._root}/{wish.uid}"
        relative = beneath.relative_to(wish.path, folder)
        uid = KEEP if wish.user_id is None else self._ids.host_uid(wish.user_id)
        gid = KEEP if wish.group_id is None else self._ids.host_gid(wish.group_id)
        if wish.mode is not None and not 0 <= wish.mode <= 0o7777:
            raise PorterError(f"mode {wish.mode:o} is none")
        if not (wish.if_differs and _has(folder, relative, gid, wish.mode or 0)):
            await asyncio.to_thread(_own, folder, relative, uid, gid, wish.mode, wish.recursive)
        return Answer()


def _has(folder: str, relative: str, gid: int, mode: int) -> bool:
    with beneath.opened(folder, relative, flags=os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC) as top:
        found = os.fstat(top)
    return found.st_gid == gid and stat.S_IMODE(found.st_mode) & mode == mode


def _own(folder: str, relative: str, uid: int, gid: int, mode: int | None, recursive: bool) -> None:
    with beneath.opened(folder, relative, flags=os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC) as top:
        is_directory = stat.S_ISDIR(os.fstat(top).st_mode)
        if not recursive or not is_directory:
            os.fchown(top, uid, gid)
            if mode is not None:
                os.fchmod(top, mode)
            return
        for _, directories, files, descriptor in os.fwalk(".", dir_fd=top, follow_symlinks=False):
            for name in [*directories, *files]:
                _own_entry(name, descriptor, uid, gid, mode)
        os.fchown(top, uid, gid)
        if mode is not None:
            os.fchmod(top, stat.S_IMODE(os.fstat(top).st_mode) | mode)


def _own_entry(name: str, folder: int, uid: int, gid: int, mode: int | None) -> None:
    """chown first: it takes set-id bits away, which the mode may give back."""
    os.chown(name, uid, gid, dir_fd=folder, follow_symlinks=False)
    if mode is None:
        return
    try:
        entry = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        return
    try:
        found = os.fstat(entry).st_mode
        if not stat.S_ISLNK(found):
            # A file gets no set-id and no execute bit by fsGroup; a folder gets both.
            added = mode if stat.S_ISDIR(found) else mode & 0o666
            os.chmod(f"/proc/self/fd/{entry}", stat.S_IMODE(found) | added)  # noqa: PTH101
    finally:
        os.close(entry)
