"""emptyDir volumes with a size limit: a pod that has written more than it may is evicted.

A volume on disk has no quota of its own; its size is looked at every few seconds, and only where there is a limit. (In
memory the mount itself has the limit.) Source: Kubernetes docs, "Local ephemeral storage", "Volumes", emptyDir.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from orchestrator.api import meta, quantity
from orchestrator.api.meta import Object
from orchestrator.kubelet import podspec
from orchestrator.kubelet.dirs import Dirs

LOOK_S = 10.0
Evict = Callable[[str, str], None]  # pod uid, message


def limited(pod: Object) -> Iterator[tuple[str, str]]:
    """(volume, limit) of the pod's volumes on disk that have one."""
    for volume in podspec.spec(pod).get("volumes") or ():
        source = volume.get("emptyDir") or {}
        if source.get("sizeLimit") and not source.get("medium"):
            yield volume["name"], str(source["sizeLimit"])


def size_bytes(folder: Path) -> int:
    """What the files below take on the disk; files that come and go meanwhile are passed over."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(root, name)).st_blocks * 512  # noqa: PTH118 (many files)
            except OSError:
                continue
    return total


async def run(pods: Callable[[], Iterable[Object]], dirs: Dirs, evict: Evict) -> None:
    while True:
        await asyncio.sleep(LOOK_S)
        for pod in list(pods()):
            for name, limit in limited(pod):
                used = await asyncio.to_thread(size_bytes, dirs.of(pod).volume("empty-dir", name))
                if used > quantity.ceil(limit):
                    evict(meta.uid(pod), f'Usage of EmptyDir volume "{name}" exceeds the limit "{limit}". ')
