"""Volumes made of files that the kubelet writes: chosen keys, modes, ownership, and one atomic change.

With an fsGroup the files belong to that group and it may read them. A file of one user (`owner`, a service account
token's) is given to it by the porter before anyone sees it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from orchestrator.kubelet.volumes import atomicwriter
from orchestrator.kubelet.volumes.atomicwriter import File, Payload, PayloadError
from orchestrator.kubelet.volumes.volume import Mounted, Place, VolumeFailure

DEFAULT_MODE = 0o644
GROUP_READ = 0o440


def chosen(
    data: Mapping[str, bytes],
    items: Iterable[Mapping[str, Any]] | None,
    default_mode: int,
    *,
    missing: str,
    optional: bool,
) -> dict[str, File]:
    """All keys, or those that `items` names, at their paths. `missing` is how a key that is not there is told."""
    if not items:
        return {key: File(value, default_mode) for key, value in data.items()}
    found: dict[str, File] = {}
    for item in items:
        if item["key"] not in data:
            if optional:
                continue
            raise VolumeFailure(f"{missing}: {item['key']}")
        mode = item.get("mode")
        found[item["path"]] = File(data[item["key"]], default_mode if mode is None else mode)
    return found


async def write(place: Place, folder: Path, payload: Payload, owner: int | None = None) -> Mounted:
    if place.fs_group is not None:
        payload = {path: replace(file, mode=file.mode | GROUP_READ) for path, file in payload.items()}
    try:
        if not atomicwriter.is_written(folder, payload):
            staged = atomicwriter.stage(folder, payload, place.clock.now())
            if owner is not None:
                await place.porter.own(
                    place.key, staged, user_id=owner, group_id=place.fs_group, mode=None, recursive=True
                )
            else:
                await place.own_by_group(staged)
            atomicwriter.publish(folder, staged, payload)
    except PayloadError as error:
        raise VolumeFailure(str(error)) from error
    return Mounted(str(folder), read_only=True)
