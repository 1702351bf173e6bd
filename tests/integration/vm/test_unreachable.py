"""Why a machine does not answer, as far as its hypervisor knows: real libvirt, and guests of a boot sector."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infra.hypervisor.libvirtd import Libvirtd
from infra.libvirt import nodes
from infra.libvirt.arguments import domain_name
from infra.provider import binding
from infra.topology import LIBVIRT, Topology
from tests.e2e.lab import eventually
from tests.integration.own_libvirtd import own_libvirtd

LAB = Topology(name="mute", backend=LIBVIRT, workers=0)
NAME = domain_name(LAB.name, LAB.control_plane.name)
DOMAIN = """\
<domain type='qemu'><name>{name}</name><memory unit='MiB'>16</memory><os><type machine='pc'>hvm</type></os>
<devices><disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{disk}'/>
<target dev='hda' bus='ide'/></disk></devices></domain>"""
# Real mode, at 0x7c00: writes 32 KiB after 32 KiB to the disk (int 0x13, function 0x43) for ever.
WRITER = bytes.fromhex(
    "31c0 8ed8"  # xor ax, ax; mov ds, ax
    "be207c b80043 b280 cd13"  # mov si, packet; mov ax, 0x4300; mov dl, 0x80; int 0x13
    "8306287c40"  # add word [packet + 8], 64
    "ebef"  # from the first of them again
)
PACKET = bytes.fromhex("1000 4000 0080 0000 4000000000000000")  # 64 sectors from 0:0x8000, to sector 64 and on
PACKET_AT = 0x20


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("small")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture(scope="module")
def libvirtd(small_disk: Path) -> Iterator[Libvirtd]:
    with own_libvirtd() as made:
        yield made


@pytest.fixture
def domain(libvirtd: Libvirtd, small_disk: Path) -> Iterator[Any]:
    sector = WRITER.ljust(PACKET_AT, b"\x90") + PACKET
    raw, disk = small_disk / "raw", small_disk / "disk.qcow2"
    raw.write_bytes(sector.ljust(510, b"\0") + b"\x55\xaa")
    os.truncate(raw, 16 << 20)
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, disk], check=True)
    connection = binding.connect(libvirtd.uri)
    made = connection.defineXML(DOMAIN.format(name=NAME, disk=disk))
    yield made
    if made.isActive():
        made.destroy()
    made.undefine()


def why(libvirtd: Libvirtd) -> str:
    return nodes.trouble(LAB, replace(LAB.control_plane, hypervisor=libvirtd.uri))


def test_one_that_was_switched_off(libvirtd: Libvirtd, domain: Any) -> None:
    domain.create()
    domain.destroy()
    assert why(libvirtd) == "Its machine is off: it was switched off. Run it again with --refresh: that starts it"


def test_one_whose_disk_has_no_room_left_on_its_host(libvirtd: Libvirtd, domain: Any) -> None:
    domain.create()
    said = eventually(lambda: why(libvirtd), "QEMU halts the guest", timeout_s=120)
    assert said.startswith("Its machine has stopped: no space is left for its disk hda. Make room in its pool, then: ")
    assert said.endswith(f"virsh resume {NAME}")


def test_one_whose_hypervisor_is_gone(tmp_path: Path) -> None:
    nowhere = replace(LAB.control_plane, hypervisor=f"qemu:///system?socket={tmp_path}/none")
    assert nodes.trouble(LAB, nowhere).startswith("Its hypervisor does not answer: ")


def test_one_that_is_gone_tells_nothing(libvirtd: Libvirtd) -> None:
    assert why(libvirtd) == ""
