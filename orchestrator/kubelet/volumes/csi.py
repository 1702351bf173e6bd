"""csi volumes of the lab's own driver: a disk, attached by the controllers, mounted (or shown, in mode Block) by the
porter. No other driver runs on this node. Source: CSIPersistentVolumeSource; the kubelet's CSI plugin.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from orchestrator.api import volumes
from orchestrator.api.meta import Object
from orchestrator.api.status import Conflict
from orchestrator.kubelet import podspec, securitycontext
from orchestrator.kubelet.disks import NotAttached
from orchestrator.kubelet.porter import DiskMount
from orchestrator.kubelet.volumes.volume import Mounted, Place, VolumeFailure

FS_TYPE = "ext4"
GROUP_MODE = 0o2770  # fsGroup: files become 0660 at least, folders 2770


async def mount(claim: Object, persistent: Object, name: str, place: Place, *, read_only: bool) -> Mounted:
    spec: Mapping[str, Any] = persistent["spec"]
    source = spec["csi"]
    if source["driver"] != volumes.DISK_DRIVER:
        raise VolumeFailure(f"driver name {source['driver']} not found in the list of registered CSI drivers")
    try:
        await place.disks.claim(place.key.uid, source["volumeHandle"])
    except NotAttached as error:
        raise VolumeFailure(
            f"Unable to attach or mount volumes: unmounted volumes=[{name}], unattached volumes=[{name}], failed to "
            f"process volumes=[]: {error}"
        ) from error
    if spec.get("volumeMode") == "Block":
        user_id = securitycontext.common_user(place.pod) or 0
        path = await place.porter.show_disk(place.key, name, source["volumeHandle"], user_id, place.fs_group or 0)
        mounted = Mounted(path, is_device=True, read_only=read_only)
    else:
        mounted = await _mount_file_system(spec, name, place, read_only=read_only)
    with suppress(Conflict):  # it is looked at again and again, anyway
        await place.disks.grow(claim, persistent, place.pod)
    return mounted


async def _mount_file_system(spec: Mapping[str, Any], name: str, place: Place, *, read_only: bool) -> Mounted:
    source = spec["csi"]
    read_only = read_only or bool(source.get("readOnly"))
    disk = DiskMount(
        handle=source["volumeHandle"],
        fs_type=source.get("fsType") or FS_TYPE,
        options=tuple(spec.get("mountOptions") or ()),
        read_only=read_only,
    )
    path = await place.porter.mount_disk(place.key, name, disk)
    if not read_only and place.fs_group is not None:
        policy = (podspec.spec(place.pod).get("securityContext") or {}).get("fsGroupChangePolicy")
        await place.own_by_group(Path(path), mode=GROUP_MODE, is_lazy=policy == "OnRootMismatch")
    return Mounted(path, read_only=read_only)
