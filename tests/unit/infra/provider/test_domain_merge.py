"""A new definition for a domain that is there: what stays of the old one."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from infra.provider.domain_merge import merge
from infra.provider.marks import Mark

UUID = "00000000-0000-0000-0000-000000000001"


def disk(path: str, target: str, address: str = "") -> str:
    place = f"<address type='pci' slot='{address}'/>" if address else ""
    return f"<disk type='file'><source file='{path}'/><target dev='{target}' bus='virtio'/>{place}</disk>"


def interface(mac: str, address: str = "") -> str:
    place = f"<address type='pci' slot='{address}'/>" if address else ""
    return f"<interface type='network'><mac address='{mac}'/><source network='n'/>{place}</interface>"


def domain(*devices: str, machine: str = "pc", rest: str = "", uuid: str = "") -> ET.Element:
    identity = f"<uuid>{uuid}</uuid>" if uuid else ""
    return ET.fromstring(
        f"<domain>{identity}<os><type arch='x86_64' machine='{machine}'>hvm</type></os>{rest}"
        f"<devices>{''.join(devices)}</devices></domain>"
    )


def mark(*devices: str) -> Mark:
    return Mark("urn", "here", devices=frozenset(devices))


def disks(root: ET.Element) -> dict[str, tuple[str | None, str | None]]:
    found = {}
    for each in root.findall("devices/disk"):
        source, target, address = each.find("source"), each.find("target"), each.find("address")
        assert source is not None and target is not None
        found[source.get("file", "")] = (target.get("dev"), None if address is None else address.get("slot"))
    return found


def test_the_uuid_and_the_places_stay() -> None:
    current = domain(disk("/a", "vda", "4"), interface("52:54:00:00:00:01", "3"), machine="pc-i440fx-7.2", uuid=UUID)
    wanted = domain(disk("/new", "vda"), disk("/a", "vdb"), interface("52:54:00:00:00:01"))
    merge(wanted, current, mark("disk /a", "interface 52:54:00:00:00:01 network:x"))
    assert wanted.findtext("uuid") == UUID
    assert disks(wanted) == {"/new": ("vda", None), "/a": ("vdb", "4")}
    assert [each.get("slot") for each in wanted.findall("devices/interface/address")] == ["3"]


def test_another_machine_type_has_other_places() -> None:
    current = domain(disk("/a", "vda", "4"), machine="pc-i440fx-7.2")
    wanted = domain(disk("/a", "vda"), machine="q35")
    merge(wanted, current, mark("disk /a"))
    assert disks(wanted) == {"/a": ("vda", None)}


def test_what_others_plugged_in_stays_where_it_is() -> None:
    current = domain(disk("/a", "vda", "4"), disk("/vol-1", "vdb", "5"), interface("52:54:00:00:00:09", "6"))
    wanted = domain(disk("/a", "vda"), disk("/b", "vdb"))
    merge(wanted, current, mark("disk /a"))
    assert disks(wanted) == {"/a": ("vda", "4"), "/b": ("vdc", None), "/vol-1": ("vdb", "5")}
    assert len(wanted.findall("devices/interface")) == 1


def test_what_was_ours_and_is_not_wanted_goes() -> None:
    current = domain(disk("/a", "vda"), disk("/b", "vdb"), interface("52:54:00:00:00:01"))
    wanted = domain(disk("/a", "vda"))
    merge(wanted, current, mark("disk /a", "disk /b", "interface 52:54:00:00:00:01 network:x"))
    assert set(disks(wanted)) == {"/a"}
    assert wanted.findall("devices/interface") == []


def test_all_of_an_imported_domain_is_ours() -> None:
    current = domain(disk("/a", "vda"), disk("/b", "vdb"))
    wanted = domain(disk("/a", "vda"))
    merge(wanted, current, None)
    assert set(disks(wanted)) == {"/a"}


def test_what_no_property_speaks_of_stays() -> None:
    current = domain(
        "<watchdog model='i6300esb'/>",
        "<graphics type='vnc'/>",
        rest="<on_crash>preserve</on_crash><cpu mode='custom'/>",
    )
    wanted = domain()
    merge(wanted, current, mark())
    assert wanted.findtext("on_crash") == "preserve"
    assert [each.tag for each in wanted.findall("devices/*")] == ["watchdog"]
    assert wanted.find("cpu") is None


def test_the_firmwares_store_stays() -> None:
    current = ET.fromstring(
        "<domain><os><type machine='q35'/><loader>/c</loader><nvram>/n</nvram></os><devices/></domain>"
    )
    wanted = ET.fromstring("<domain><os><type machine='q35'/><loader>/c</loader></os><devices/></domain>")
    merge(wanted, current, mark())
    assert wanted.findtext("os/nvram") == "/n"
