"""nfs volumes: mounted by the porter. Source: NFSVolumeSource."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.kubelet.volumes.volume import Mounted, Place, Volume


async def mount(volume: Volume, place: Place, options: Iterable[str] = ()) -> Mounted:
    source = volume["nfs"]
    read_only = bool(source.get("readOnly"))
    wanted = (*options, "ro") if read_only else tuple(options)
    remote = f"{source['server']}:{source['path']}"
    path = await place.porter.mount(place.key, volume["name"], "nfs", remote, 0, wanted)
    return Mounted(path, read_only=read_only)
