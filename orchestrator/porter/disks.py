"""Disks as volumes of pods: mounted once a node, and bound into each pod that uses them.

    /run/sampan/disks/<handle>                                the file system, one mount of the node
    <pods>/<uid>/volumes/kubernetes.io~csi/<name>             a pod's own bind of it
    <pods>/<uid>/volumeDevices/kubernetes.io~csi/<handle>     the device itself, for a volume of mode Block

The mount is id-mapped (`idmapping.py`). What is mounted is read from the kernel, never remembered, so a porter that
starts again knows as much. A disk is let go only when no pod has it and the kernel holds nothing of it any more.
The handle is checked to be one of the lab's disks by its pattern, and is on this node only if a pod here uses it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import msgspec

from orchestrator.api.volumes import HANDLE_PATTERN
from orchestrator.porter import beneath, blockdevices, filesystems, idmapping, mounts, pods, syscalls
from orchestrator.porter.mounts import MountPoint
from orchestrator.porter.pods import Pods
from orchestrator.porter.processes import IdMap
from orchestrator.porter.syscalls import MOUNT_ATTR_NODEV, MOUNT_ATTR_NOSUID
from orchestrator.porter.verbs import Answer, Label, PodArguments, PorterError, Verb

log = logging.getLogger(__name__)

STAGED = Path("/run/sampan/disks")
PLUGIN = "kubernetes.io~csi"
CLAIMED = ("persistentVolumeClaim", "ephemeral")
OPTION_PATTERN = r"^[a-z0-9_]+(=[A-Za-z0-9_.:-]+)?$"

Handle = Annotated[str, msgspec.Meta(pattern=HANDLE_PATTERN)]
Option = Annotated[str, msgspec.Meta(pattern=OPTION_PATTERN)]


class MountDisk(PodArguments, frozen=True, kw_only=True):
    name: Label
    handle: Handle
    fs_type: str = "ext4"
    options: tuple[Option, ...] = ()
    read_only: bool = False


class ShowDisk(PodArguments, frozen=True, kw_only=True):
    """`user_id` and `group_id` are a container's: who may open the device."""

    name: Label
    handle: Handle
    user_id: int = 0
    group_id: int = 0


class DiskArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    handle: Handle


class GrowDisk(DiskArguments, frozen=True, kw_only=True):
    """`size_bytes`: what the disk has been given, and the kernel may still be about to learn."""

    size_bytes: int = 0


class NoArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The verb asks for nothing."""


class Disks:
    """The verbs `disk.…`."""

    def __init__(self, pods_dir: Path, known: Pods, ids: IdMap, staged: Path = STAGED) -> None:
        self._root, self._pods, self._ids, self._staged = pods_dir, known, ids, staged
        self._locks: dict[str, asyncio.Lock] = {}

    def verbs(self) -> dict[str, Verb]:
        return {
            "disk.mount": Verb(MountDisk, self.mount),
            "disk.show": Verb(ShowDisk, self.show),
            "disk.unmount": Verb(PodArguments, self.unmount),
            "disk.release": Verb(DiskArguments, self.release),
            "disk.grow": Verb(GrowDisk, self.grow),
            "disk.list": Verb(NoArguments, self.in_use),
        }

    # For a pod.

    async def mount(self, wish: MountDisk) -> Answer:
        await self._require(wish, wish.name)
        relative = f"{wish.uid}/volumes/{PLUGIN}/{wish.name}"
        path = f"{self._root}/{relative}"
        async with self._lock(wish.handle):
            await self._stage(wish)
            if path not in {point.path for point in mounts.mount_points()}:
                beneath.make_directories(str(self._root), relative, self._ids.user_id, self._ids.group_id)
                await asyncio.to_thread(self._bind, wish, relative)
                log.info("disk mounted", extra={"pod_uid": wish.uid, "volume": wish.name, "disk": wish.handle})
        return Answer({"path": path})

    async def _stage(self, wish: MountDisk) -> None:
        device = await blockdevices.appeared(wish.handle)
        place = self._staged / wish.handle
        found = _at(place)
        if found is not None and found.device != blockdevices.number(device):
            # The disk was taken away by force and came back as another device: the old mount is dead.
            await asyncio.to_thread(syscalls.umount, str(place))
            found = None
        if found is None:
            kind = await filesystems.prepare(device, wish.fs_type, read_only=wish.read_only)
            place.mkdir(parents=True, exist_ok=True)
            await asyncio.to_thread(self._mount_mapped, device, kind, place, wish.options)
            if kind == "xfs":
                await filesystems.grow(device, kind, str(place))  # it may have grown while it was nowhere mounted

    def _mount_mapped(self, device: Path, kind: str, place: Path, options: tuple[str, ...]) -> None:
        users = idmapping.user_namespace(self._ids)
        try:
            attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV
            syscalls.mount_file_system(kind, str(device), str(place), options, attributes, users)
        except OSError as error:
            raise PorterError(f"mount of {device} ({kind}) failed: {error.strerror}") from error
        finally:
            os.close(users)

    def _bind(self, wish: MountDisk, relative: str) -> None:
        with beneath.opened(str(self._root), relative) as folder:
            target = f"/proc/self/fd/{folder}"
            syscalls.mount(str(self._staged / wish.handle), target, "", syscalls.MS_BIND, "")
        if wish.read_only:
            syscalls.make_read_only(f"{self._root}/{relative}")

    async def show(self, wish: ShowDisk) -> Answer:
        """A device node of the pod's own, which its containers may open."""
        await self._require(wish, wish.name)
        relative = f"{wish.uid}/volumeDevices/{PLUGIN}"
        owner, group = self._ids.host_uid(wish.user_id), self._ids.host_gid(wish.group_id)
        async with self._lock(wish.handle):
            device = await blockdevices.appeared(wish.handle)
            beneath.make_directories(str(self._root), relative, self._ids.user_id, self._ids.group_id)
            with beneath.opened(str(self._root), relative) as folder:
                _make_device(wish.handle, device.stat().st_rdev, folder, owner, group)
        return Answer({"path": f"{self._root}/{relative}/{wish.handle}"})

    async def _require(self, wish: PodArguments, name: str) -> None:
        pod = await self._pods.require(wish)
        volume = pods.volume(pod, name)
        if not any(kind in volume for kind in CLAIMED):
            raise PorterError(f"volume {name!r} has no claim, and so no disk")

    async def unmount(self, wish: PodArguments) -> Answer:
        """All disks of a pod. Needs no pod in the API."""
        for point in reversed(mounts.beneath_folder(mounts.mount_points(), f"{self._root}/{wish.uid}/volumes")):
            if Path(point.path).parent.name == PLUGIN:
                await asyncio.to_thread(syscalls.umount, point.path)
        for node in self._shown(wish.uid):
            node.unlink(missing_ok=True)
        return Answer()

    # For the node.

    async def release(self, wish: DiskArguments) -> Answer:
        """Ends a disk's use on this node; what was written is on the disk when this returns."""
        async with self._lock(wish.handle):
            if users := self._users().get(wish.handle):
                raise PorterError(f"disk {wish.handle} is in use by pod {', '.join(sorted(users))}")
            place = self._staged / wish.handle
            while _at(place) is not None:
                await asyncio.to_thread(syscalls.umount, str(place))
            device = blockdevices.find(wish.handle)
            if device is not None:
                await blockdevices.let_go(device)
            if place.is_dir():
                place.rmdir()
                log.info("disk released", extra={"disk": wish.handle})
        return Answer()

    async def grow(self, wish: GrowDisk) -> Answer:
        async with self._lock(wish.handle):
            device = await blockdevices.appeared(wish.handle)
            size = await blockdevices.grown(device, wish.size_bytes)
            place = self._staged / wish.handle
            if (found := _at(place)) is not None:
                await filesystems.grow(device, found.kind, str(place))
        log.info("disk grown", extra={"disk": wish.handle, "size_bytes": size})
        return Answer({"size_bytes": size})

    async def in_use(self, _: NoArguments) -> Answer:
        """Every disk that is mounted here, or shown to a pod, with the uids of the pods that have it."""
        return Answer({"disks": {handle: sorted(users) for handle, users in sorted(self._users().items())}})

    def _users(self) -> dict[str, set[str]]:
        points = mounts.mount_points()
        staged = {point.device: Path(point.path).name for point in points if _is_in(point, self._staged)}
        users: dict[str, set[str]] = {handle: set() for handle in staged.values()}
        for point in mounts.beneath_folder(points, str(self._root)):
            parts = Path(point.path).relative_to(self._root).parts  # uid, volumes, plugin, name
            if point.device in staged and len(parts) == 4 and parts[2] == PLUGIN:
                users[staged[point.device]].add(parts[0])
        for node in self._shown("*"):
            users.setdefault(node.name, set()).add(node.parents[2].name)
        return users

    def _shown(self, uid: str) -> list[Path]:
        return sorted(self._root.glob(f"{uid}/volumeDevices/{PLUGIN}/*"))

    def _lock(self, handle: str) -> asyncio.Lock:
        return self._locks.setdefault(handle, asyncio.Lock())


def _make_device(name: str, number: int, folder: int, owner: int, group: int) -> None:
    """The folder is the kubelet's user's: what is given away is what was made, whatever has its name by then."""
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)
    os.mknod(name, stat.S_IFBLK | 0o600, number, dir_fd=folder)
    made = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        found = os.fstat(made)
        if not stat.S_ISBLK(found.st_mode) or found.st_rdev != number or found.st_uid != 0:
            raise PorterError(f"{name} is not the device that was made")
        path = f"/proc/self/fd/{made}"
        os.chown(path, owner, group)
        os.chmod(path, 0o660)  # noqa: PTH101
    finally:
        os.close(made)


def _is_in(point: MountPoint, folder: Path) -> bool:
    return Path(point.path).parent == folder


def _at(place: Path) -> MountPoint | None:
    """The uppermost mount at a place."""
    return next((point for point in reversed(mounts.mount_points()) if point.path == str(place)), None)
