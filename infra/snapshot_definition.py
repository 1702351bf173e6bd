"""What libvirt's description of a machine says of its disks, and the checkpoint of its memory alone. Pure.

Source: libvirt.org, formatdomain, "Hard drives"; formatsnapshot.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path


def disks(xml: str) -> list[str]:
    """Paths of the disks that the machine can write."""
    found = []
    for disk in ET.fromstring(xml).findall("devices/disk"):
        source = disk.find("source")
        if disk.get("device", "disk") == "disk" and disk.find("readonly") is None and source is not None:
            found.append(source.get("file") or source.get("dev") or f"{source.get('pool')}/{source.get('volume')}")
    return found


def memory_checkpoint(xml: str, file: Path) -> str:
    """The checkpoint's definition: memory into `file`, no disk."""
    root = ET.Element("domainsnapshot")
    ET.SubElement(root, "memory", snapshot="external", file=str(file))
    listed = ET.SubElement(root, "disks")
    for disk in ET.fromstring(xml).findall("devices/disk"):
        target = disk.find("target")
        if target is not None:
            ET.SubElement(listed, "disk", name=target.get("dev", ""), snapshot="no")
    return ET.tostring(root, encoding="unicode")
