"""Conformance of Domain: each property created, changed and read back, against real libvirt.

The guests have no system: they only have to be there. What libvirt shows is the definition that runs.
"""

from __future__ import annotations

import shutil
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from infra import host as machine
from infra.provider import xslt
from infra.provider.binding import libvirt
from tests.integration.provider.calls.small_engine import Failed, Partly, Provider, Refused, Resource

SMALL = {"type": "qemu", "memory": 64}
New = Callable[..., Resource]


def running(connection: Any, name: str) -> ET.Element:
    return ET.fromstring(connection.lookupByName(name).XMLDesc(0))


def persistent(connection: Any, name: str) -> ET.Element:
    return ET.fromstring(connection.lookupByName(name).XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))


def process_of(connection: Any, name: str) -> int:
    """libvirt's number of this run of the domain: another one after each start."""
    return int(connection.lookupByName(name).ID())


@pytest.fixture
def network(resource: New, subnets: tuple[str, str]) -> Resource:
    made = resource("Network", "net")
    made.up({"name": "net", "mode": "none", "addresses": list(subnets)})
    return made


@pytest.fixture
def pool(resource: New, tmp_path: Path) -> Resource:
    made = resource("Pool", "pool")
    made.up({"name": "pool", "type": "dir", "target": {"path": str(tmp_path / "pool")}})
    return made


@pytest.fixture
def volume(resource: New, pool: Resource) -> Callable[[str], str]:
    def make(name: str) -> str:
        made = resource("Volume", name)
        made.up({"name": name, "pool": "pool", "size": 1 << 20})
        return made.id

    return make


def test_created_unchanged_and_gone(resource: New, connection: Any) -> None:
    domain = resource("Domain", "dom")
    assert domain.up({"name": "dom", **SMALL}) == "create"
    assert domain.id == connection.lookupByName("dom").UUIDString()
    assert domain.outputs["arch"] == "x86_64"
    assert domain.outputs["emulator"].endswith("qemu-system-x86_64")
    run = process_of(connection, "dom")
    assert domain.up({"name": "dom", **SMALL}) == "same"
    assert domain.refresh()
    assert domain.up({"name": "dom", **SMALL}) == "same"
    assert process_of(connection, "dom") == run
    domain.delete()
    assert connection.listAllDomains() == []


CHANGES: list[Any] = [
    ({"memory": 80}, "memory", lambda root: root.findtext("memory"), "81920"),
    ({"vcpu": 2}, "vcpu", lambda root: root.findtext("vcpu"), "2"),
    ({"machine": "q35"}, "machine", lambda root: "q35" in root.find("os/type").get("machine"), True),
    ({"cpu": {"mode": "maximum"}}, "cpu", lambda root: root.find("cpu").get("mode"), "maximum"),
    (
        {"bootDevices": [{"devs": ["network", "hd"]}]},
        "bootDevices",
        lambda root: [each.get("dev") for each in root.findall("os/boot")],
        ["network", "hd"],
    ),
    (
        {
            "consoles": [
                {"type": "tcp", "targetPort": "0", "sourceService": "14555"},
                {"type": "pty", "targetPort": "1", "targetType": "virtio"},
            ]
        },
        "consoles",
        lambda root: [
            (each.get("type"), each.find("target").get("type"), each.find("source").get("service"))
            for each in root.findall("devices/console")
        ],
        [("tcp", "serial", "14555"), ("pty", "virtio", None)],
    ),
    (
        {"graphics": {"type": "vnc", "listenType": "address", "websocket": -1}},
        "graphics",
        lambda root: [root.find("devices/graphics").get("type"), root.find("devices/graphics/listen").get("address")],
        ["vnc", "127.0.0.1"],
    ),
    ({"video": {"type": "vga"}}, "video", lambda root: root.find("devices/video/model").get("type"), "vga"),
    (
        {"qemuAgent": True},
        "qemuAgent",
        lambda root: root.find("devices/channel/target").get("name"),
        "org.qemu.guest_agent.0",
    ),
    (
        {"emulator": "/usr/bin/qemu-system-x86_64"},
        "emulator",
        lambda root: root.findtext("devices/emulator"),
        "/usr/bin/qemu-system-x86_64",
    ),
    ({"arch": "x86_64"}, "arch", lambda root: root.find("os/type").get("arch"), "x86_64"),
]


