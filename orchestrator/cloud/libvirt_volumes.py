"""Disks of a lab of virtual machines: volumes of the pool `<lab>`, attached to the domains `<lab>-<node>`.

A disk is attached to the running machine and to its definition, so that it is there after a reboot too. A disk can be
had by the machines of the hypervisor on which its pool is. Nothing is remembered: what is attached stands in the
domains. Detaching needs the guest, which lets the device go in its own time: it is waited for.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from typing import Any, TypeVar

from msgspec import Struct

from orchestrator.cloud import libvirt_disks
from orchestrator.cloud.hypervisors import Hypervisors
from orchestrator.cloud.libvirt import LibvirtConfig
from orchestrator.cloud.libvirt_disks import Disk
from orchestrator.cloud.provider import CloudError, Volume

DETACH_PATIENCE_S = 20.0
LOOK_S = 0.2
PREFIX = "vol-"

T = TypeVar("T")


class _Machine(Struct, frozen=True):
    """A domain of the lab: its node, whether it runs, and its disks (as defined, where it does not)."""

    node: str
    is_running: bool
    disks: tuple[Disk, ...]


class LibvirtVolumes:
    """One operation at a time on each hypervisor: its pool refuses what meets another's work."""

    def __init__(self, lab: str, config: LibvirtConfig, hypervisors: Hypervisors) -> None:
        self._lab, self._config, self._hypervisors = lab, config, hypervisors
        self._libvirt = hypervisors.libvirt
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    # Volumes.

    async def create(self, name: str, size_bytes: int, near: str) -> Volume:
        for uri in self._uris():
            if (found := await self._call(uri, lambda connection: self._capacity(connection, name))) is not None:
                return self._volume(uri, name, found)
        uri = self._uri(near)
        await self._call(uri, lambda connection: self._create(connection, name, size_bytes))
        return self._volume(uri, name, size_bytes)

    def _create(self, connection: Any, name: str, size_bytes: int) -> None:
        pool = connection.storagePoolLookupByName(self._lab)
        pool.refresh()
        available = pool.info()[3]
        if size_bytes > available:
            raise CloudError(f"no space for a disk of {size_bytes} bytes: pool {self._lab} has {available} left")
        pool.createXML(libvirt_disks.volume_xml(name, size_bytes))

    async def delete(self, name: str) -> None:
        uri = await self._where(name)
        if uri is not None:
            await self._call(uri, lambda connection: self._delete(connection, name))

    def _delete(self, connection: Any, name: str) -> None:
        for machine in self._machines(connection):
            if libvirt_disks.with_serial(machine.disks, name):
                raise CloudError(f"disk {name} is attached to node {machine.node}")
        if (found := self._find(connection, name)) is not None:
            found.delete()

    async def resize(self, name: str, size_bytes: int) -> int:
        uri = await self._where(name)
        if uri is None:
            raise CloudError(f"disk {name} does not exist")
        return await self._call(uri, lambda connection: self._resize(connection, name, size_bytes))

    def _resize(self, connection: Any, name: str, size_bytes: int) -> int:
        for machine in self._machines(connection):
            disk = libvirt_disks.with_serial(machine.disks, name)
            if disk is not None and machine.is_running:
                domain = self._domain(connection, machine.node)
                size = int(domain.blockInfo(disk.target)[0])
                if size < size_bytes:
                    domain.blockResize(disk.target, size_bytes, self._libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)
                return max(size, size_bytes)
        volume = self._find(connection, name)
        size = int(volume.info()[1])
        if size < size_bytes:
            volume.resize(size_bytes)
        return max(size, size_bytes)

    async def all(self) -> tuple[Volume, ...]:
        found = []
        for uri in self._uris():
            for name, size, nodes in await self._call(uri, self._list):
                found.append(self._volume(uri, name, size, nodes))
        return tuple(sorted(found, key=lambda volume: volume.name))

    def _list(self, connection: Any) -> list[tuple[str, int, tuple[str, ...]]]:
        machines = self._machines(connection)
        return [
            (
                volume.name(),
                int(volume.info()[1]),
                tuple(each.node for each in machines if libvirt_disks.with_serial(each.disks, volume.name())),
            )
            for volume in self._pool(connection).listAllVolumes()
            if volume.name().startswith(PREFIX)
        ]

    # Attachments.

    async def attach(self, name: str, node: str) -> None:
        await self._call(self._uri(node), lambda connection: self._attach(connection, name, node))

    def _attach(self, connection: Any, name: str, node: str) -> None:
        volume = self._find(connection, name)
        if volume is None:
            raise CloudError(f"disk {name} does not exist on the hypervisor of node {node}")
        for machine in self._machines(connection):
            if machine.node != node and libvirt_disks.with_serial(machine.disks, name):
                raise CloudError(f"disk {name} is attached to node {machine.node}")
        domain = self._domain(connection, node)
        if domain is None or not domain.isActive():
            raise CloudError(f"disk {name} cannot be attached: node {node} is off, or gone")
        now, defined = self._disks(domain, running=True), self._disks(domain, running=False)
        target = libvirt_disks.free_target((*now, *defined))
        kept = libvirt_disks.with_serial(now, name) or libvirt_disks.with_serial(defined, name)
        described = libvirt_disks.disk_xml(kept or Disk(name, target, volume.path()))
        if not libvirt_disks.with_serial(now, name):
            domain.attachDeviceFlags(described, self._libvirt.VIR_DOMAIN_AFFECT_LIVE)
        if not libvirt_disks.with_serial(defined, name):
            domain.attachDeviceFlags(described, self._libvirt.VIR_DOMAIN_AFFECT_CONFIG)

    async def detach(self, name: str, node: str) -> None:
        uri = self._uri(node)
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + DETACH_PATIENCE_S
        await self._call(uri, lambda connection: self._begin_detaching(connection, name, node))
        while await self._call(uri, lambda connection: self._has(connection, name, node)):
            if loop.time() > give_up_at:
                raise CloudError(f"node {node} has not let go of disk {name} within {DETACH_PATIENCE_S:.0f} s")
            await asyncio.sleep(LOOK_S)

    def _begin_detaching(self, connection: Any, name: str, node: str) -> None:
        domain = self._domain(connection, node)
        if domain is None:
            return
        defined = libvirt_disks.with_serial(self._disks(domain, running=False), name)
        if defined is not None:
            domain.detachDeviceFlags(libvirt_disks.disk_xml(defined), self._libvirt.VIR_DOMAIN_AFFECT_CONFIG)
        now = libvirt_disks.with_serial(self._disks(domain, running=True), name) if domain.isActive() else None
        if now is None:
            return
        try:
            domain.detachDeviceFlags(libvirt_disks.disk_xml(now), self._libvirt.VIR_DOMAIN_AFFECT_LIVE)
        except self._libvirt.libvirtError:
            # It may be on its way out already, asked for by one before us; whether it goes is seen afterwards.
            if not self._has(connection, name, node):
                return
            raise

    def _has(self, connection: Any, name: str, node: str) -> bool:
        domain = self._domain(connection, node)
        if domain is None or not domain.isActive():
            return False
        return libvirt_disks.with_serial(self._disks(domain, running=True), name) is not None

    async def attached(self, node: str) -> frozenset[str]:
        return await self._call(self._uri(node), lambda connection: self._attached(connection, node))

    def _attached(self, connection: Any, node: str) -> frozenset[str]:
        domain = self._domain(connection, node)
        disks = self._disks(domain, running=bool(domain.isActive())) if domain is not None else ()
        return frozenset(disk.serial for disk in disks if disk.serial.startswith(PREFIX))

    # libvirt's side.

    def _pool(self, connection: Any) -> Any:
        return connection.storagePoolLookupByName(self._lab)

    def _find(self, connection: Any, name: str) -> Any:
        return self._or_none(lambda: self._pool(connection).storageVolLookupByName(name))

    def _capacity(self, connection: Any, name: str) -> int | None:
        found = self._find(connection, name)
        return int(found.info()[1]) if found is not None else None

    def _domain(self, connection: Any, node: str) -> Any:
        return self._or_none(lambda: connection.lookupByName(f"{self._lab}-{node}"))

    def _or_none(self, look: Callable[[], T]) -> T | None:
        try:
            return look()
        except self._libvirt.libvirtError as error:
            absent = (self._libvirt.VIR_ERR_NO_DOMAIN, self._libvirt.VIR_ERR_NO_STORAGE_VOL)
            if error.get_error_code() in absent:
                return None
            raise

    def _machines(self, connection: Any) -> list[_Machine]:
        """Of this lab: the pool's name says whose disks they are, and no other lab's domain has one of ours."""
        prefix = f"{self._lab}-"
        found = []
        for domain in connection.listAllDomains():
            if domain.name().startswith(prefix):
                running = bool(domain.isActive())
                disks = self._disks(domain, running=running)
                found.append(_Machine(domain.name().removeprefix(prefix), running, disks))
        return found

    def _disks(self, domain: Any, *, running: bool) -> tuple[Disk, ...]:
        return libvirt_disks.parse(domain.XMLDesc(0 if running else self._libvirt.VIR_DOMAIN_XML_INACTIVE))

    # Hypervisors.

    def _uri(self, node: str) -> str:
        return self._config.uris.get(node, self._config.uri)

    def _uris(self) -> list[str]:
        return list(dict.fromkeys((self._config.uri, *self._config.uris.values())))

    async def _where(self, name: str) -> str | None:
        for uri in self._uris():
            if await self._call(uri, lambda connection: self._capacity(connection, name)) is not None:
                return uri
        return None

    async def _call(self, uri: str, function: Callable[[Any], T]) -> T:
        async with self._locks[uri]:
            return await self._hypervisors.call(uri, function)

    def _volume(self, uri: str, name: str, size_bytes: int, nodes: tuple[str, ...] = ()) -> Volume:
        """With several hypervisors: who is on the same one, or, on the lab's own, who is not."""
        elsewhere = {node: other for node, other in self._config.uris.items() if other != self._config.uri}
        if uri == self._config.uri:
            return Volume(name=name, size_bytes=size_bytes, attached_to=nodes, beyond=tuple(sorted(elsewhere)))
        reach = tuple(sorted(node for node, other in elsewhere.items() if other == uri))
        return Volume(name=name, size_bytes=size_bytes, attached_to=nodes, reach=reach)
