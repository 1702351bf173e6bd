"""Marks: how the provider knows again what it made, when Pulumi's state does not.

A CLI that is killed between a creation and the writing of its state leaves a thing that the next update would trip over
("already exists"). A network and a domain carry their mark in libvirt's metadata: the URN, and the origin (which
Pulumi home or backend on which machine), so that two people with a stack of one name do not adopt each other's. Pools
and volumes have no metadata: what is known of them is in the journal (`journal.py`).
`definition` is a hash of the XML as built: equal means that the thing is already as asked.
"""

from __future__ import annotations

import hashlib
import os
import socket
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

NAMESPACE = "https://sampan.dev/provider"
PREFIX = "sampan"
TAG = f"{{{NAMESPACE}}}mark"
DEVICE = f"{{{NAMESPACE}}}device"
MACHINE_ID = Path("/etc/machine-id")

ET.register_namespace(PREFIX, NAMESPACE)


@dataclass(frozen=True, slots=True)
class Mark:
    urn: str
    origin: str
    definition: str = ""
    boot: str = ""  # of a domain: the same of what only a restart changes
    devices: frozenset[str] = frozenset()  # of a domain: the keys of what we plugged in

    @property
    def owner(self) -> tuple[str, str]:
        return self.urn, self.origin


def origin() -> str:
    """Whose Pulumi state it is: the backend as configured (or the user's own), on this machine."""
    machine = MACHINE_ID.read_text().strip() if MACHINE_ID.exists() else socket.gethostname()
    backend = os.environ.get("PULUMI_BACKEND_URL") or os.environ.get("PULUMI_HOME") or str(Path.home())
    return digest(f"{machine}\0{backend}")


def text_of(element: ET.Element) -> str:
    return ET.tostring(element, encoding="unicode")


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def put(root: ET.Element, urn: str, boot: str = "", devices: frozenset[str] = frozenset()) -> Mark:
    """Mark a definition that is complete; its metadata element is made where it is missing."""
    mark = Mark(urn, origin(), digest(text_of(root)), boot, devices)
    metadata = root.find("metadata")
    if metadata is None:
        metadata = ET.SubElement(root, "metadata")
    metadata.append(element(mark))
    return mark


def element(mark: Mark) -> ET.Element:
    found = ET.Element(TAG, {"urn": mark.urn, "origin": mark.origin, "definition": mark.definition})
    if mark.boot:
        found.set("boot", mark.boot)
    for key in sorted(mark.devices):
        ET.SubElement(found, DEVICE).text = key
    return found


def plain(mark: Mark) -> str:
    """The element's text without its name space, as virDomainSetMetadata wants it."""
    root = element(mark)
    for each in root.iter():
        each.tag = each.tag.rpartition("}")[2]
    return text_of(root)


def find(text: str) -> Mark | None:
    """The mark in a definition that libvirt returned."""
    found = ET.fromstring(text).find(f"metadata/{TAG}")
    if found is None:
        return None
    devices = frozenset(device.text or "" for device in found.findall(DEVICE))
    given = {name: found.get(name, "") for name in ("urn", "origin", "definition", "boot")}
    return Mark(**given, devices=devices)


def foreign(word: str, name: str, uri: str, mark: Mark | None, remedy: str) -> str:
    """What the user is told of a name that is taken."""
    whose = "this stack did not make it" if mark is None else f"it belongs to {mark.urn}"
    return (
        f"{word} {name} is already there on {uri}, and {whose}; it was not touched. Choose another name, "
        f"take it over (pulumi import), or remove it ({remedy})."
    )
