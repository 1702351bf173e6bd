"""Disks of libvirt volumes, seen from a guest: attached while it runs, grown, moved, and given back.

The guest is the VM image's kernel with an initrd of a few lines that tells on its console which disks it has.
"""

from __future__ import annotations

import asyncio
import gzip
import xml.etree.ElementTree as ElementTree
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.hypervisor.kvm import domain_type
from infra.hypervisor.libvirtd import Libvirtd
from infra.images.machine.initrd import entry
from infra.images.vm import VmImage, vm_image
from orchestrator.cloud.hypervisors import Hypervisors
from orchestrator.cloud.libvirt import LibvirtConfig
from orchestrator.cloud.libvirt_volumes import LibvirtVolumes
from orchestrator.cloud.provider import CloudError
from tests.integration.own_libvirtd import own_libvirtd

MIB = 2**20
WAIT_S = 60.0
DISK = "vol-0123456789abcdef"
INIT = """\
#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mkdir -p /sys
/bin/busybox mount -t sysfs sysfs /sys
for module in /modules/*.ko; do /bin/busybox insmod "$module"; done
before=none
while true; do
    now=
    for disk in /sys/block/vd*; do
        [ -e "$disk/serial" ] && now="$now $(/bin/busybox cat $disk/serial)=$(/bin/busybox cat $disk/size)"
    done
    [ "$now" != "$before" ] && echo "disks:$now." >/dev/console
    before=$now
    /bin/busybox usleep 100000
done
"""


@pytest.fixture(scope="module")
def libvirtd() -> Iterator[Libvirtd]:
    with own_libvirtd() as made:
        yield made


@pytest.fixture(scope="module")
def image() -> VmImage:
    return vm_image(lambda text: None)


class Guests:
    """The lab `lab` with a pool, and nodes that tell their disks."""

    def __init__(self, libvirtd: Libvirtd, hypervisors: Hypervisors, folder: Path) -> None:
        self.uri, self.hypervisors, self.folder = libvirtd.uri, hypervisors, folder
        self.disks = LibvirtVolumes("lab", LibvirtConfig(uri=self.uri), hypervisors)

    async def make_pool(self) -> None:
        (self.folder / "pool").mkdir()
        text = f"<pool type='dir'><name>lab</name><target><path>{self.folder / 'pool'}</path></target></pool>"
        await self.hypervisors.call(self.uri, lambda connection: connection.storagePoolCreateXML(text))

    async def boot(self, node: str, image: VmImage) -> None:
        initrd = self.folder / "initrd.img"
        if not initrd.exists():
            ours = entry(11, "init", 0o100755, INIT.encode()) + entry(0, "TRAILER!!!", 0)
            initrd.write_bytes(image.initrd.read_bytes() + gzip.compress(ours))
        text = domain_xml(node, image, initrd, self.console(node))
        await self.hypervisors.call(self.uri, lambda connection: connection.defineXML(text).create())

    def console(self, node: str) -> Path:
        return self.folder / f"{node}.console"

    def seen(self, node: str) -> str:
        """The disks that the guest has told of last: `serial=sectors`."""
        lines = self.console(node).read_text(errors="replace").splitlines() if self.console(node).exists() else []
        told = [line.strip() for line in lines if line.startswith("disks:") and line.strip().endswith(".")]
        return told[-1].removeprefix("disks:").removesuffix(".").strip() if told else "nothing yet"

    async def until(self, node: str, wanted: str) -> None:
        try:
            async with asyncio.timeout(WAIT_S):
                while self.seen(node) != wanted:
                    await asyncio.sleep(0.05)
        except TimeoutError:
            console = self.console(node).read_text(errors="replace")[-2000:]
            raise AssertionError(f"{node} has {self.seen(node)!r}, not {wanted!r}\n{console}") from None

    async def power_off(self, node: str) -> None:
        await self.hypervisors.call(self.uri, lambda connection: connection.lookupByName(f"lab-{node}").destroy())

    async def destroy(self) -> None:
        def end(connection: Any) -> None:
            for domain in connection.listAllDomains():
                if domain.isActive():
                    domain.destroy()
                domain.undefine()
            connection.storagePoolLookupByName("lab").destroy()

        await self.hypervisors.call(self.uri, end)