def test_properties_change_in_place(resource: New, connection: Any, words: list[str]) -> None:
    """All at once and back: the domain stays the same one, is restarted as was told, and runs with the new values."""
    domain = resource("Domain", "dom")
    domain.up({"name": "dom", **SMALL})
    id, run = domain.id, process_of(connection, "dom")
    changed: dict[str, Any] = {}
    for inputs, *_ in CHANGES:
        changed |= inputs
    assert domain.up({"name": "dom", **SMALL, **changed}) == "update"
    assert {path.split("[")[0].split(".")[0] for path in domain.diff} == set(changed)
    assert domain.id == id
    assert process_of(connection, "dom") != run
    seen = running(connection, "dom")
    assert {name: shown(seen) for _, name, shown, _ in CHANGES} == {name: value for _, name, _, value in CHANGES}
    assert any(line.startswith("domain dom is restarted: libvirt changes ") for line in words)
    assert domain.refresh()
    assert domain.up({"name": "dom", **SMALL, **changed}) == "same"
    assert domain.up({"name": "dom", **SMALL}) == "update"
    assert domain.id == id
    assert running(connection, "dom").find("devices/graphics") is None


@pytest.mark.parametrize("property", ["memory", "vcpu"])
def test_a_bigger_domain_is_the_same_domain(resource: New, connection: Any, words: list[str], property: str) -> None:
    domain = resource("Domain", "dom")
    domain.up({"name": "dom", **SMALL})
    id, old = domain.id, {"memory": 64, "vcpu": 1}[property]
    assert domain.up({"name": "dom", **SMALL, property: old * 2}) == "update"
    assert domain.diff == {property: "update"}
    assert domain.id == id
    assert f"domain dom is restarted: libvirt changes {property} ({old} → {old * 2}) only at a start" in words
    assert domain.up({"name": "dom", **SMALL, property: old * 2}) == "same"


def test_another_name_is_another_domain(resource: New, connection: Any) -> None:
    domain = resource("Domain", "dom")
    domain.up({"name": "dom", **SMALL})
    old = domain.id
    assert domain.up({"name": "other", **SMALL}) == "replace"
    assert domain.id != old
    assert [each.name() for each in connection.listAllDomains()] == ["other"]


def test_a_name_of_its_own(resource: New, connection: Any) -> None:
    domain = resource("Domain", "dom")
    domain.up(SMALL)
    assert domain.inputs["name"].startswith("dom-")
    assert domain.up(SMALL) == "same"


def test_words_do_not_restart_it(resource: New, connection: Any) -> None:
    metadata = '<mine xmlns="https://example.org/mine">a word</mine>'
    domain = resource("Domain", "dom")
    domain.up({"name": "dom", **SMALL})
    run = process_of(connection, "dom")
    inputs = {"name": "dom", **SMALL, "description": "a guest", "metadata": metadata, "autostart": True}
    assert domain.up(inputs) == "update"
    assert process_of(connection, "dom") == run
    seen = persistent(connection, "dom")
    assert seen.findtext("description") == "a guest"
    assert seen.findtext("metadata/{https://example.org/mine}mine") == "a word"
    assert connection.lookupByName("dom").autostart() == 1
    assert domain.refresh()
    assert domain.up(inputs) == "same"


def test_off_and_on(resource: New, connection: Any) -> None:
    domain = resource("Domain", "dom")
    domain.up({"name": "dom", **SMALL, "running": False})
    assert not connection.lookupByName("dom").isActive()
    assert domain.up({"name": "dom", **SMALL}) == "update"
    assert connection.lookupByName("dom").isActive()
    assert domain.up({"name": "dom", **SMALL, "running": False}) == "update"
    assert not connection.lookupByName("dom").isActive()


