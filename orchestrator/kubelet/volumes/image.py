"""image volumes: the files of an OCI image, read only. The runtime mounts them; the image is pulled like a container's.

Source: KEP-4639, ImageVolumeSource.
"""

from __future__ import annotations

from orchestrator.kubelet.volumes.volume import Mounted, Place, Volume


async def mount(volume: Volume, place: Place) -> Mounted:
    return Mounted(volume["image"]["reference"], is_image=True, read_only=True)
