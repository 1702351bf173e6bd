"""Paths of the node that a pod names (hostPath), and the removal of all that a pod leaves behind.

`path.ensure` checks what is there against the hostPath's type as root sees it, since folders may be root's alone, and
makes what an `…OrCreate` type asks for; of no type, a folder where nothing is.
Source: Kubernetes docs, "Volumes", hostPath types.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal

from orchestrator.api import meta
from orchestrator.porter import mounts, syscalls
from orchestrator.porter.pods import Pods
from orchestrator.porter.processes import IdMap
from orchestrator.porter.verbs import Answer, PodArguments, PorterError, Verb

HostPathType = Literal[
    "", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice", "BlockDevice"
]
TESTS: dict[str, tuple[Callable[[int], bool], str]] = {
    "Directory": (stat.S_ISDIR, "directory"),
    "DirectoryOrCreate": (stat.S_ISDIR, "directory"),
    "File": (stat.S_ISREG, "file"),
    "FileOrCreate": (stat.S_ISREG, "file"),
    "Socket": (stat.S_ISSOCK, "socket file"),
    "CharDevice": (stat.S_ISCHR, "character device"),
    "BlockDevice": (stat.S_ISBLK, "block device"),
}


class Ensure(PodArguments, frozen=True, kw_only=True):
    path: str
    type: HostPathType = ""


class Paths:
    """The verbs `path.ensure` and `pod.purge`. `release` undoes what other parts of the porter hold of a pod."""

    def __init__(self, pods_dir: Path, known: Pods, ids: IdMap, release: Callable[[str], Awaitable[None]]) -> None:
        self._root, self._pods, self._ids, self._release = pods_dir, known, ids, release

    def verbs(self) -> dict[str, Verb]:
        return {"path.ensure": Verb(Ensure, self.ensure), "pod.purge": Verb(PodArguments, self.purge)}

    async def ensure(self, wish: Ensure) -> Answer:
        pod = await self._pods.require(wish)
        volumes = (pod.get("spec") or {}).get("volumes") or ()
        if wish.path not in [(volume.get("hostPath") or {}).get("path") for volume in volumes]:
            raise PorterError(f"pod {meta.key(pod)} has no hostPath volume {wish.path}")
        await asyncio.to_thread(_ensure, Path(wish.path), wish.type, self._ids)
        return Answer({"path": wish.path})

    async def purge(self, wish: PodArguments) -> Answer:
        """Network, groups, mounts and files of a pod; needs no pod in the API, and none of them need be there."""
        await self._release(wish.uid)
        folder = self._root / wish.uid
        for point in reversed(mounts.beneath_folder(mounts.mount_points(), str(folder))):
            await asyncio.to_thread(syscalls.umount, point.path)
        if folder.is_symlink():
            folder.unlink()
        elif folder.exists():
            await asyncio.to_thread(shutil.rmtree, folder)
        return Answer()


def _ensure(path: Path, kind: str, ids: IdMap) -> None:
    if (kind.endswith("OrCreate") or not kind) and not path.exists():
        if kind != "FileOrCreate":
            path.mkdir(mode=0o755, parents=True, exist_ok=True)
        else:
            try:
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o644))
            except OSError as error:
                raise PorterError(f"{path}: {error.strerror}") from error
        os.chown(path, ids.user_id, ids.group_id, follow_symlinks=False)
    if not kind:
        return
    is_right, shown = TESTS[kind]
    try:
        mode = path.stat().st_mode
    except OSError:
        mode = 0
    if not is_right(mode):
        raise PorterError(f"hostPath type check failed: {path} is not a {shown}")