def test_stopped_behind_pulumis_back(resource: New, connection: Any) -> None:
    domain = resource("Domain", "dom")
    domain.up({"name": "dom", **SMALL})
    connection.lookupByName("dom").destroy()
    assert domain.refresh()
    assert domain.outputs["running"] is False
    assert domain.up({"name": "dom", **SMALL}) == "update"
    assert domain.diff == {"running": "update"}
    assert connection.lookupByName("dom").isActive()


def test_a_saved_guest_goes_on_where_it_was(resource: New, connection: Any) -> None:
    """Its memory is dropped only if it ran with another definition, where libvirt could not use it."""
    domain = resource("Domain", "dom")
    domain.up({"name": "dom", **SMALL})
    there = connection.lookupByName("dom")
    there.managedSave()
    assert domain.refresh()
    assert domain.up({"name": "dom", **SMALL}) == "update"
    _state, why = there.state()
    assert why == libvirt.VIR_DOMAIN_RUNNING_RESTORED
    there.managedSave()
    assert domain.refresh()
    assert domain.up({"name": "dom", **SMALL, "memory": 80}) == "update"
    _state, why = there.state()
    assert why == libvirt.VIR_DOMAIN_RUNNING_BOOTED
    assert running(connection, "dom").findtext("memory") == "81920"


def test_changed_behind_pulumis_back(resource: New, connection: Any) -> None:
    domain = resource("Domain", "dom")
    domain.up({"name": "dom", **SMALL, "autostart": True})
    there = connection.lookupByName("dom")
    there.setMemoryFlags(96 << 10, libvirt.VIR_DOMAIN_AFFECT_CONFIG | libvirt.VIR_DOMAIN_MEM_MAXIMUM)
    there.setAutostart(0)
    assert domain.refresh()
    assert domain.up({"name": "dom", **SMALL, "autostart": True}) == "update"
    assert set(domain.diff) == {"memory", "autostart"}
    assert persistent(connection, "dom").findtext("memory") == "65536"


def test_gone_behind_pulumis_back(resource: New, connection: Any) -> None:
    domain = resource("Domain", "dom")
    domain.up({"name": "dom", **SMALL})
    there = connection.lookupByName("dom")
    there.destroy()
    there.undefine()
    assert not domain.refresh()
    assert domain.up({"name": "dom", **SMALL}) == "create"


def test_a_foreign_domain_of_that_name_is_left_alone(resource: New, connection: Any) -> None:
    foreign = connection.defineXML(
        "<domain type='qemu'><name>dom</name><memory unit='MiB'>48</memory><os><type>hvm</type></os></domain>"
    )
    before = foreign.XMLDesc(0)
    with pytest.raises(
        Failed, match=r"domain dom is already there .*; it was not touched.*pulumi import.*virsh undefine"
    ):
        resource("Domain", "dom").up({"name": "dom", **SMALL})
    assert foreign.XMLDesc(0) == before
    foreign.undefine()


def test_another_stacks_domain_of_that_name_is_left_alone(resource: New, connection: Any) -> None:
    theirs = resource("Domain", "dom", stack="urn:pulumi:other::conformance::")
    theirs.up({"name": "dom", **SMALL})
    with pytest.raises(Failed, match=r"it belongs to urn:pulumi:other::conformance::"):
        resource("Domain", "dom").up({"name": "dom", **SMALL})
    assert connection.lookupByName("dom").UUIDString() == theirs.id


def test_what_a_killed_update_made_is_taken_over(resource: New, connection: Any, words: list[str]) -> None:
    domain = resource("Domain", "dom")
    domain.up({"name": "dom", **SMALL})
    id, run = domain.id, process_of(connection, "dom")
    domain.forget()
    assert domain.up({"name": "dom", **SMALL}) == "create"
    assert (domain.id, process_of(connection, "dom")) == (id, run)
    assert "domain dom: an update that was cut short made it; it is taken over" in words
    domain.forget()
    assert domain.up({"name": "dom", "type": "qemu", "memory": 80}) == "create"  # the program changed meanwhile
    assert domain.id == id
    assert running(connection, "dom").findtext("memory") == "81920"


