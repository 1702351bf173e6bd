"""A volume's definition. Source: https://libvirt.org/formatstorage.html#storage-volume-xml"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import Any

from infra.provider.storage import Owner

MODE = "0600"  # a node's disk holds its keys


@dataclass(frozen=True, slots=True)
class Backing:
    path: str
    format: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Shape:
    name: str
    size_bytes: int
    format: str
    pool_kind: str = "dir"
    owner: Owner | None = None  # who must be able to read it
    backing: Backing | None = None


def build(shape: Shape) -> ET.Element:
    root = ET.Element("volume")
    ET.SubElement(root, "name").text = shape.name
    ET.SubElement(root, "capacity", unit="bytes").text = str(shape.size_bytes)
    if shape.pool_kind == "logical":
        return root  # a block device: no format, and the host's own permissions
    target = ET.SubElement(root, "target")
    ET.SubElement(target, "format", type=shape.format)
    if shape.owner is not None:
        permissions = ET.SubElement(target, "permissions")
        ET.SubElement(permissions, "mode").text = MODE
        ET.SubElement(permissions, "owner").text = str(shape.owner.uid)
        ET.SubElement(permissions, "group").text = str(shape.owner.gid)
    if shape.backing is not None:
        backing = ET.SubElement(root, "backingStore")
        ET.SubElement(backing, "path").text = shape.backing.path
        ET.SubElement(backing, "format", type=shape.backing.format)
    return root


def parse(text: str) -> dict[str, Any]:
    root = ET.fromstring(text)
    capacity = root.find("capacity")
    form = root.find("target/format")
    kind = "raw" if form is None else form.get("type", "raw")
    return {
        "name": root.findtext("name") or "",
        "size": 0 if capacity is None else int(capacity.text or "0"),  # libvirt answers in bytes
        "format": "raw" if kind == "iso" else kind,
    }