def domain_xml(node: str, image: VmImage, initrd: Path, console: Path) -> str:
    root = ElementTree.Element("domain", type=domain_type())
    for name, text in (("name", f"lab-{node}"), ("memory", "131072"), ("vcpu", "1")):
        ElementTree.SubElement(root, name).text = text
    system = ElementTree.SubElement(root, "os")
    ElementTree.SubElement(system, "type", machine="pc").text = "hvm"
    for name, value in (("kernel", image.kernel), ("initrd", initrd), ("cmdline", "console=ttyS0 quiet")):
        ElementTree.SubElement(system, name).text = str(value)
    ElementTree.SubElement(ElementTree.SubElement(root, "features"), "acpi")
    devices = ElementTree.SubElement(root, "devices")
    serial = ElementTree.SubElement(devices, "serial", type="file")
    ElementTree.SubElement(serial, "source", path=str(console))
    ElementTree.SubElement(devices, "memballoon", model="none")
    return ElementTree.tostring(root, encoding="unicode")


@pytest.fixture
async def guests(libvirtd: Libvirtd, image: VmImage, tmp_path: Path) -> AsyncIterator[Guests]:
    hypervisors = Hypervisors()
    made = Guests(libvirtd, hypervisors, tmp_path)
    await made.make_pool()
    try:
        yield made
    finally:
        await made.destroy()
        await hypervisors.close()


async def test_a_disk_moves_from_guest_to_guest(guests: Guests, image: VmImage) -> None:
    disks = guests.disks
    await guests.boot("a", image)
    made = await disks.create(DISK, 64 * MIB, "a")
    assert (made.size_bytes, made.reach, made.beyond) == (64 * MIB, (), ())
    assert await disks.create(DISK, 128 * MIB, "a") == made  # it was there already
    await guests.until("a", "")
    await disks.attach(DISK, "a")
    await disks.attach(DISK, "a")
    await guests.until("a", f"{DISK}={64 * MIB // 512}")
    assert await disks.attached("a") == {DISK}

    assert await disks.resize(DISK, 96 * MIB) == 96 * MIB
    assert await disks.resize(DISK, 32 * MIB) == 96 * MIB  # never smaller
    await guests.until("a", f"{DISK}={96 * MIB // 512}")

    await guests.boot("b", image)
    await guests.until("b", "")
    with pytest.raises(CloudError, match="is attached to node a"):
        await disks.attach(DISK, "b")
    with pytest.raises(CloudError, match="is attached to node a"):
        await disks.delete(DISK)
    await disks.detach(DISK, "a")
    await guests.until("a", "")
    await disks.detach(DISK, "a")
    again = LibvirtVolumes("lab", LibvirtConfig(uri=guests.uri), guests.hypervisors)  # as after a restart
    await again.attach(DISK, "b")
    await guests.until("b", f"{DISK}={96 * MIB // 512}")
    assert [(disk.name, disk.attached_to) for disk in await again.all()] == [(DISK, ("b",))]

    await guests.power_off("b")
    with pytest.raises(CloudError, match="node b is off"):
        await disks.attach(DISK, "b")
    await disks.detach(DISK, "b")
    assert await disks.attached("b") == frozenset()
    await disks.detach(DISK, "never-was")
    await disks.delete(DISK)
    await disks.delete(DISK)
    assert await disks.all() == ()


async def test_what_the_pool_cannot_hold_is_refused(guests: Guests) -> None:
    with pytest.raises(CloudError, match=r"no space for a disk of \d+ bytes: pool lab has"):
        await guests.disks.create(DISK, 2**50, "")
    with pytest.raises(CloudError, match="does not exist"):
        await guests.disks.attach(DISK, "a")
    with pytest.raises(CloudError, match="does not exist"):
        await guests.disks.resize(DISK, MIB)