def test_an_import_needs_no_change(
    resource: New, connection: Any, network: Resource, volume: Callable[[str], str]
) -> None:
    """What the import tells of it makes a program that changes nothing; and it may then be changed."""
    path = volume("disk")
    made = connection.defineXML(f"""
        <domain type='qemu'><name>dom</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
        <os><type machine='pc'>hvm</type><boot dev='hd'/></os>
        <on_crash>preserve</on_crash>
        <devices>
          <disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{path}'/>
            <target dev='vda' bus='virtio'/></disk>
          <interface type='network'><source network='net'/><mac address='52:54:00:00:00:07'/></interface>
          <watchdog model='i6300esb' action='reset'/>
        </devices></domain>""")
    made.create()
    domain = resource("Domain", "dom")
    inputs = domain.take_over("dom")
    assert domain.id == made.UUIDString()
    assert inputs["disks"] == [{"volumeId": path}]
    assert inputs["networkInterfaces"] == [{"networkId": network.id, "mac": "52:54:00:00:00:07"}]
    assert domain.up(inputs) == "same"
    assert domain.up({**inputs, "memory": 80}) == "update"
    seen = running(connection, "dom")
    assert seen.findtext("memory") == "81920"
    assert seen.findtext("on_crash") == "preserve"
    assert seen.find("devices/watchdog") is not None


def test_a_preview_changes_nothing_and_keeps_what_is_known(resource: New, connection: Any) -> None:
    domain = resource("Domain", "dom")
    shown = domain.preview({"name": "dom", **SMALL})
    assert connection.listAllDomains() == []
    assert repr(shown["machine"]) == "UNKNOWN"
    domain.up({"name": "dom", **SMALL})
    machine = domain.outputs["machine"]
    shown = domain.preview({"name": "dom", **SMALL, "memory": 80})
    assert shown["machine"] == machine
    assert persistent(connection, "dom").findtext("memory") == "65536"


def test_disks_come_and_go(resource: New, connection: Any, volume: Callable[[str], str]) -> None:
    first, second = volume("first"), volume("second")
    domain = resource("Domain", "dom")
    domain.up({"name": "dom", **SMALL, "disks": [{"volumeId": first}]})
    run = process_of(connection, "dom")
    both = {"name": "dom", **SMALL, "disks": [{"volumeId": first}, {"volumeId": second}]}
    assert domain.up(both) == "update"
    assert process_of(connection, "dom") == run  # plugged in while it runs
    for seen in (running(connection, "dom"), persistent(connection, "dom")):
        assert [source.get("file") for source in seen.findall("devices/disk/source")] == [first, second]
    assert domain.refresh()
    assert domain.up(both) == "same"
    assert domain.up({"name": "dom", **SMALL, "disks": [{"volumeId": first}]}) == "update"
    assert [each.get("file") for each in running(connection, "dom").findall("devices/disk/source")] == [first]


