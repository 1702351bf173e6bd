"""Disks and network interfaces of a domain: their elements, and the key by which each is known again.

A key says what a device is, not where it sits: `disk /pool/a.qcow2`, `interface 52:54:00:00:00:01 network:UUID`. The
domain's mark lists the keys of what we plugged in; a device that is not on the list is another's, and stays.
"""

from __future__ import annotations

import hashlib
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from string import ascii_lowercase
from typing import Literal
from urllib.parse import urlsplit

from infra.provider.domain_inputs import Disk

CLOUDINIT_TARGET = "vdz"  # after all other disks, so that these keep their places when one is added
PORTS = {"http": 80, "https": 443, "ftp": 21, "ftps": 990, "tftp": 69}


@dataclass(frozen=True, slots=True)
class Medium:
    """What a disk is made of: a file or block device with its format, or a URL."""

    kind: Literal["file", "block", "network"]
    place: str
    format: str = "raw"
    wwn: str = ""

    @property
    def is_cdrom(self) -> bool:
        return self.kind == "network" or (self.kind == "file" and self.place.endswith(".iso"))


@dataclass(frozen=True, slots=True)
class Plug:
    """What an interface is plugged into. `mode` is macvtap's."""

    mac: str
    kind: Literal["network", "bridge", "direct"]
    source: str
    mode: str = ""
    identity: str = ""  # a network's UUID: one made anew under its old name is another

    @property
    def key(self) -> str:
        return f"interface {self.mac} {self.kind}:{self.identity or self.source}{self.mode and f':{self.mode}'}"


def derived_mac(urn: str, origin: str, index: int) -> str:
    """For an interface to which the program gives none: always the same, so that a domain made anew keeps its lease."""
    digest = hashlib.sha256(f"{origin}\0{urn}\0{index}".encode()).digest()
    return "52:54:00:" + ":".join(f"{byte:02x}" for byte in digest[:3])


def derived_wwn(urn: str, index: int) -> str:
    return "5" + hashlib.sha256(f"{urn}\0{index}".encode()).hexdigest()[:15]


def disk_elements(
    disks: Sequence[Disk], media: Sequence[Medium], cloudinit: str, *, is_q35: bool
) -> Iterator[ET.Element]:
    """In the order of the program; `taken` letters go by bus: vda, sda, hda."""
    letters: dict[str, int] = {}
    for disk, medium in zip(disks, media, strict=True):
        bus, prefix = _bus(disk, medium, is_q35=is_q35)
        index = letters.get(prefix, 0)
        letters[prefix] = index + 1
        yield _disk_element(medium, bus, f"{prefix}{_letters(index)}", wwn=medium.wwn if disk.scsi else "")
    if cloudinit:
        element = _disk_element(Medium("file", cloudinit), "virtio", CLOUDINIT_TARGET, device="disk")
        ET.SubElement(element, "readonly")
        yield element


def interface_element(plug: Plug) -> ET.Element:
    element = ET.Element("interface", type=plug.kind)
    ET.SubElement(element, "mac", address=plug.mac)
    if plug.kind == "direct":
        ET.SubElement(element, "source", dev=plug.source, mode=plug.mode)
    else:
        ET.SubElement(element, "source", {plug.kind: plug.source})
    ET.SubElement(element, "model", type="virtio")
    return element


def disk_key(element: ET.Element) -> str:
    source = element.find("source")
    if source is None:
        return ""
    if (name := source.get("name")) is not None:
        host = source.find("host")
        where = "" if host is None else f"{host.get('name')}:{host.get('port')}"
        return f"disk {source.get('protocol')}://{where}/{name}"
    return f"disk {source.get('file') or source.get('dev') or source.get('volume') or ''}"


def mac_of(element: ET.Element) -> str:
    mac = element.find("mac")
    return "" if mac is None else mac.get("address", "").lower()


def target_of(element: ET.Element) -> str:
    target = element.find("target")
    return "" if target is None else target.get("dev", "")


def _bus(disk: Disk, medium: Medium, *, is_q35: bool) -> tuple[str, str]:
    if disk.scsi:
        return "scsi", "sd"
    if medium.is_cdrom:
        return ("sata", "sd") if is_q35 else ("ide", "hd")
    return "virtio", "vd"


def _disk_element(medium: Medium, bus: str, target: str, *, wwn: str = "", device: str = "") -> ET.Element:
    device = device or ("cdrom" if medium.is_cdrom else "disk")
    element = ET.Element("disk", type=medium.kind, device=device)
    ET.SubElement(element, "driver", name="qemu", type=medium.format)
    if medium.kind == "network":
        parts = urlsplit(medium.place)
        path = parts.path.lstrip("/") + (f"?{parts.query}" if parts.query else "")
        source = ET.SubElement(element, "source", protocol=parts.scheme, name=path)
        port = parts.port or PORTS[parts.scheme]
        ET.SubElement(source, "host", name=parts.hostname or "", port=str(port))
    else:
        ET.SubElement(element, "source", {"file" if medium.kind == "file" else "dev": medium.place})
    ET.SubElement(element, "target", dev=target, bus=bus)
    if device == "cdrom":
        ET.SubElement(element, "readonly")
    if wwn:
        ET.SubElement(element, "wwn").text = wwn
    return element


def _letters(index: int) -> str:
    """0 is a, 25 z, 26 aa: as Linux names disks."""
    name = ""
    while index >= 0:
        name = ascii_lowercase[index % 26] + name
        index = index // 26 - 1
    return name
