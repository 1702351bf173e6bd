"""emptyDir volumes: a folder that lives as long as the pod, on disk or in memory. Source: EmptyDirVolumeSource."""

from __future__ import annotations

from orchestrator.api import quantity
from orchestrator.kubelet.volumes import memory
from orchestrator.kubelet.volumes.volume import Mounted, Place, Volume, VolumeFailure

MODE, GROUP_MODE = 0o777, 0o2777


async def mount(volume: Volume, place: Place) -> Mounted:
    source = volume["emptyDir"] or {}
    medium = source.get("medium") or ""
    name = volume["name"]
    folder = place.dirs.volume("empty-dir", name)
    if medium == "Memory":
        if not folder.is_mount():
            size = quantity.ceil(source["sizeLimit"]) if source.get("sizeLimit") else 0
            folder = await memory.folder(place, "empty-dir", name, size, "0777")
            await place.own_by_group(folder, mode=GROUP_MODE)
    elif medium == "":
        if not folder.exists():
            folder.mkdir(parents=True)
            folder.chmod(MODE)
            await place.own_by_group(folder, mode=GROUP_MODE)
    else:
        raise VolumeFailure(f"emptyDir medium {medium!r} is not supported on this node")
    return Mounted(str(folder))