def test_every_kind_of_disk(resource: New, connection: Any, volume: Callable[[str], str], tmp_path: Path) -> None:
    plain = tmp_path / "plain.img"
    plain.write_bytes(bytes(1 << 20))
    disc = tmp_path / "disc.iso"
    disc.write_bytes(bytes(1 << 20))
    domain = resource("Domain", "dom")
    disks = [
        {"volumeId": volume("scsi"), "scsi": True, "wwn": "5000c50015ea71ad"},
        {"file": str(plain)},
        {"file": str(disc)},
        {"url": "http://127.0.0.1:9/a/disc.iso"},
        {"blockDevice": "/dev/sampan-none"},
    ]
    inputs = {"name": "dom", **SMALL, "disks": disks, "running": False}
    domain.up(inputs)
    seen = persistent(connection, "dom").findall("devices/disk")
    by_source = {
        "".join(each.find("source").attrib.get(name, "") for name in ("file", "dev", "name")): each for each in seen
    }  # type: ignore[union-attr]
    scsi = by_source[disks[0]["volumeId"]]
    assert scsi.findtext("wwn") == "5000c50015ea71ad"
    assert persistent(connection, "dom").find("devices/controller[@type='scsi']").get("model") == "virtio-scsi"  # type: ignore[union-attr]
    shapes = {
        name: (each.get("device"), each.find("driver").get("type"), each.find("target").get("bus"))
        for name, each in by_source.items()
    }  # type: ignore[union-attr]
    assert shapes == {
        disks[0]["volumeId"]: ("disk", "qcow2", "scsi"),
        str(plain): ("disk", "raw", "virtio"),
        str(disc): ("cdrom", "raw", "ide"),
        "a/disc.iso": ("cdrom", "raw", "ide"),
        "/dev/sampan-none": ("disk", "raw", "virtio"),
    }
    assert domain.refresh()
    assert domain.up(inputs) == "same"


def test_interfaces_with_fixed_addresses(
    resource: New, connection: Any, network: Resource, subnets: tuple[str, str]
) -> None:
    four, six = subnets[0].replace("0/24", "20"), subnets[1].replace("::/64", "::20")
    mac = "52:54:00:AA:BB:01"

    def hosts() -> list[dict[str, str]]:
        return [
            dict(host.attrib) for host in ET.fromstring(connection.networkLookupByName("net").XMLDesc()).iter("host")
        ]

    plug = {"networkId": network.id, "mac": mac, "hostname": "guest", "addresses": [four, six]}
    inputs = {"name": "dom", **SMALL, "networkInterfaces": [plug]}
    domain = resource("Domain", "dom")
    domain.up(inputs)
    run = process_of(connection, "dom")
    assert hosts() == [
        {"mac": mac.lower(), "name": "guest", "ip": four},
        {"id": f"00:03:00:01:{mac.lower()}", "name": "guest", "ip": six},
    ]
    assert domain.up(inputs) == "same"
    other = {**plug, "addresses": [subnets[0].replace("0/24", "21")]}
    assert domain.up({**inputs, "networkInterfaces": [other]}) == "update"
    assert hosts() == [{"mac": mac.lower(), "name": "guest", "ip": other["addresses"][0]}]
    assert process_of(connection, "dom") == run  # the network was told, and nobody cut off
    assert domain.refresh()
    assert domain.up({**inputs, "networkInterfaces": [other]}) == "same"
    domain.delete()
    assert hosts() == []


def test_an_address_that_the_network_has_not(resource: New, connection: Any, network: Resource) -> None:
    plug = {"networkId": network.id, "addresses": ["10.1.2.3"]}
    with pytest.raises(Failed, match=r"domain dom: network net: 10.1.2.3 is not in what the network serves by DHCP"):
        resource("Domain", "dom").up({"name": "dom", **SMALL, "networkInterfaces": [plug]})
    assert connection.listAllDomains() == []


def test_interfaces_come_and_go(resource: New, connection: Any, network: Resource) -> None:
    first, second = {"networkId": network.id}, {"networkName": "net", "mac": "52:54:00:00:00:02"}
    domain = resource("Domain", "dom")
    domain.up({"name": "dom", **SMALL, "networkInterfaces": [first]})
    run, mac = process_of(connection, "dom"), domain.outputs["networkInterfaces"][0]["mac"]
    both = {"name": "dom", **SMALL, "networkInterfaces": [first, second]}
    assert domain.up(both) == "update"
    assert process_of(connection, "dom") == run
    seen = [each.get("address") for each in running(connection, "dom").findall("devices/interface/mac")]
    assert seen == [mac, "52:54:00:00:00:02"]
    assert domain.refresh()
    assert domain.up(both) == "same"
    assert domain.up({"name": "dom", **SMALL, "networkInterfaces": [first]}) == "update"
    assert [each.get("address") for each in running(connection, "dom").findall("devices/interface/mac")] == [mac]


