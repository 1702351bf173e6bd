"""Limits of containers on hosts with cgroup v1, which rootless Podman cannot set there; nothing to do on v2.

    <hierarchy of memory, cpu, cpuacct, pids>/<parent>/pod<uid>/<container>

The hierarchies are found where the node's mount namespace has them. The kubelet makes the group before a container
starts and enters the container's process, which then lives in it with all its children. Container "" is the pod itself.
On v2 Podman sets the limits; `node.info` says which of both it is, so that a kubelet never believes in limits nobody
holds. Units: bytes, microseconds, nanoseconds. Source: kernel docs, cgroup-v1 memory, cpuacct, pids; cgroup-v2.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Struct

from orchestrator.porter import processes
from orchestrator.porter.pods import Pods
from orchestrator.porter.processes import IdMap
from orchestrator.porter.verbs import LABEL_PATTERN, Answer, PodArguments, PorterError, Verb

CONTROLLERS = ("memory", "cpu", "cpuacct", "pids")
ContainerName = Annotated[str, msgspec.Meta(pattern=f"^$|{LABEL_PATTERN}")]


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """None leaves a limit as it is; -1 lifts it."""

    memory_bytes: int | None = None
    cpu_quota_us: int | None = None
    cpu_period_us: int | None = None
    cpu_shares: int | None = None
    pids: int | None = None


class Group(PodArguments, frozen=True, kw_only=True):
    container: ContainerName = ""


class LimitedGroup(Group, frozen=True, kw_only=True):
    limits: Limits = Limits()


class Enter(Group, frozen=True, kw_only=True):
    pid: int


class Hierarchies(Struct, frozen=True):
    """Mount points by controller; empty where v1 has none of ours."""

    v1: Mapping[str, Path]
    has_v2: bool

    @property
    def version(self) -> int:
        return 1 if "memory" in self.v1 or not self.has_v2 else 2


def parse_hierarchies(mountinfo: str) -> Hierarchies:
    """A later mount of the same controller lies on top. Source: proc_pid_mountinfo(5)."""
    v1: dict[str, Path] = {}
    has_v2 = False
    for line in mountinfo.splitlines():
        fields, _, rest = line.partition(" - ")
        kind, _, options = rest.split(" ", 2)
        has_v2 = has_v2 or kind == "cgroup2"
        if kind == "cgroup":
            v1 |= {name: Path(fields.split()[4]) for name in options.split(",") if name in CONTROLLERS}
    return Hierarchies(v1, has_v2)


def writes(limits: Limits) -> list[tuple[str, str, str]]:
    """(controller, file, value) in an order that the kernel takes."""
    wanted = [
        ("memory", "memory.limit_in_bytes", limits.memory_bytes),
        ("cpu", "cpu.cfs_period_us", limits.cpu_period_us),
        ("cpu", "cpu.cfs_quota_us", limits.cpu_quota_us),
        ("cpu", "cpu.shares", limits.cpu_shares),
        ("pids", "pids.max", limits.pids),
    ]
    return [
        (controller, file, "max" if (file, value) == ("pids.max", -1) else str(value))
        for controller, file, value in wanted
        if value is not None
    ]


class Cgroups:
    """The verbs `cgroup.*`."""

    def __init__(self, hierarchies: Hierarchies, parent: str, known: Pods, ids: IdMap) -> None:
        self._hierarchies, self._parent, self._pods, self._ids = hierarchies, parent.strip("/"), known, ids

    def verbs(self) -> dict[str, Verb]:
        return {
            "cgroup.create": Verb(LimitedGroup, self.create),
            "cgroup.update": Verb(LimitedGroup, self.update),
            "cgroup.enter": Verb(Enter, self.enter),
            "cgroup.stat": Verb(Group, self.stat),
            "cgroup.remove": Verb(Group, self.remove),
        }

    def enforces(self) -> list[str]:
        """The controllers by which the porter holds limits."""
        return [name for name, root in self._hierarchies.v1.items() if os.access(root, os.W_OK)]

    @property
    def version(self) -> int:
        return self._hierarchies.version

    async def create(self, wish: LimitedGroup) -> Answer:
        await self._pods.require(wish)
        self._must_enforce()
        for folder in self._folders(wish).values():
            folder.mkdir(parents=True, exist_ok=True)
        self._limit(wish)
        return Answer()

    async def update(self, wish: LimitedGroup) -> Answer:
        await self._pods.require(wish)
        self._must_enforce()
        self._limit(wish)
        return Answer()

    async def enter(self, wish: Enter) -> Answer:
        await self._pods.require(wish)
        self._must_enforce()
        processes.check_owned(wish.pid, self._ids)
        for folder in self._folders(wish).values():
            self._write(folder / "cgroup.procs", str(wish.pid))
        return Answer()

    async def stat(self, wish: Group) -> Answer:
        """What the group has used. Zeros are left out where a controller is missing."""
        folders = self._folders(wish)
        found: dict[str, Any] = {}
        if (folder := folders.get("memory")) is not None:
            usage = _number(folder / "memory.usage_in_bytes")
            inactive = _keyed(folder / "memory.stat").get("total_inactive_file", 0)
            found |= {
                "memory_bytes": usage,
                "working_set_bytes": max(0, usage - inactive),
                "oom_kills": _keyed(folder / "memory.oom_control").get("oom_kill", 0),
            }
        if (folder := folders.get("cpuacct")) is not None:
            found["cpu_usage_ns"] = _number(folder / "cpuacct.usage")
        if (folder := folders.get("pids")) is not None:
            found["pids"] = _number(folder / "pids.current")
        return Answer(found)

    async def remove(self, wish: Group) -> Answer:
        """The group, and with container "" those of all its containers. PorterError while a process is inside."""
        for folder in self._folders(wish).values():
            for group in [*folder.glob("*/"), folder] if not wish.container else [folder]:
                try:
                    group.rmdir()
                except FileNotFoundError:
                    pass
                except OSError as error:
                    raise PorterError(f"group {group}: {error.strerror}") from error
        return Answer()

    def _must_enforce(self) -> None:
        if not self._hierarchies.v1:
            raise PorterError("this node has no cgroup v1 hierarchy; limits are Podman's on v2")

    def _folders(self, wish: Group) -> dict[str, Path]:
        below = Path(self._parent, f"pod{wish.uid}", wish.container)
        return {controller: root / below for controller, root in self._hierarchies.v1.items()}

    def _limit(self, wish: LimitedGroup) -> None:
        folders = self._folders(wish)
        for controller, file, value in writes(wish.limits):
            if controller in folders:
                self._write(folders[controller] / file, value)

    @staticmethod
    def _write(file: Path, value: str) -> None:
        try:
            file.write_text(value)
        except OSError as error:
            raise PorterError(f"{file}: writing {value}: {error.strerror}") from error


def _number(file: Path) -> int:
    try:
        return int(file.read_text())
    except FileNotFoundError:
        raise PorterError(f"no such group: {file.parent}") from None


def _keyed(file: Path) -> dict[str, int]:
    return {key: int(value) for key, value in re.findall(r"^(\S+) (\d+)$", file.read_text(), re.MULTILINE)}
