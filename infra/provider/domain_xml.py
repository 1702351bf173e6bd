"""A domain's definition, built from its properties and from what was looked up for them. Pure.

What libvirt chooses well is left to it: addresses on buses, the emulator, the machine type. Unlike the upstream
provider's: the cloud-init image is a read-only virtio disk, found on any machine type and by kernels without IDE and
SATA drivers; there is no screen unless `graphics` asks for one; a q35 machine has free slots for disks and
interfaces that are plugged in while it runs. Source: https://libvirt.org/formatdomain.html
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass

from infra.provider.domain_devices import Medium, Plug, disk_elements, interface_element
from infra.provider.domain_inputs import Console, DomainInputs, Graphics, Tpm

AUTOMATIC_FIRMWARE = ("efi", "bios")
X86 = ("", "x86_64", "i686")  # not given: the host's, and libvirt says if it does not fit
MACHINE_ALIASES = {"pc": "pc-i440fx-", "q35": "pc-q35-"}
SPARE_PORTS = 16


@dataclass(frozen=True, slots=True)
class Found:
    """What the properties refer to, as libvirt knows it."""

    disks: tuple[Medium, ...] = ()
    plugs: tuple[Plug, ...] = ()
    cloudinit: str = ""  # path of the image
    kernel: str = ""
    initrd: str = ""
    ignition: str = ""


def build(domain: DomainInputs, found: Found) -> ET.Element:
    root = ET.Element("domain", type=domain.type)
    ET.SubElement(root, "name").text = domain.name
    if domain.description:
        ET.SubElement(root, "description").text = domain.description
    metadata = ET.SubElement(root, "metadata")
    metadata.extend(ET.fromstring(f"<metadata>{domain.metadata}</metadata>"))
    ET.SubElement(root, "memory", unit="MiB").text = str(domain.memory)
    ET.SubElement(root, "vcpu").text = str(domain.vcpu)
    if found.ignition:
        firmware_data = ET.SubElement(root, "sysinfo", type="fwcfg")
        ET.SubElement(firmware_data, "entry", name=domain.fw_cfg_name, file=found.ignition)
    _os(root, domain, found)
    features = ET.SubElement(root, "features")
    ET.SubElement(features, "acpi")
    if domain.arch in X86:
        ET.SubElement(features, "apic")
        ET.SubElement(features, "pae")
    if domain.cpu.mode:
        ET.SubElement(root, "cpu", mode=domain.cpu.mode)
    ET.SubElement(root, "clock", offset="utc")
    _devices(ET.SubElement(root, "devices"), domain, found)
    return root


def is_machine(asked: str, machine: str) -> bool:
    """Whether a machine type as libvirt has it (`pc-q35-7.2`) is the one that was asked for (`q35`)."""
    return machine == asked or machine.startswith(MACHINE_ALIASES.get(asked, asked + "\0"))


def is_q35(machine: str) -> bool:
    return "q35" in machine


def command_line(domain: DomainInputs) -> str:
    """The kernel's words in their order; under the key `_` are those without a value."""
    words = (value if key == "_" else f"{key}={value}" for group in domain.cmdlines for key, value in group.items())
    return " ".join(words)


def _os(root: ET.Element, domain: DomainInputs, found: Found) -> None:
    automatic = {"firmware": domain.firmware} if domain.firmware in AUTOMATIC_FIRMWARE else {}
    os = ET.SubElement(root, "os", automatic)
    given = {"arch": domain.arch, "machine": domain.machine}
    ET.SubElement(os, "type", {name: value for name, value in given.items() if value}).text = "hvm"
    if domain.firmware and not automatic:
        ET.SubElement(os, "loader", readonly="yes", type="pflash").text = domain.firmware
    if domain.nvram.file or domain.nvram.template:
        template = {"template": domain.nvram.template} if domain.nvram.template else {}
        ET.SubElement(os, "nvram", template).text = domain.nvram.file or None
    for tag, path in (("kernel", found.kernel), ("initrd", found.initrd)):
        if path:
            ET.SubElement(os, tag).text = path
    if domain.cmdlines:
        ET.SubElement(os, "cmdline").text = command_line(domain)
    for device in domain.boot_devices:
        for name in device.devs:
            ET.SubElement(os, "boot", dev=name)


