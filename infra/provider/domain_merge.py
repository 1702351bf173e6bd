"""A new definition for a domain that is there: what others plugged in stays, and so do the places on the buses. Pure.

The mark in the old definition lists what we plugged in (`domain_devices.py`); a domain without a mark was imported, and
all in it is ours. A guest names its disks and interfaces by their places, so a device that stays keeps its own.
"""

from __future__ import annotations

import copy
import xml.etree.ElementTree as ET

from infra.provider.domain_devices import disk_key, mac_of, target_of
from infra.provider.domain_xml import is_machine
from infra.provider.marks import Mark

BUILT = frozenset(
    {"name", "uuid", "description", "metadata", "memory", "currentMemory", "vcpu", "vcpus", "sysinfo", "os", "features"}
    | {"cpu", "clock", "devices"}
)  # elements that our properties decide, also by their absence
OTHER_DEVICES = frozenset(
    {"hostdev", "redirdev", "smartcard", "hub", "sound", "watchdog", "shmem", "memory", "panic", "iommu", "vsock"}
    | {"crypto", "lease"}
)


def merge(wanted: ET.Element, current: ET.Element, mark: Mark | None) -> None:
    """Complete `wanted` from the persistent definition `current`."""
    uuid = current.findtext("uuid")
    if uuid and wanted.find("uuid") is None:
        ET.SubElement(wanted, "uuid").text = uuid
    if mark is not None:
        _keep_foreign(wanted, current, mark)
    if _is_same_board(wanted, current):
        _keep_places(wanted, current)
    _keep_nvram(wanted, current)
    _keep_other_kinds(wanted, current)


def keys(root: ET.Element) -> dict[str, ET.Element]:
    """A definition's disks and interfaces by what they are: a disk's source, an interface's MAC."""
    found = {disk_key(disk): disk for disk in root.findall("devices/disk")}
    return found | {f"interface {mac_of(each)}": each for each in root.findall("devices/interface")}


def is_ours(key: str, mark: Mark | None) -> bool:
    """The mark's keys of interfaces say more (what they are plugged into)."""
    return mark is None or any(listed == key or listed.startswith(f"{key} ") for listed in mark.devices)


def _keep_foreign(wanted: ET.Element, current: ET.Element, mark: Mark) -> None:
    devices = wanted.find("devices")
    assert devices is not None  # build() makes it
    ours = keys(wanted)
    taken = {target_of(disk) for disk in wanted.findall("devices/disk")}
    foreign = [(key, device) for key, device in keys(current).items() if not is_ours(key, mark) and key not in ours]
    letters = {target_of(device) for _, device in foreign}
    for disk in wanted.findall("devices/disk"):  # who is plugged in keeps its name; a newcomer takes a free one
        target = disk.find("target")
        if target is not None and target.get("dev") in letters:
            target.set("dev", _free(target.get("dev", "")[:2], taken | letters))
            taken.add(target.get("dev", ""))
    devices.extend(copy.deepcopy(device) for _, device in foreign)


def _free(prefix: str, taken: set[str]) -> str:
    return next(name for letter in "abcdefghijklmnopqrstuvwxy" if (name := f"{prefix}{letter}") not in taken)


def _keep_places(wanted: ET.Element, current: ET.Element) -> None:
    there = keys(current)
    for key, device in keys(wanted).items():
        old = there.get(key)
        address = None if old is None else old.find("address")
        if address is None or device.find("address") is not None:
            continue
        if device.tag == "disk" and _bus(device) != _bus(old):
            continue
        device.append(copy.deepcopy(address))


def _keep_nvram(wanted: ET.Element, current: ET.Element) -> None:
    """The store that libvirt made for a firmware, when the program names none."""
    os, old = wanted.find("os"), current.find("os/nvram")
    has_firmware = os is not None and (os.find("loader") is not None or os.get("firmware") == "efi")
    if os is not None and has_firmware and os.find("nvram") is None and old is not None:
        os.append(copy.deepcopy(old))


def _keep_other_kinds(wanted: ET.Element, current: ET.Element) -> None:
    """What no property of ours speaks of: somebody set it by hand, or the domain was imported with it."""
    for element in current:
        if element.tag not in BUILT and wanted.find(element.tag) is None:
            wanted.append(copy.deepcopy(element))
    devices = wanted.find("devices")
    assert devices is not None  # build() makes it
    devices.extend(copy.deepcopy(each) for each in current.findall("devices/*") if each.tag in OTHER_DEVICES)


def _is_same_board(wanted: ET.Element, current: ET.Element) -> bool:
    """Whether the buses are the same; libvirt has written an alias (`q35`) out (`pc-q35-7.2`)."""
    new, old = wanted.find("os/type"), current.find("os/type")
    if new is None or old is None or new.get("arch", old.get("arch")) != old.get("arch"):
        return False
    return is_machine(new.get("machine") or "pc", old.get("machine", ""))


def _bus(disk: ET.Element | None) -> str | None:
    target = None if disk is None else disk.find("target")
    return None if target is None else target.get("bus")
