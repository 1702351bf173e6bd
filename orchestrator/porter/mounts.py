"""Volumes that need a mount: tmpfs, NFS, bind. Each lies in the pod's own volume folder and nowhere else.

    <pods>/<uid>/volumes/kubernetes.io~<plugin>/<name>

What is mounted, and from where, must be what the pod's spec asks for under that volume name. The mount is done on a
descriptor of the folder, so that a link put in its place changes nothing. Mounting what is mounted and unmounting what
is not are no errors. Propagation: the node's root is shared, so Podman's mount namespace and new containers see it.
Source: mount(2); Kubernetes API reference, Volume.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct

from orchestrator.porter import beneath, pods, syscalls
from orchestrator.porter.pods import Pods
from orchestrator.porter.processes import IdMap
from orchestrator.porter.syscalls import MS_BIND, MS_NODEV, MS_NOSUID, MS_RDONLY, MS_REC
from orchestrator.porter.verbs import Answer, Label, PodArguments, PorterError, Verb

log = logging.getLogger(__name__)

Kind = Literal["tmpfs", "nfs", "bind"]
NFS_OPTION = re.compile(r"^[a-z0-9_]+(=[A-Za-z0-9_.:-]+)?$")
# tmpfs carries what the API server hands out, too: secrets, config maps, tokens.
IN_MEMORY = ("emptyDir", "secret", "configMap", "projected", "downwardAPI")
PLUGINS = {
    "emptyDir": "empty-dir",
    "secret": "secret",
    "configMap": "configmap",
    "projected": "projected",
    "downwardAPI": "downward-api",
    "nfs": "nfs",
    "hostPath": "host-path",
    "persistentVolumeClaim": "persistent-volume-claim",
}


class Mount(PodArguments, frozen=True, kw_only=True):
    name: Label
    kind: Kind
    source: str = ""
    size_bytes: int = 0  # 0: tmpfs' own half of the memory
    options: tuple[str, ...] = ()
    read_only: bool = False


class Unmount(PodArguments, frozen=True, kw_only=True):
    name: Label


class MountPoint(Struct, frozen=True):
    """A line of mountinfo: where, of what type, and of which device (`major:minor`)."""

    path: str
    kind: str
    device: str = ""


class Mounts:
    """The verbs `volume.mount` and `volume.unmount`."""

    def __init__(self, pods_dir: Path, known: Pods, ids: IdMap) -> None:
        self._root, self._pods, self._ids = pods_dir, known, ids

    def verbs(self) -> dict[str, Verb]:
        return {"volume.mount": Verb(Mount, self.mount), "volume.unmount": Verb(Unmount, self.unmount)}

    async def mount(self, wish: Mount) -> Answer:
        pod = await self._pods.require(wish)
        source_kind = check(wish, pods.volume(pod, wish.name))
        relative = f"{wish.uid}/volumes/kubernetes.io~{PLUGINS[source_kind]}/{wish.name}"
        path = f"{self._root}/{relative}"
        if path not in {point.path for point in mount_points()}:
            beneath.make_directories(str(self._root), relative, self._ids.user_id, self._ids.group_id)
            await asyncio.to_thread(self._mount_at, relative, wish)
            log.info("volume mounted", extra={"pod_uid": wish.uid, "volume": wish.name, "kind": wish.kind})
        return Answer({"path": path})

    async def unmount(self, wish: Unmount) -> Answer:
        """All that is mounted on the volume, the last first. Needs no pod in the API."""
        for point in reversed(beneath_folder(mount_points(), f"{self._root}/{wish.uid}/volumes")):
            parts = Path(point.path).relative_to(self._root).parts  # uid, volumes, plugin, name, …
            if len(parts) >= 4 and parts[3] == wish.name:
                await asyncio.to_thread(syscalls.umount, point.path)
        return Answer()

    def _mount_at(self, relative: str, wish: Mount) -> None:
        with beneath.opened(str(self._root), relative) as folder:
            target = f"/proc/self/fd/{folder}"
            if wish.kind == "tmpfs":
                _mount_tmpfs(target, wish, self._ids)
            elif wish.kind == "nfs":
                _mount_nfs(target, wish)
            else:
                _mount_bind(target, wish.source)
        if wish.read_only:
            syscalls.make_read_only(f"{self._root}/{relative}")


def check(wish: Mount, volume: Mapping[str, Any]) -> str:
    """The source field of the volume that the wish is for. PorterError where the pod does not ask for this."""
    kind = next((field for field in volume if field != "name"), "emptyDir")
    wanted = volume.get(kind) or {}
    if wish.kind == "tmpfs" and (kind in IN_MEMORY or kind == "persistentVolumeClaim"):
        return kind
    if wish.kind == "nfs" and kind == "persistentVolumeClaim":
        return kind
    if wish.kind == "nfs" and kind == "nfs":
        if wish.source == f"{wanted.get('server')}:{wanted.get('path')}":
            return kind
        raise PorterError(f"volume {wish.name!r} is of {wanted.get('server')}:{wanted.get('path')}, not {wish.source}")
    if wish.kind == "bind" and kind == "hostPath":
        if wish.source == wanted.get("path"):
            return kind
        raise PorterError(f"volume {wish.name!r} is of {wanted.get('path')}, not {wish.source}")
    if wish.kind == "bind" and kind == "persistentVolumeClaim":
        return kind
    raise PorterError(f"volume {wish.name!r} is of kind {kind}, which a {wish.kind} mount does not serve")


def _mount_tmpfs(target: str, wish: Mount, ids: IdMap) -> None:
    options = [f"mode={'0777' if not wish.options else wish.options[0]}", f"uid={ids.user_id}", f"gid={ids.group_id}"]
    if len(wish.options) > 1 or (wish.options and not re.fullmatch(r"[0-7]{3,4}", wish.options[0])):
        raise PorterError("a tmpfs takes one option, its mode in octal digits")
    if wish.size_bytes:
        options.append(f"size={wish.size_bytes}")
    syscalls.mount("tmpfs", target, "tmpfs", MS_NOSUID | MS_NODEV, ",".join(options))


def _mount_nfs(target: str, wish: Mount) -> None:
    """Without mount.nfs: version 4 needs the kernel only, given the server's address."""
    server, _, path = wish.source.rpartition(":/")
    if not server:
        raise PorterError(f"NFS source {wish.source!r} is not server:/path")
    for option in wish.options:
        if not NFS_OPTION.match(option):
            raise PorterError(f"NFS option {option!r} is not understood")
    try:
        address = str(socket.getaddrinfo(server.strip("[]"), 2049, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        raise PorterError(f"NFS server {server}: {error}") from error
    flags = MS_NOSUID | MS_NODEV | (MS_RDONLY if "ro" in wish.options else 0)
    wanted = [option for option in wish.options if option not in ("ro", "rw")]
    options = ["vers=4.2", *wanted, f"addr={address}", f"clientaddr={'::' if ':' in address else '0.0.0.0'}"]
    try:
        syscalls.mount(f"{server}:/{path}", target, "nfs4", flags, ",".join(options))
    except OSError as error:
        raise PorterError(f"NFS mount of {wish.source} failed: {error.strerror}") from error


def _mount_bind(target: str, source: str) -> None:
    try:
        descriptor = os.open(source, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        raise PorterError(f"{source}: {error.strerror}") from error
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise PorterError(f"{source} is not a directory")
        syscalls.mount(f"/proc/self/fd/{descriptor}", target, "", MS_BIND | MS_REC, "")
    finally:
        os.close(descriptor)


def mount_points() -> list[MountPoint]:
    """What is mounted in this mount namespace, in order of mounting. Source: proc_pid_mountinfo(5)."""
    return parse_mountinfo(Path("/proc/self/mountinfo").read_text())


def parse_mountinfo(text: str) -> list[MountPoint]:
    found = []
    for line in text.splitlines():
        fields, _, rest = line.partition(" - ")
        parts = fields.split()
        path = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), parts[4])
        found.append(MountPoint(path, rest.split()[0], parts[2]))
    return found


def beneath_folder(points: list[MountPoint], folder: str) -> list[MountPoint]:
    return [point for point in points if point.path.startswith(folder + "/")]
