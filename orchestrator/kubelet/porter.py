"""Client of the porter, the node's one privileged daemon: what a pod needs that its user may not do.

One JSON object a line each way over a unix socket, one connection a request (requests of different pods run side by
side, and one that hangs hangs alone). The porter checks every argument against the pods of this node.
Errors: PorterFailure with the porter's words; it is also raised where the porter cannot be reached, for a worker tries
again in both cases.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import orjson
from msgspec import Struct
from msgspec.structs import asdict

from orchestrator.kubelet.runtime.interface import Limits

ANSWER_MAX_BYTES = 2**20
TIMEOUT_S = 60.0
LIFTED = -1
DISK_TIMEOUT_S = 360.0  # a large disk may have to be formatted or repaired


class PorterFailure(Exception):
    """The porter refused, failed or did not answer."""


class PodKey(Struct, frozen=True):
    """Which pod a request is about."""

    uid: str
    namespace: str
    name: str


class HostPort(Struct, frozen=True):
    host_port: int
    container_port: int
    protocol: str = "TCP"
    host_ip: str = ""


class NodeInfo(Struct, frozen=True):
    cgroup_version: int
    enforces: tuple[str, ...]  # of "cpu", "memory", "pids"
    is_network_ready: bool = False


class CgroupStat(Struct, frozen=True):
    cpu_usage_ns: int = 0
    memory_bytes: int = 0
    working_set_bytes: int = 0
    oom_kills: int = 0
    pids: int = 0


class DiskMount(Struct, frozen=True, kw_only=True):
    """A disk by its handle, and how its file system is to be mounted (and made, on a blank one)."""

    handle: str
    fs_type: str
    options: tuple[str, ...] = ()
    read_only: bool = False


class Porter(Protocol):
    async def node_info(self) -> NodeInfo: ...

    async def attach(self, pod: PodKey, pid: int, ports: tuple[HostPort, ...]) -> tuple[str, ...]:
        """Gives the network namespace of a process its addresses: one of each family, the first is the pod's."""
        ...

    async def detach(self, pod: PodKey) -> None: ...

    async def mount(
        self, pod: PodKey, name: str, kind: str, source: str, size_bytes: int, options: tuple[str, ...]
    ) -> str:
        """Where the volume is mounted on the node."""
        ...

    async def unmount(self, pod: PodKey, name: str) -> None: ...

    async def own(
        self,
        pod: PodKey,
        path: Path,
        *,
        user_id: int | None,
        group_id: int | None,
        mode: int | None,
        recursive: bool,
        is_lazy: bool = False,
    ) -> None:
        """Gives a path to ids as containers see them; `is_lazy`: all of it only if the path itself has others."""
        ...

    async def ensure_path(self, pod: PodKey, path: str, kind: str) -> None:
        """Checks, or for `…OrCreate` makes, a path of the node that a hostPath volume names."""
        ...

    async def mount_disk(self, pod: PodKey, name: str, disk: DiskMount) -> str:
        """Where the pod's volume of that name is, with the disk's file system in it."""
        ...

    async def show_disk(self, pod: PodKey, name: str, handle: str, user_id: int, group_id: int) -> str:
        """A device that containers of the pod, running as those ids, may open."""
        ...

    async def unmount_disks(self, pod: PodKey) -> None:
        """Takes the pod's disks from it; they stay mounted on the node until released."""
        ...

    async def release_disk(self, handle: str) -> None:
        """Ends the disk's use on this node. PorterFailure while anything has it."""
        ...

    async def grow_disk(self, handle: str, size_bytes: int) -> None:
        """Lets the file system fill the disk, which has, or is about to have, that size."""
        ...

    async def disks(self) -> dict[str, list[str]]:
        """The disks in use on this node: handle → uids of the pods that have it."""
        ...

    async def purge(self, pod: PodKey) -> None:
        """Removes what is left of a pod's folders, whoever owns it."""
        ...

    async def enter_cgroup(self, pod: PodKey, container: str, pid: int, limits: Limits) -> None:
        """Moves a process that has not begun into a new control group with these limits."""
        ...

    async def limit_cgroup(self, pod: PodKey, container: str, limits: Limits) -> None:
        """Sets the limits of a group anew; what has none is lifted."""
        ...

    async def cgroup_stat(self, pod: PodKey, container: str) -> CgroupStat: ...

    async def remove_cgroup(self, pod: PodKey, container: str) -> None: ...