def _devices(devices: ET.Element, domain: DomainInputs, found: Found) -> None:
    if domain.emulator:
        ET.SubElement(devices, "emulator").text = domain.emulator
    devices.extend(disk_elements(domain.disks, found.disks, found.cloudinit, is_q35=is_q35(domain.machine)))
    if any(disk.scsi for disk in domain.disks):
        ET.SubElement(devices, "controller", type="scsi", index="0", model="virtio-scsi")
    if is_q35(domain.machine):
        ET.SubElement(devices, "controller", type="pci", index="0", model="pcie-root")
        for _ in range(SPARE_PORTS):
            ET.SubElement(devices, "controller", type="pci", model="pcie-root-port")
    for filesystem in domain.filesystems:
        element = ET.SubElement(devices, "filesystem", type="mount", accessmode=filesystem.accessmode)
        ET.SubElement(element, "source", dir=filesystem.source)
        ET.SubElement(element, "target", dir=filesystem.target)
        if filesystem.readonly:
            ET.SubElement(element, "readonly")
    devices.extend(interface_element(plug) for plug in found.plugs)
    for index, console in enumerate(domain.consoles):
        _console(devices, console, is_first=index == 0)
    if domain.qemu_agent:
        channel = ET.SubElement(devices, "channel", type="unix")
        ET.SubElement(channel, "target", type="virtio", name="org.qemu.guest_agent.0")
    if domain.tpm is not None:
        _tpm(devices, domain.tpm)
    if domain.graphics is not None:
        _graphics(devices, domain.graphics)
    if domain.video is not None:
        ET.SubElement(ET.SubElement(devices, "video"), "model", type=domain.video.type)
    rng = ET.SubElement(devices, "rng", model="virtio")
    ET.SubElement(rng, "backend", model="random").text = "/dev/urandom"


def _console(devices: ET.Element, console: Console, *, is_first: bool) -> None:
    element = ET.SubElement(devices, "console", type=console.type)
    if console.type == "tcp":
        ET.SubElement(element, "source", mode="bind", host=console.source_host, service=console.source_service)
        ET.SubElement(element, "protocol", type="telnet")
    elif console.type == "unix":
        ET.SubElement(element, "source", mode="bind", path=console.source_path)
    elif console.type == "file":
        ET.SubElement(element, "source", path=console.source_path, append="on")
    elif console.source_path:
        ET.SubElement(element, "source", path=console.source_path)
    kind = console.target_type or ("serial" if is_first else "virtio")
    ET.SubElement(element, "target", type=kind, port=console.target_port)


def _tpm(devices: ET.Element, tpm: Tpm) -> None:
    element = ET.SubElement(devices, "tpm", {"model": tpm.model} if tpm.model else {})
    backend = ET.SubElement(element, "backend", type=tpm.backend_type)
    if tpm.backend_type == "passthrough":
        ET.SubElement(backend, "device", path=tpm.backend_device_path)
        return
    if tpm.backend_version:
        backend.set("version", tpm.backend_version)
    if tpm.backend_persistent_state is not None:
        backend.set("persistent_state", "yes" if tpm.backend_persistent_state else "no")
    if tpm.backend_encryption_secret:
        ET.SubElement(backend, "encryption", secret=tpm.backend_encryption_secret)


def _graphics(devices: ET.Element, graphics: Graphics) -> None:
    element = ET.SubElement(devices, "graphics", type=graphics.type)
    if graphics.type in ("vnc", "spice", "rdp"):
        element.set("autoport", "yes" if graphics.autoport else "no")
        listen: dict[str, str] = {"type": graphics.listen_type}
        if graphics.listen_type == "address":
            listen["address"] = graphics.listen_address
        ET.SubElement(element, "listen", listen)
    if graphics.websocket is not None:
        element.set("websocket", str(graphics.websocket))
