"""A domain's properties as the SDK spells them, and the rules that go beyond their types."""

from __future__ import annotations

import ipaddress
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec

from infra.provider import xslt
from infra.provider.network_xml import Part, Xml
from infra.provider.resource import Failure

MAC = re.compile(r"^([0-9a-f]{2}:){5}[0-9a-f]{2}$")
WWN = re.compile(r"^[0-9a-f]{16}$")
NAME = re.compile(r"^[^/\n]+$")
ANSWERED_BY_LIBVIRT = ("networkId", "networkName")
PLUGS = ("networkId", "networkName", "bridge", "vepa", "macvtap", "passthrough")
MEDIA = ("volumeId", "file", "url", "blockDevice")


class BootDevice(Part, frozen=True):
    devs: tuple[Literal["fd", "hd", "cdrom", "network"], ...] = ()


class Console(Part, frozen=True):
    type: Literal["pty", "tcp", "file", "unix"]
    target_port: str
    source_host: str = "127.0.0.1"
    source_path: str = ""
    source_service: str = "0"
    target_type: str = ""


class Cpu(Part, frozen=True):
    mode: Literal["custom", "host-model", "host-passthrough", "maximum"] | None = None


class Disk(Part, frozen=True):
    block_device: str = ""
    file: str = ""
    scsi: bool = False
    url: str = ""
    volume_id: str = ""
    wwn: str = ""


class Filesystem(Part, frozen=True):
    source: str
    target: str
    accessmode: Literal["mapped", "passthrough", "squash"] = "mapped"
    readonly: bool = True


class Graphics(Part, frozen=True):
    autoport: bool = True
    listen_address: str = "127.0.0.1"
    listen_type: Literal["none", "address", "network", "socket"] = "none"
    type: Literal["vnc", "spice", "sdl", "rdp", "egl-headless", "dbus"] = "spice"
    websocket: int | None = None


class Interface(Part, frozen=True):
    addresses: tuple[str, ...] = ()
    bridge: str = ""
    hostname: str = ""
    mac: str = ""
    macvtap: str = ""
    network_id: str = ""
    network_name: str = ""
    passthrough: str = ""
    vepa: str = ""
    wait_for_lease: bool = False


class Nvram(Part, frozen=True):
    file: str = ""
    template: str = ""


class Tpm(Part, frozen=True):
    backend_device_path: str = ""
    backend_encryption_secret: str = ""
    backend_persistent_state: bool | None = None
    backend_type: Literal["emulator", "passthrough"] = "emulator"
    backend_version: str = ""
    model: str = ""


class Video(Part, frozen=True):
    type: str = "cirrus"


class DomainInputs(Part, frozen=True):
    arch: str = ""
    autostart: bool = False
    boot_devices: tuple[BootDevice, ...] = ()
    cloudinit: str = ""
    cmdlines: tuple[dict[str, str], ...] = ()
    consoles: tuple[Console, ...] = ()
    coreos_ignition: str = ""
    cpu: Cpu = Cpu()
    description: str = ""
    disks: tuple[Disk, ...] = ()
    emulator: str = ""
    filesystems: tuple[Filesystem, ...] = ()
    firmware: str = ""
    fw_cfg_name: str = "opt/com.coreos/config"
    graphics: Graphics | None = None
    initrd: str = ""
    kernel: str = ""
    machine: str = ""
    memory: Annotated[int, msgspec.Meta(ge=1)] = 512
    metadata: str = ""
    name: str = ""
    network_interfaces: tuple[Interface, ...] = ()
    nvram: Nvram = Nvram()
    qemu_agent: bool = False
    running: bool = True
    tpm: Tpm | None = None
    type: str = "kvm"
    vcpu: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 1
    video: Video | None = None
    xml: Xml = Xml()


def rules(domain: DomainInputs) -> Iterator[Failure]:
    if domain.name and not NAME.match(domain.name):
        yield Failure("name", "must have no slash and no line break")
    if domain.xml.xslt and not xslt.is_possible():
        yield Failure("xml.xslt", "needs lxml or the program xsltproc (Debian: xsltproc), and neither is there")
    yield from _boot(domain)
    yield from _metadata(domain)
    for index, disk in enumerate(domain.disks):
        yield from _disk(f"disks[{index}]", disk)
    for index, interface in enumerate(domain.network_interfaces):
        yield from _interface(f"networkInterfaces[{index}]", interface, has_agent=domain.qemu_agent)
    for index, console in enumerate(domain.consoles):
        if console.type in ("file", "unix") and not console.source_path:
            yield Failure(f"consoles[{index}].sourcePath", f"a console of type {console.type} needs a path")
        if not console.target_port.isdigit():
            yield Failure(f"consoles[{index}].targetPort", "must be a number")
    if domain.tpm is not None:
        yield from _tpm(domain.tpm)


