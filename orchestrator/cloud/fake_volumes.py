"""Disks in memory, for tests: what is attached where, and refusals on demand."""

from __future__ import annotations

from msgspec.structs import replace

from orchestrator.cloud.provider import CloudError, Volume


class FakeVolumes:
    """`refuse` is what every change answers with while it is set; `held` are disks that their node does not let go."""

    def __init__(self) -> None:
        self.disks: dict[str, Volume] = {}
        self.nodes: dict[str, set[str]] = {}  # node → disks that it has
        self.refuse = ""
        self.held: set[str] = set()
        self.created: list[str] = []

    def _check(self) -> None:
        if self.refuse:
            raise CloudError(self.refuse)

    async def create(self, name: str, size_bytes: int, near: str) -> Volume:
        self._check()
        self.created.append(name)
        return self.disks.setdefault(name, Volume(name=name, size_bytes=size_bytes))

    async def delete(self, name: str) -> None:
        self._check()
        if any(name in disks for disks in self.nodes.values()):
            raise CloudError(f"disk {name} is attached")
        self.disks.pop(name, None)

    async def attach(self, name: str, node: str) -> None:
        self._check()
        if name not in self.disks:
            raise CloudError(f"disk {name} does not exist")
        for other, disks in self.nodes.items():
            if other != node and name in disks:
                raise CloudError(f"disk {name} is attached to node {other}")
        self.nodes.setdefault(node, set()).add(name)

    async def detach(self, name: str, node: str) -> None:
        self._check()
        if name in self.held:
            raise CloudError(f"disk {name} is still mounted on node {node}")
        self.nodes.get(node, set()).discard(name)

    async def attached(self, node: str) -> frozenset[str]:
        return frozenset(self.nodes.get(node, ()))

    async def resize(self, name: str, size_bytes: int) -> int:
        self._check()
        self.disks[name] = replace(self.disks[name], size_bytes=max(size_bytes, self.disks[name].size_bytes))
        return self.disks[name].size_bytes

    async def all(self) -> tuple[Volume, ...]:
        return tuple(
            replace(disk, attached_to=tuple(sorted(node for node, disks in self.nodes.items() if name in disks)))
            for name, disk in sorted(self.disks.items())
        )
