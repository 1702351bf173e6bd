"""A porter in memory, for tests: addresses are handed out in order, mounts are plain folders, ownership is recorded."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

from orchestrator.kubelet.dirs import Dirs
from orchestrator.kubelet.porter import CgroupStat, DiskMount, HostPort, NodeInfo, PodKey, PorterFailure
from orchestrator.kubelet.runtime.interface import Limits


class FakePorter:
    def __init__(self, dirs: Dirs) -> None:
        self._dirs = dirs
        self._serial = itertools.count(2)
        self.attached: dict[str, tuple[str, ...]] = {}
        self.mounts: dict[tuple[str, str], tuple[str, int]] = {}  # (pod uid, volume): kind and size
        self.owned: list[tuple[Path, int | None, int | None, int | None]] = []
        self.purged: list[str] = []
        self.disk_users: dict[str, set[str]] = {}  # handle: pod uids
        self.memory_bytes = 0  # that every container uses
        self.grown: dict[str, int] = {}  # handle: size

    async def node_info(self) -> NodeInfo:
        return NodeInfo(2, ("cpu", "memory", "pids"), is_network_ready=True)

    async def attach(self, pod: PodKey, pid: int, ports: tuple[HostPort, ...]) -> tuple[str, ...]:
        number = next(self._serial)
        self.attached[pod.uid] = (f"10.244.1.{number}", f"fd00:10:244:1::{number:x}")
        return self.attached[pod.uid]

    async def detach(self, pod: PodKey) -> None:
        self.attached.pop(pod.uid, None)

    async def mount(
        self, pod: PodKey, name: str, kind: str, source: str, size_bytes: int, options: tuple[str, ...]
    ) -> str:
        self.mounts[(pod.uid, name)] = (kind, size_bytes)
        folder = self._dirs.pod(pod.uid, pod.namespace, pod.name).volume(f"fake-{kind}", name)
        folder.mkdir(parents=True, exist_ok=True)
        return str(folder)

    async def unmount(self, pod: PodKey, name: str) -> None:
        self.mounts.pop((pod.uid, name), None)

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
        self.owned.append((path, user_id, group_id, mode))

    async def ensure_path(self, pod: PodKey, path: str, kind: str) -> None: ...

    async def mount_disk(self, pod: PodKey, name: str, disk: DiskMount) -> str:
        self.disk_users.setdefault(disk.handle, set()).add(pod.uid)
        folder = self._dirs.pod(pod.uid, pod.namespace, pod.name).volume("csi", name)
        folder.mkdir(parents=True, exist_ok=True)
        return str(folder)

    async def show_disk(self, pod: PodKey, name: str, handle: str, user_id: int, group_id: int) -> str:
        self.disk_users.setdefault(handle, set()).add(pod.uid)
        return f"/dev/{handle}"

    async def unmount_disks(self, pod: PodKey) -> None:
        for users in self.disk_users.values():
            users.discard(pod.uid)

    async def release_disk(self, handle: str) -> None:
        if self.disk_users.get(handle):
            raise PorterFailure(f"disk {handle} is in use")
        self.disk_users.pop(handle, None)

    async def grow_disk(self, handle: str, size_bytes: int) -> None:
        self.grown[handle] = size_bytes

    async def disks(self) -> dict[str, list[str]]:
        return {handle: sorted(users) for handle, users in self.disk_users.items()}

    async def purge(self, pod: PodKey) -> None:
        await self.unmount_disks(pod)
        self.purged.append(pod.uid)
        shutil.rmtree(self._dirs.pods / pod.uid, ignore_errors=True)

    async def enter_cgroup(self, pod: PodKey, container: str, pid: int, limits: Limits) -> None: ...

    async def limit_cgroup(self, pod: PodKey, container: str, limits: Limits) -> None: ...

    async def cgroup_stat(self, pod: PodKey, container: str) -> CgroupStat:
        return CgroupStat(memory_bytes=self.memory_bytes)

    async def remove_cgroup(self, pod: PodKey, container: str) -> None: ...