def test_what_a_cloud_controller_plugged_in_stays(resource: New, connection: Any, volume: Callable[[str], str]) -> None:
    root, theirs, ours = volume("root"), volume("vol-1"), volume("ours")
    domain = resource("Domain", "dom")
    inputs = {"name": "dom", **SMALL, "disks": [{"volumeId": root}]}
    domain.up(inputs)
    connection.lookupByName("dom").attachDeviceFlags(
        f"""<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{theirs}'/>
        <target dev='vdb' bus='virtio'/><serial>vol-1</serial></disk>""",
        libvirt.VIR_DOMAIN_AFFECT_LIVE | libvirt.VIR_DOMAIN_AFFECT_CONFIG,
    )
    assert domain.refresh()
    assert domain.up(inputs) == "same"
    assert domain.up({**inputs, "memory": 80}) == "update"
    more = {**inputs, "memory": 80, "disks": [{"volumeId": root}, {"volumeId": ours}]}
    assert domain.up(more) == "update"
    for seen in (running(connection, "dom"), persistent(connection, "dom")):
        targets = {
            disk.find("source").get("file"): disk.find("target").get("dev")  # type: ignore[union-attr]
            for disk in seen.findall("devices/disk")
        }
        assert targets == {root: "vda", theirs: "vdb", ours: "vdc"}
        assert seen.findtext("devices/disk/serial") == "vol-1"
    assert domain.refresh()
    assert domain.up(more) == "same"


def test_devices_keep_their_places(
    resource: New, connection: Any, network: Resource, volume: Callable[[str], str]
) -> None:
    """A guest names its interfaces and disks by them."""

    def places() -> dict[str, dict[str, str]]:
        return {
            each.get("address") or each.get("file") or "": dict(device.find("address").attrib)  # type: ignore[union-attr]
            for device in persistent(connection, "dom").find("devices") or ()
            if device.tag in ("disk", "interface")
            for each in device
            if each.tag == ("mac" if device.tag == "interface" else "source")
        }

    first, second = volume("first"), volume("second")
    domain = resource("Domain", "dom")
    plugs = [{"networkId": network.id, "mac": f"52:54:00:00:01:0{number}"} for number in (1, 2, 3)]
    domain.up(
        {"name": "dom", **SMALL, "machine": "q35", "disks": [{"volumeId": second}], "networkInterfaces": plugs[:2]}
    )
    before = places()
    both = [{"volumeId": first}, {"volumeId": second}]
    domain.up({"name": "dom", **SMALL, "machine": "q35", "disks": both, "networkInterfaces": [plugs[2], *plugs[:2]]})
    after = places()
    assert {key: after[key] for key in before} == before
    assert len(after) == 5


def test_a_start_that_fails_leaves_nothing(
    resource: New, connection: Any, network: Resource, subnets: tuple[str, str]
) -> None:
    domain = resource("Domain", "dom")
    plug = {"networkId": network.id, "addresses": [subnets[0].replace("0/24", "20")]}
    with pytest.raises(Failed, match=r"domain dom cannot be started: .*none.img"):
        domain.up({"name": "dom", **SMALL, "disks": [{"file": "/none.img"}], "networkInterfaces": [plug]})
    assert connection.listAllDomains() == []
    assert "<host" not in connection.networkLookupByName("net").XMLDesc()


def test_a_restart_that_fails_is_tried_again(resource: New, connection: Any, tmp_path: Path) -> None:
    """It is there, with a new definition and switched off: saved so, and the next update starts it."""
    disk = tmp_path / "disk.raw"
    domain = resource("Domain", "dom")
    domain.up({"name": "dom", **SMALL})
    inputs = {"name": "dom", **SMALL, "memory": 80, "disks": [{"file": str(disk)}]}
    with pytest.raises(Partly, match=r"domain dom cannot be started"):
        domain.up(inputs)
    disk.write_bytes(bytes(1 << 20))
    assert domain.up(inputs) == "update"
    assert running(connection, "dom").findtext("memory") == "81920"
    assert domain.up(inputs) == "same"


