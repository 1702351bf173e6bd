"""What nodes are made from, as a user sees it: both images built, and what the cache has of them."""

from __future__ import annotations

import os
from pathlib import Path

from infra.images import cache
from infra.images.tree import Progress
from infra.images.vm import vm_image

KINDS = {"node": "root tree of namespace nodes", "vm": "disk, kernel and initrd of VMs"}


def build(say: Progress) -> None:
    """The VM image is made from the node's tree, which is built first where it is not there."""
    vm_image(say)


def listed() -> list[dict[str, str]]:
    """Newest first within a kind: `image`, `size` (what it takes on the disk) and `place`."""
    return [
        {"image": what, "size": f"{size_bytes(place) / 1e6:.0f} MB", "place": str(place)}
        for kind, what in KINDS.items()
        for place in sorted(cache.folder().glob(f"{kind}-*"), key=lambda place: -place.stat().st_mtime)
    ]


def size_bytes(place: Path) -> int:
    """Of the files in it, each as many blocks as it has; a file with several names counts once."""
    files = {(status.st_dev, status.st_ino): status.st_blocks * 512 for status in _statuses(place)}
    return sum(files.values())


def _statuses(place: Path) -> list[os.stat_result]:
    return [path.lstat() for path in place.rglob("*")]