def _boot(domain: DomainInputs) -> Iterator[Failure]:
    if domain.initrd and not domain.kernel:
        yield Failure("initrd", "needs a kernel: libvirt loads both", ("kernel",))
    if domain.cmdlines and not domain.kernel:
        yield Failure("cmdlines", "are a kernel's, and there is none: set `kernel`", ("kernel",))
    for index, words in enumerate(domain.cmdlines):
        for key, value in words.items():
            if re.search(r"\s", key) or (key != "_" and re.search(r"\s", value) and '"' not in value):
                yield Failure(f"cmdlines[{index}]", f"{key}: a word with blanks must be quoted, as the kernel wants it")
    if (domain.nvram.file or domain.nvram.template) and not domain.firmware:
        yield Failure("nvram", "is a firmware's store, and there is none: set `firmware`", ("firmware",))


def _metadata(domain: DomainInputs) -> Iterator[Failure]:
    if not domain.metadata:
        return
    try:
        elements = list(ET.fromstring(f"<metadata>{domain.metadata}</metadata>"))
    except ET.ParseError as error:
        yield Failure("metadata", f"must be XML elements ({error})")
        return
    if any(not element.tag.startswith("{") for element in elements):
        yield Failure("metadata", "each element must have a name space of its own, as libvirt wants it")


def _disk(path: str, disk: Disk) -> Iterator[Failure]:
    media = [disk.volume_id, disk.file, disk.url, disk.block_device]
    if sum(map(bool, media)) != 1:
        yield Failure(path, f"must have one of {', '.join(MEDIA)}", tuple(f"{path}.{each}" for each in MEDIA))
    if disk.wwn and not disk.scsi:
        yield Failure(f"{path}.wwn", "only a SCSI disk has one: set `scsi` to true")
    elif disk.wwn and not WWN.match(disk.wwn):
        yield Failure(f"{path}.wwn", "must be 16 hexadecimal digits, in lower case")
    if disk.url and not disk.url.startswith(("http://", "https://", "ftp://", "ftps://", "tftp://")):
        yield Failure(f"{path}.url", "must be an http, https, ftp, ftps or tftp URL")
    for name, place in (("file", disk.file), ("blockDevice", disk.block_device)):
        if place and not place.startswith("/"):
            yield Failure(f"{path}.{name}", "must be a full path on the hypervisor")


def _interface(path: str, interface: Interface, *, has_agent: bool) -> Iterator[Failure]:
    named = msgspec.to_builtins(interface)
    plugs = [name for name in PLUGS if named[name]]
    if len(plugs) != 1 and set(plugs) != set(ANSWERED_BY_LIBVIRT):
        yield Failure(path, f"must have one of {', '.join(PLUGS)}", tuple(f"{path}.{each}" for each in PLUGS))
    if interface.mac and not MAC.match(interface.mac.lower()):
        yield Failure(f"{path}.mac", "must be a MAC address such as 52:54:00:12:34:56")
    is_ours = any(name in plugs for name in ANSWERED_BY_LIBVIRT)
    for index, address in enumerate(interface.addresses):
        try:
            ipaddress.ip_address(address)
        except ValueError:
            yield Failure(f"{path}.addresses[{index}]", "must be an IP address, without a prefix")
    if plugs and interface.addresses and not is_ours:
        yield Failure(
            f"{path}.addresses", f"libvirt gives no addresses on a {plugs[0]}: use a network, or leave them out"
        )
    if plugs and interface.wait_for_lease and not is_ours and not has_agent:
        yield Failure(
            f"{path}.waitForLease",
            f"on a {plugs[0]} only the guest's agent knows its addresses: set `qemuAgent` to true",
        )


def _tpm(tpm: Tpm) -> Iterator[Failure]:
    if tpm.backend_type == "passthrough" and not tpm.backend_device_path:
        yield Failure("tpm.backendDevicePath", "a TPM of type passthrough needs the host's device, such as /dev/tpm0")
    if tpm.backend_type == "passthrough":
        for name, value in (
            ("backendVersion", tpm.backend_version),
            ("backendEncryptionSecret", tpm.backend_encryption_secret),
            ("backendPersistentState", tpm.backend_persistent_state),
        ):
            if value:
                yield Failure(f"tpm.{name}", "is for a TPM of type emulator")
    elif tpm.backend_device_path:
        yield Failure("tpm.backendDevicePath", "is for a TPM of type passthrough")
