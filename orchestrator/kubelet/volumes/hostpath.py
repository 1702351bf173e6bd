"""hostPath volumes: a path of the node, checked (or made) by the porter. Source: HostPathVolumeSource."""

from __future__ import annotations

from orchestrator.kubelet.porter import PorterFailure
from orchestrator.kubelet.volumes.volume import Mounted, Place, Volume, VolumeFailure


async def mount(volume: Volume, place: Place) -> Mounted:
    source = volume["hostPath"]
    kind = source.get("type") or ""
    if kind:
        try:
            await place.porter.ensure_path(place.key, source["path"], kind)
        except PorterFailure as error:
            raise VolumeFailure(str(error)) from error
    return Mounted(source["path"])