class SocketPorter:
    """The porter behind its socket."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    async def call(self, verb: str, arguments: Mapping[str, Any], timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
        try:
            async with asyncio.timeout(timeout_s):
                line = await self._exchange(orjson.dumps({"verb": verb, **arguments}) + b"\n")
            answer = orjson.loads(line)
        except TimeoutError as error:
            raise PorterFailure(f"porter did not answer {verb} within {timeout_s:.0f} s") from error
        except (OSError, ValueError, asyncio.IncompleteReadError) as error:
            raise PorterFailure(f"porter cannot be asked for {verb}: {error}") from error
        if not answer.get("ok"):
            raise PorterFailure(str(answer.get("error") or "refused"))
        found: dict[str, Any] = answer.get("result") or {}
        return found

    async def _exchange(self, request: bytes) -> bytes:
        reader, writer = await asyncio.open_unix_connection(str(self._socket), limit=ANSWER_MAX_BYTES)
        try:
            writer.write(request)
            await writer.drain()
            return await reader.readuntil(b"\n")
        finally:
            writer.close()

    async def node_info(self) -> NodeInfo:
        found = await self.call("node.info", {})
        version, enforces = int(found.get("cgroup_version") or 0), tuple(found.get("enforces") or ())
        return NodeInfo(version, enforces, bool(found.get("network_ready")))

    async def attach(self, pod: PodKey, pid: int, ports: tuple[HostPort, ...]) -> tuple[str, ...]:
        listed = [
            {
                "hostPort": port.host_port,
                "containerPort": port.container_port,
                "protocol": port.protocol,
                "hostIP": port.host_ip,
            }
            for port in ports
        ]
        named = {"uid": pod.uid, "namespace": pod.namespace, "name": pod.name}
        return tuple((await self.call("pod.attach", {**named, "pid": pid, "ports": listed}))["ips"])

    async def detach(self, pod: PodKey) -> None:
        await self.call("pod.detach", {"uid": pod.uid, "namespace": pod.namespace, "name": pod.name})

    async def mount(
        self, pod: PodKey, name: str, kind: str, source: str, size_bytes: int, options: tuple[str, ...]
    ) -> str:
        wanted = {"name": name, "kind": kind, "source": source, "size_bytes": size_bytes, "options": list(options)}
        return str((await self.call("volume.mount", _about(pod) | wanted))["path"])

    async def unmount(self, pod: PodKey, name: str) -> None:
        await self.call("volume.unmount", _about(pod) | {"name": name})

    async def own(
        self,
        pod: PodKey,
        path: Path,
        *,
        user_id: int | None,
        group_id: int | None,
        mode: int | None,
        recursive: bool,
        is_lazy: bool = False,
    ) -> None:
        wanted = {"path": str(path), "user_id": user_id, "group_id": group_id, "mode": mode, "recursive": recursive}
        given = {field: value for field, value in wanted.items() if value is not None}
        given |= {"if_differs": True} if is_lazy else {}
        await self.call("volume.own", _about(pod) | given)

    async def ensure_path(self, pod: PodKey, path: str, kind: str) -> None:
        await self.call("path.ensure", _about(pod) | {"path": path, "type": kind})

    async def mount_disk(self, pod: PodKey, name: str, disk: DiskMount) -> str:
        wanted = {"name": name, **asdict(disk)}
        return str((await self.call("disk.mount", _about(pod) | wanted, DISK_TIMEOUT_S))["path"])

    async def show_disk(self, pod: PodKey, name: str, handle: str, user_id: int, group_id: int) -> str:
        wanted = {"name": name, "handle": handle, "user_id": user_id, "group_id": group_id}
        return str((await self.call("disk.show", _about(pod) | wanted))["path"])

    async def unmount_disks(self, pod: PodKey) -> None:
        await self.call("disk.unmount", _about(pod))

    async def release_disk(self, handle: str) -> None:
        await self.call("disk.release", {"handle": handle})

    async def grow_disk(self, handle: str, size_bytes: int) -> None:
        await self.call("disk.grow", {"handle": handle, "size_bytes": size_bytes}, DISK_TIMEOUT_S)

    async def disks(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = (await self.call("disk.list", {}))["disks"]
        return found

    async def purge(self, pod: PodKey) -> None:
        await self.call("pod.purge", _about(pod))

    async def enter_cgroup(self, pod: PodKey, container: str, pid: int, limits: Limits) -> None:
        named = _about(pod) | {"container": container}
        given = {field: value for field, value in asdict(limits).items() if value}
        await self.call("cgroup.create", named | {"limits": given})
        await self.call("cgroup.enter", named | {"pid": pid})

    async def limit_cgroup(self, pod: PodKey, container: str, limits: Limits) -> None:
        lifted = {field: value or LIFTED for field, value in asdict(limits).items()}
        await self.call("cgroup.update", _about(pod) | {"container": container, "limits": lifted})

    async def cgroup_stat(self, pod: PodKey, container: str) -> CgroupStat:
        found = await self.call("cgroup.stat", _about(pod) | {"container": container})
        return CgroupStat(**{field: int(found.get(field) or 0) for field in CgroupStat.__struct_fields__})

    async def remove_cgroup(self, pod: PodKey, container: str) -> None:
        await self.call("cgroup.remove", _about(pod) | {"container": container})


def _about(pod: PodKey) -> dict[str, Any]:
    return {"uid": pod.uid} | ({"pod": f"{pod.namespace}/{pod.name}"} if pod.name else {})
