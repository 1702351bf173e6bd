"""hostPath volumes: a path of the node, checked or made by the porter. One of no type that is not there is made too, a
folder, as container runtimes do for Kubernetes. Source: HostPathVolumeSource."""

from __future__ import annotations

from orchestrator.kubelet.porter import PorterFailure
from orchestrator.kubelet.volumes.volume import Mounted, Place, Volume, VolumeFailure


async def mount(volume: Volume, place: Place) -> Mounted:
    source = volume["hostPath"]
    try:
        await place.porter.ensure_path(place.key, source["path"], source.get("type") or "")
    except PorterFailure as error:
        raise VolumeFailure(str(error)) from error
    return Mounted(source["path"])
