"""A domain's definition from its properties: what each of them becomes."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import msgspec
import pytest

from infra.provider.domain_devices import Medium, Plug, derived_mac, disk_key
from infra.provider.domain_inputs import DomainInputs, rules
from infra.provider.domain_xml import Found, build, command_line, is_machine


def definition(found: Found | None = None, /, **inputs: Any) -> ET.Element:
    return build(msgspec.convert({"name": "a", "type": "qemu", **inputs}, DomainInputs), found or Found())


def elements(root: ET.Element, path: str) -> list[str]:
    return [ET.tostring(each, encoding="unicode").strip() for each in root.findall(path)]


def test_what_is_not_asked_is_left_to_libvirt() -> None:
    root = definition()
    assert root.find("cpu") is None
    assert elements(root, "os/type") == ["<type>hvm</type>"]
    assert [each.tag for each in root.findall("devices/*")] == ["rng"]  # no screen, no console, no emulator


@pytest.mark.parametrize(
    ("inputs", "path", "becomes"),
    [
        ({"memory": 2048}, "memory", ['<memory unit="MiB">2048</memory>']),
        ({"vcpu": 3}, "vcpu", ["<vcpu>3</vcpu>"]),
        ({"description": "a & b"}, "description", ["<description>a &amp; b</description>"]),
        ({"arch": "aarch64", "machine": "virt"}, "os/type", ['<type arch="aarch64" machine="virt">hvm</type>']),
        ({"arch": "aarch64"}, "features/apic", []),
        ({"cpu": {"mode": "host-passthrough"}}, "cpu", ['<cpu mode="host-passthrough" />']),
        ({"firmware": "/a.fd"}, "os/loader", ['<loader readonly="yes" type="pflash">/a.fd</loader>']),
        (
            {"firmware": "/a.fd", "nvram": {"file": "/b.fd", "template": "/c.fd"}},
            "os/nvram",
            ['<nvram template="/c.fd">/b.fd</nvram>'],
        ),
        ({"firmware": "efi"}, "os/loader", []),
        (
            {"bootDevices": [{"devs": ["cdrom", "hd"]}, {"devs": ["network"]}]},
            "os/boot",
            [f'<boot dev="{name}" />' for name in ("cdrom", "hd", "network")],
        ),
        (
            {"filesystems": [{"source": "/a", "target": "b"}]},
            "devices/filesystem",
            [
                '<filesystem type="mount" accessmode="mapped"><source dir="/a" /><target dir="b" />'
                "<readonly /></filesystem>"
            ],
        ),
        (
            {"consoles": [{"type": "file", "targetPort": "0", "sourcePath": "/a.log"}]},
            "devices/console",
            ['<console type="file"><source path="/a.log" append="on" /><target type="serial" port="0" /></console>'],
        ),
        (
            {"consoles": [{"type": "unix", "targetPort": "0", "sourcePath": "/a", "targetType": "virtio"}]},
            "devices/console",
            ['<console type="unix"><source mode="bind" path="/a" /><target type="virtio" port="0" /></console>'],
        ),
        (
            {"consoles": [{"type": "tcp", "targetPort": "0"}]},
            "devices/console",
            [
                '<console type="tcp"><source mode="bind" host="127.0.0.1" service="0" />'
                '<protocol type="telnet" /><target type="serial" port="0" /></console>'
            ],
        ),
        (
            {"graphics": {"type": "vnc", "listenType": "address", "listenAddress": "::1", "websocket": 5700}},
            "devices/graphics",
            ['<graphics type="vnc" autoport="yes" websocket="5700"><listen type="address" address="::1" /></graphics>'],
        ),
        (
            {"graphics": {}},
            "devices/graphics",
            ['<graphics type="spice" autoport="yes"><listen type="none" /></graphics>'],
        ),
        ({"video": {"type": "virtio"}}, "devices/video", ['<video><model type="virtio" /></video>']),
        (
            {"tpm": {"model": "tpm-tis", "backendType": "passthrough", "backendDevicePath": "/dev/tpm0"}},
            "devices/tpm",
            ['<tpm model="tpm-tis"><backend type="passthrough"><device path="/dev/tpm0" /></backend></tpm>'],
        ),
        (
            {"tpm": {"backendVersion": "2.0", "backendPersistentState": False, "backendEncryptionSecret": "uuid"}},
            "devices/tpm",
            [
                '<tpm><backend type="emulator" version="2.0" persistent_state="no">'
                '<encryption secret="uuid" /></backend></tpm>'
            ],
        ),
        (
            {"metadata": '<a xmlns="urn:b">c</a>'},
            "metadata/*",
            ['<ns0:a xmlns:ns0="urn:b">c</ns0:a>'],
        ),
    ],
)
def test_a_property(inputs: dict[str, Any], path: str, becomes: list[str]) -> None:
    assert elements(definition(**inputs), path) == becomes


def test_words_of_the_kernel() -> None:
    domain = msgspec.convert(
        {"cmdlines": [{"root": "/dev/vda", "_": "ro"}, {"_": "quiet nosplash"}, {"a": "b"}]}, DomainInputs
    )
    assert command_line(domain) == "root=/dev/vda ro quiet nosplash a=b"


def test_disks_go_by_their_bus() -> None:
    found = Found(
        disks=(
            Medium("file", "/a.qcow2", "qcow2"),
            Medium("block", "/dev/b", wwn="5" + "0" * 15),
            Medium("file", "/c.iso"),
            Medium("network", "https://d.test/e/f.iso?g=h"),
            Medium("file", "/i.raw"),
        ),
        cloudinit="/seed.iso",
    )
    disks = [
        {"volumeId": "/a.qcow2"},
        {"blockDevice": "/dev/b", "scsi": True},
        {"file": "/c.iso"},
        {"url": "https://d.test/e/f.iso?g=h"},
        {"file": "/i.raw"},
    ]
    for machine, cdrom in (("pc", ("ide", "hda", "hdb")), ("q35", ("sata", "sdb", "sdc"))):
        root = definition(found, disks=disks, machine=machine)
        seen = {
            disk_key(each): (each.find("target").get("bus"), each.find("target").get("dev"))
            for each in root.findall("devices/disk")
        }  # type: ignore[union-attr]
        assert seen == {
            "disk /a.qcow2": ("virtio", "vda"),
            "disk /dev/b": ("scsi", "sda"),
            "disk /c.iso": (cdrom[0], cdrom[1]),
            "disk https://d.test:443/e/f.iso?g=h": (cdrom[0], cdrom[2]),
            "disk /i.raw": ("virtio", "vdb"),
            "disk /seed.iso": ("virtio", "vdz"),
        }
        assert [each.text for each in root.findall("devices/disk/wwn")] == ["5" + "0" * 15]
        assert root.find("devices/controller[@model='virtio-scsi']") is not None


def test_a_q35_machine_has_room_for_what_is_plugged_in_later() -> None:
    assert len(definition(machine="q35").findall("devices/controller[@model='pcie-root-port']")) == 16
    assert definition(machine="pc").findall("devices/controller") == []


@pytest.mark.parametrize(
    ("plug", "becomes"),
    [
        (Plug("52:54:00:00:00:01", "network", "net"), '<source network="net" />'),
        (Plug("52:54:00:00:00:01", "bridge", "br0"), '<source bridge="br0" />'),
        (Plug("52:54:00:00:00:01", "direct", "eth0", "passthrough"), '<source dev="eth0" mode="passthrough" />'),
    ],
)
def test_an_interface(plug: Plug, becomes: str) -> None:
    assert elements(definition(Found(plugs=(plug,))), "devices/interface/source") == [becomes]


def test_a_mac_of_ours_is_always_the_same() -> None:
    assert derived_mac("urn", "here", 0) == derived_mac("urn", "here", 0)
    assert len({derived_mac(urn, origin, index) for urn in "ab" for origin in "cd" for index in (0, 1)}) == 8
    assert derived_mac("urn", "here", 0).startswith("52:54:00:")


@pytest.mark.parametrize(
    ("asked", "machine", "is_it"),
    [
        ("q35", "pc-q35-7.2", True),
        ("pc", "pc-i440fx-7.2", True),
        ("pc", "pc-q35-7.2", False),
        ("pc-q35-7.2", "pc-q35-7.2", True),
        ("pc-q35-7", "pc-q35-7.2", False),
    ],
)
def test_machine_types(asked: str, machine: str, is_it: bool) -> None:
    assert is_machine(asked, machine) is is_it


PLUG = {"networkName": "net"}


@pytest.mark.parametrize(
    ("inputs", "path"),
    [
        ({"name": "a/b"}, "name"),
        ({"initrd": "/i"}, "initrd"),
        ({"cmdlines": [{"a": "b"}]}, "cmdlines"),
        ({"kernel": "/k", "cmdlines": [{"a": "b c"}]}, "cmdlines[0]"),
        ({"nvram": {"file": "/f"}}, "nvram"),
        ({"metadata": "<a>"}, "metadata"),
        ({"metadata": "<a/>"}, "metadata"),
        ({"disks": [{}]}, "disks[0]"),
        ({"disks": [{"file": "/a", "url": "http://b/c"}]}, "disks[0]"),
        ({"disks": [{"file": "a"}]}, "disks[0].file"),
        ({"disks": [{"blockDevice": "a"}]}, "disks[0].blockDevice"),
        ({"disks": [{"url": "nfs://a/b"}]}, "disks[0].url"),
        ({"disks": [{"file": "/a", "wwn": "5" * 16}]}, "disks[0].wwn"),
        ({"disks": [{"file": "/a", "scsi": True, "wwn": "5"}]}, "disks[0].wwn"),
        ({"networkInterfaces": [{}]}, "networkInterfaces[0]"),
        ({"networkInterfaces": [{"bridge": "a", "macvtap": "b"}]}, "networkInterfaces[0]"),
        ({"networkInterfaces": [{**PLUG, "mac": "52-54"}]}, "networkInterfaces[0].mac"),
        ({"networkInterfaces": [{**PLUG, "addresses": ["10.0.0.1/24"]}]}, "networkInterfaces[0].addresses[0]"),
        ({"networkInterfaces": [{"bridge": "a", "addresses": ["10.0.0.1"]}]}, "networkInterfaces[0].addresses"),
        ({"networkInterfaces": [{"vepa": "a", "waitForLease": True}]}, "networkInterfaces[0].waitForLease"),
        ({"consoles": [{"type": "file", "targetPort": "0"}]}, "consoles[0].sourcePath"),
        ({"consoles": [{"type": "pty", "targetPort": "a"}]}, "consoles[0].targetPort"),
        ({"tpm": {"backendType": "passthrough"}}, "tpm.backendDevicePath"),
        ({"tpm": {"backendDevicePath": "/dev/tpm0"}}, "tpm.backendDevicePath"),
    ],
)
def test_what_is_refused(inputs: dict[str, Any], path: str) -> None:
    assert [each.path for each in rules(msgspec.convert(inputs, DomainInputs))] == [path]


@pytest.mark.parametrize(
    "inputs",
    [
        {},
        {"networkInterfaces": [{"networkName": "a", "networkId": "b", "addresses": ["10.0.0.1", "fd00::1"]}]},
        {"networkInterfaces": [{"bridge": "a", "waitForLease": True}], "qemuAgent": True},
        {"kernel": "/k", "initrd": "/i", "cmdlines": [{"a": "b", "_": "c d"}]},
        {"disks": [{"file": "/a", "scsi": True, "wwn": "5" * 16}]},
    ],
)
def test_what_is_not_refused(inputs: dict[str, Any]) -> None:
    assert list(rules(msgspec.convert(inputs, DomainInputs))) == []
