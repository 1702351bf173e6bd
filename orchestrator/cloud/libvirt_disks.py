"""Disks in a domain's definition: which it has, by serial number, and how one more is written. Pure.

Source: libvirt.org, formatdomain ("Hard drives, floppy disks, CDROMs"), formatstorage.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable
from itertools import product
from string import ascii_lowercase

from msgspec import Struct

FORMAT = "qcow2"  # thin, and a running machine's can be kept in a snapshot


class Disk(Struct, frozen=True):
    """`target`: the name within the machine (vdb); `source`: the file."""

    serial: str
    target: str
    source: str


def parse(domain_xml: str) -> tuple[Disk, ...]:
    """All disks, also those without a serial number (""), in the order of the definition."""
    found = []
    for element in ElementTree.fromstring(domain_xml).iterfind("devices/disk"):
        target, source = element.find("target"), element.find("source")
        found.append(
            Disk(
                serial=element.findtext("serial") or "",
                target=target.get("dev", "") if target is not None else "",
                source=source.get("file", "") if source is not None else "",
            )
        )
    return tuple(found)


def with_serial(disks: Iterable[Disk], serial: str) -> Disk | None:
    return next((disk for disk in disks if disk.serial == serial), None)


def free_target(disks: Iterable[Disk]) -> str:
    """The first name vdb … vdz, vdaa … that no disk has; vda is the machine's own."""
    taken = {disk.target for disk in disks} | {"vda"}
    names = (f"vd{''.join(letters)}" for length in (1, 2) for letters in product(ascii_lowercase, repeat=length))
    return next(name for name in names if name not in taken)


def disk_xml(disk: Disk) -> str:
    root = ElementTree.Element("disk", type="file", device="disk")
    ElementTree.SubElement(root, "driver", name="qemu", type=FORMAT, discard="unmap")
    ElementTree.SubElement(root, "source", file=disk.source)
    ElementTree.SubElement(root, "target", dev=disk.target, bus="virtio")
    ElementTree.SubElement(root, "serial").text = disk.serial
    return ElementTree.tostring(root, encoding="unicode")


def volume_xml(name: str, size_bytes: int) -> str:
    root = ElementTree.Element("volume")
    ElementTree.SubElement(root, "name").text = name
    ElementTree.SubElement(root, "allocation", unit="bytes").text = "0"
    ElementTree.SubElement(root, "capacity", unit="bytes").text = str(size_bytes)
    ElementTree.SubElement(ElementTree.SubElement(root, "target"), "format", type=FORMAT)
    return ElementTree.tostring(root, encoding="unicode")