def test_waiting_for_an_address_that_does_not_come(
    provider: Provider, resource: New, connection: Any, network: Resource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The domain stays, the reason is told, what is waited for was shown, and the next update waits again."""
    domain = resource("Domain", "dom")
    domain.timeout_s = 2
    plug = {"networkId": network.id, "waitForLease": True, "mac": "52:54:00:00:00:09"}
    inputs = {"name": "dom", **SMALL, "networkInterfaces": [plug]}
    with pytest.raises(Partly, match=r"no address of 52:54:00:00:00:09 on net after 2 s: its guest runs, and has not"):
        domain.up(inputs)
    assert any("waiting for an address of 52:54:00:00:00:09 on net" in line for line in provider.words.status)
    assert connection.lookupByName("dom").isActive()
    with pytest.raises(Partly):
        domain.up(inputs)
    without = {**inputs, "networkInterfaces": [{**plug, "waitForLease": False}]}
    assert domain.up(without) == "update"
    assert domain.up(without) == "same"


def test_waiting_for_an_address_that_comes(
    provider: Provider, resource: New, connection: Any, network: Resource, subnets: tuple[str, str]
) -> None:
    """The firmware's own network boot asks for a lease, so no system is needed."""
    domain = resource("Domain", "dom")
    fixed = subnets[0].replace("0/24", "77")
    plugs = [{"networkId": network.id, "waitForLease": True}, {"networkId": network.id}]
    inputs = {"name": "dom", **SMALL, "networkInterfaces": plugs, "bootDevices": [{"devs": ["network"]}]}
    assert domain.up(inputs) == "create"
    first, second = domain.outputs["networkInterfaces"]
    assert first["addresses"]
    assert all(ip_address(each) in ip_network(subnets[":" in each]) for each in first["addresses"])
    assert (first["networkName"], first["mac"] != second["mac"]) == ("net", True)
    assert domain.up(inputs) == "same"
    domain.delete()
    plugs[0] |= {"addresses": [fixed], "hostname": "guest"}
    assert domain.up(inputs) == "create"
    deadline = time.monotonic() + 60  # an IPv6 lease may be the first one
    while not (
        leases := [each for each in connection.networkLookupByName("net").DHCPLeases() if each["ipaddr"] == fixed]
    ):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert [lease["mac"] for lease in leases] == [first["mac"]]


def test_its_kernel_is_started_directly(resource: New, connection: Any, pool: Resource, tmp_path: Path) -> None:
    """From a volume's id or a path of the hypervisor; words without a value are under the key `_`."""
    (tmp_path / "kernel").write_bytes(bytes(4096))
    kernel = resource("Volume", "kernel")
    kernel.up({"name": "kernel", "pool": "pool", "source": str(tmp_path / "kernel")})
    domain = resource("Domain", "dom")
    words = [{"root": "/dev/vda"}, {"_": "ro quiet"}, {"console": "ttyS0"}]
    inputs = {
        "name": "dom",
        **SMALL,
        "running": False,
        "kernel": kernel.id,
        "initrd": "/boot/initrd",
        "cmdlines": words,
    }
    domain.up(inputs)
    seen = persistent(connection, "dom")
    assert seen.findtext("os/kernel") == kernel.id
    assert seen.findtext("os/initrd") == "/boot/initrd"
    assert seen.findtext("os/cmdline") == "root=/dev/vda ro quiet console=ttyS0"
    assert domain.refresh()
    assert domain.up(inputs) == "same"


def test_firmware(resource: New, connection: Any) -> None:
    """Its store is made, kept by an update, and gone with the domain."""
    code = "/usr/share/OVMF/OVMF_CODE_4M.fd"
    if not Path(code).exists():
        machine.apt_install(["ovmf"])  # the hypervisor itself does not need it
    domain = resource("Domain", "dom")
    inputs = {"name": "dom", **SMALL, "machine": "q35", "firmware": code}
    domain.up(inputs)
    store = domain.outputs["nvram"]["file"]
    assert persistent(connection, "dom").findtext("os/loader") == code
    assert domain.up({**inputs, "vcpu": 2}) == "update"
    assert persistent(connection, "dom").findtext("os/nvram") == store
    assert domain.refresh()
    assert domain.up({**inputs, "vcpu": 2}) == "same"


def test_shared_folders_and_firmware_data(resource: New, connection: Any, tmp_path: Path) -> None:
    domain = resource("Domain", "dom")
    folder = {"source": str(tmp_path), "target": "work", "readonly": False}
    inputs = {
        "name": "dom",
        **SMALL,
        "running": False,
        "filesystems": [folder],
        "coreosIgnition": "/var/lib/ignition.json",
        "fwCfgName": "opt/org.flatcar-linux/config",
    }
    domain.up(inputs)
    seen = persistent(connection, "dom")
    assert seen.find("devices/filesystem").get("accessmode") == "mapped"  # type: ignore[union-attr]
    assert seen.find("devices/filesystem/readonly") is None
    entry = seen.find("sysinfo/entry")
    assert entry is not None
    assert (entry.get("name"), entry.get("file")) == ("opt/org.flatcar-linux/config", "/var/lib/ignition.json")
    assert domain.refresh()
    assert domain.up(inputs) == "same"


def test_a_tpm(resource: New, connection: Any) -> None:
    domain = resource("Domain", "dom")
    tpm = {"model": "tpm-crb", "backendVersion": "2.0", "backendPersistentState": True}
    inputs = {"name": "dom", **SMALL, "machine": "q35", "running": False, "tpm": tpm}
    if shutil.which("swtpm") is None:  # an optional program of the hypervisor's
        with pytest.raises(Failed, match=r"domain dom cannot be defined: .*Debian: swtpm"):
            domain.up(inputs)
        assert connection.listAllDomains() == []
        return
    domain.up(inputs)
    backend = persistent(connection, "dom").find("devices/tpm/backend")
    assert backend is not None
    assert backend.attrib == {"type": "emulator", "version": "2.0", "persistent_state": "yes"}
    assert domain.refresh()
    assert domain.up(inputs) == "same"


def test_cloud_init_is_found_on_any_machine_type(resource: New, connection: Any, pool: Resource) -> None:
    disk = resource("CloudInitDisk", "seed")
    disk.up({"name": "seed.iso", "pool": "pool", "userData": "#cloud-config\n{}\n"})
    for kind in ("pc", "q35"):
        domain = resource("Domain", kind)
        inputs = {"name": kind, **SMALL, "machine": kind, "cloudinit": disk.id}
        domain.up(inputs)
        seen = running(connection, kind).find("devices/disk")
        assert seen is not None
        assert seen.find("source").get("file") == disk.id  # type: ignore[union-attr]
        assert seen.find("target").get("bus") == "virtio"  # type: ignore[union-attr]
        assert seen.find("readonly") is not None
        assert domain.refresh()
        assert domain.up(inputs) == "same"


def test_its_own_transformation(resource: New, connection: Any) -> None:
    sheet = """<xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform">
      <xsl:template match="@*|node()"><xsl:copy><xsl:apply-templates select="@*|node()"/></xsl:copy></xsl:template>
      <xsl:template match="/domain/vcpu"><vcpu>3</vcpu></xsl:template></xsl:stylesheet>"""
    domain = resource("Domain", "dom")
    inputs = {"name": "dom", **SMALL, "xml": {"xslt": sheet}}
    if not xslt.is_possible():
        with pytest.raises(Refused, match=r"xml.xslt.*needs lxml or the program xsltproc"):
            domain.up(inputs)
        return
    domain.up(inputs)
    assert running(connection, "dom").findtext("vcpu") == "3"
    assert domain.refresh()
    assert domain.up(inputs) == "same"
