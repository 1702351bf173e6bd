"""A domain as libvirt has it, in the SDK's properties: for a refresh, an import, and the outputs."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import msgspec

from infra.provider import marks, waiting
from infra.provider.binding import libvirt
from infra.provider.domain_devices import CLOUDINIT_TARGET, disk_key, mac_of, target_of
from infra.provider.domain_inputs import DomainInputs
from infra.provider.domain_xml import command_line, is_machine
from infra.provider.properties import Values
from infra.provider.resource import Context
from infra.provider.storage import find_volume

KIB = 1024


def observed(context: Context, domain: Any, inputs: Values) -> Values:
    """Every property that can be seen; None for one that is not set."""
    root = ET.fromstring(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
    asked = msgspec.convert(inputs, DomainInputs, strict=False) if inputs else DomainInputs()
    seen = parse(root)
    seen |= {"running": bool(domain.isActive()), "autostart": bool(domain.autostart())}
    if asked.machine and is_machine(asked.machine, str(seen["machine"])):
        seen["machine"] = asked.machine
    if asked.metadata and seen["metadata"] and _canonical(asked.metadata) == _canonical(seen["metadata"]):
        seen["metadata"] = asked.metadata
    if seen["cmdline"] == command_line(asked) and inputs.get("cmdlines"):
        seen["cmdlines"] = inputs["cmdlines"]
    if seen["boot"] == [name for device in asked.boot_devices for name in device.devs] and asked.boot_devices:
        seen["bootDevices"] = inputs["bootDevices"]
    del seen["cmdline"], seen["boot"]
    if inputs:
        there = {disk_key(disk).removeprefix("disk ") for disk in root.findall("devices/disk")}
        seen["disks"] = [
            disk for disk in inputs.get("disks") or [] if _path_of(context, disk) in there or disk.get("url")
        ]
        seen["networkInterfaces"] = [
            interface
            for interface, element in _pairs(inputs.get("networkInterfaces") or [], root)
            if element is not None
        ]
        if asked.cloudinit:
            seen["cloudinit"] = inputs["cloudinit"] if asked.cloudinit.partition(";")[0] in there else None
        for name, id in (("kernel", asked.kernel), ("initrd", asked.initrd)):
            if id and _volume_path(context, id) == seen[name]:
                seen[name] = id
    else:
        seen |= {"arch": None, "emulator": None}  # the host's own, unless a program says otherwise
        if seen["cpu"] == {"mode": "custom"}:
            seen["cpu"] = None  # what libvirt puts there when nobody asks
        if seen["bootDevices"] == [{"devs": ["hd"]}]:
            seen["bootDevices"] = None
        if not seen["firmware"]:
            seen["nvram"] = None
        seen["disks"] = [_imported_disk(context, disk) for disk in _plain_disks(root)] or None
        seen["networkInterfaces"] = [
            _imported_interface(context, each) for each in root.findall("devices/interface")
        ] or None
    return seen


def parse(root: ET.Element) -> Values:
    """Of a persistent definition, without what has to be looked up; `cmdline` and `boot` as libvirt has them."""
    kind, cpu, nvram = root.find("os/type"), root.find("cpu"), root.find("os/nvram")
    os, loader = root.find("os"), root.findtext("os/loader")
    firmware = None if os is None else (os.get("firmware") or loader)
    return {
        "name": root.findtext("name"),
        "type": root.get("type"),
        "description": root.findtext("description"),
        "metadata": _metadata(root),
        "memory": int(root.findtext("memory") or 0) // KIB,
        "vcpu": int(root.findtext("vcpu") or 1),
        "arch": None if kind is None else kind.get("arch"),
        "machine": None if kind is None else kind.get("machine"),
        "emulator": root.findtext("devices/emulator"),
        "firmware": firmware,
        "nvram": None if nvram is None else _given(file=nvram.text, template=nvram.get("template")),
        "kernel": root.findtext("os/kernel"),
        "initrd": root.findtext("os/initrd"),
        "cmdline": root.findtext("os/cmdline") or "",
        "cmdlines": _words(root.findtext("os/cmdline")),
        "boot": [each.get("dev", "") for each in root.findall("os/boot")],
        "bootDevices": [{"devs": [each.get("dev", "")]} for each in root.findall("os/boot")] or None,
        "cpu": None if cpu is None else _given(mode=cpu.get("mode")),
        "cloudinit": _cloudinit(root),
        "qemuAgent": root.find("devices/channel/target[@name='org.qemu.guest_agent.0']") is not None,
        "consoles": [_console(each) for each in root.findall("devices/console")] or None,
        "filesystems": [_filesystem(each) for each in root.findall("devices/filesystem")] or None,
        "graphics": _graphics(root.find("devices/graphics")),
        "video": _given(type=_attribute(root, "devices/video/model", "type")) or None,
        "tpm": _tpm(root.find("devices/tpm")),
    }


def outputs_of(domain: Any, inputs: Values, before: Values) -> Values:
    """The inputs, and what libvirt chose. Addresses that the program gave stay; others are those leased now."""
    root = ET.fromstring(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
    seen = parse(root)
    chosen = {name: seen[name] or "" for name in ("arch", "machine", "emulator")}
    outputs = {**inputs, **{name: inputs.get(name) or value for name, value in chosen.items()}}
    outputs["cpu"] = inputs.get("cpu") or seen["cpu"] or {}
    outputs["nvram"] = inputs.get("nvram") or seen["nvram"] or {}
    given = inputs.get("networkInterfaces") or []
    if given:
        leased = waiting.addresses(domain, has_agent=False)
        earlier = before.get("networkInterfaces") or []
        outputs["networkInterfaces"] = [
            _interface_outputs(interface, element, leased, earlier[index] if index < len(earlier) else {})
            for index, (interface, element) in enumerate(_pairs(given, root))
        ]
    return outputs


def _interface_outputs(
    interface: Values, element: ET.Element | None, leased: dict[str, tuple[str, ...]], before: Values
) -> Values:
    mac = interface.get("mac") or ("" if element is None else mac_of(element))
    source = None if element is None else element.find("source")
    network = "" if source is None else source.get("network", "")
    return {
        **interface,
        "mac": mac,
        "hostname": interface.get("hostname") or before.get("hostname", ""),
        "networkName": interface.get("networkName") or network,
        "networkId": interface.get("networkId") or before.get("networkId", ""),
        "addresses": interface.get("addresses") or list(leased.get(mac, ())) or before.get("addresses") or [],
    }


def _pairs(interfaces: list[Values], root: ET.Element) -> list[tuple[Values, ET.Element | None]]:
    """Each interface of the program with its element: by its MAC, and those without one in their order."""
    elements = root.findall("devices/interface")
    by_mac = {mac_of(element): element for element in elements}
    named = {interface.get("mac") for interface in interfaces}
    mark = marks.find(marks.text_of(root))
    ours = [
        element
        for element in elements
        if mac_of(element) not in named
        and (mark is None or any(key.startswith(f"interface {mac_of(element)} ") for key in mark.devices))
    ]
    rest = iter(ours)
    return [
        (interface, by_mac.get(interface["mac"]) if interface.get("mac") else next(rest, None))
        for interface in interfaces
    ]


def _path_of(context: Context, disk: Values) -> str:
    if disk.get("volumeId"):
        return _volume_path(context, disk["volumeId"])
    return str(disk.get("file") or disk.get("blockDevice") or "")


def _volume_path(context: Context, id: str) -> str:
    """A file's volume has its path as its key; only others are looked up."""
    if id.startswith("/"):
        return id
    volume = find_volume(context.connection, id)
    return "" if volume is None else str(volume.path())


def _plain_disks(root: ET.Element) -> list[ET.Element]:
    return [
        disk for disk in root.findall("devices/disk") if disk.find("source") is not None and not _is_cloudinit(disk)
    ]


def _is_cloudinit(disk: ET.Element) -> bool:
    return target_of(disk) == CLOUDINIT_TARGET and disk.find("readonly") is not None


def _cloudinit(root: ET.Element) -> str | None:
    found = next((disk for disk in root.findall("devices/disk") if _is_cloudinit(disk)), None)
    return None if found is None else disk_key(found).removeprefix("disk ")


def _imported_disk(context: Context, disk: ET.Element) -> Values:
    path = disk_key(disk).removeprefix("disk ")
    scsi = {"scsi": True} if _attribute(disk, "target", "bus") == "scsi" else {}
    wwn = {"wwn": disk.findtext("wwn")} if disk.findtext("wwn") else {}
    if disk.get("type") == "network":
        return {"url": path, **scsi}
    if (volume := find_volume(context.connection, path)) is not None:
        return {"volumeId": volume.key(), **scsi, **wwn}
    return {"blockDevice" if disk.get("type") == "block" else "file": path, **scsi, **wwn}


def _imported_interface(context: Context, element: ET.Element) -> Values:
    source, mac = element.find("source"), mac_of(element)
    given = {} if source is None else source.attrib
    if element.get("type") == "network":
        network = context.connection.networkLookupByName(given.get("network", ""))
        return {"networkId": network.UUIDString(), "mac": mac}
    if element.get("type") == "direct":
        names = {"vepa": "vepa", "bridge": "macvtap", "passthrough": "passthrough"}
        return {names.get(given.get("mode", "vepa"), "vepa"): given.get("dev", ""), "mac": mac}
    return {"bridge": given.get("bridge", ""), "mac": mac}


def _metadata(root: ET.Element) -> str | None:
    """The user's own elements: those in Sampan's name space are marks."""
    own = [each for each in root.findall("metadata/*") if not each.tag.startswith(f"{{{marks.NAMESPACE}}}")]
    return "".join(marks.text_of(each).strip() for each in own) or None


def _canonical(metadata: str) -> str:
    return ET.canonicalize(f"<metadata>{metadata}</metadata>", strip_text=True, rewrite_prefixes=True)


def _words(line: str | None) -> list[dict[str, str]] | None:
    if not line:
        return None
    pairs = (word.partition("=") for word in line.split())
    return [{name: value} if separator else {"_": name} for name, separator, value in pairs]


def _console(element: ET.Element) -> Values:
    source = element.find("source")
    given = {} if source is None else source.attrib
    return _given(
        type=element.get("type"),
        targetPort=_attribute(element, "target", "port") or "0",
        targetType=_attribute(element, "target", "type"),
        sourcePath=given.get("path"),
        sourceHost=given.get("host"),
        sourceService=given.get("service"),
    )


def _filesystem(element: ET.Element) -> Values:
    return {
        "source": _attribute(element, "source", "dir") or "",
        "target": _attribute(element, "target", "dir") or "",
        "accessmode": element.get("accessmode", "mapped"),
        "readonly": element.find("readonly") is not None,
    }


def _graphics(element: ET.Element | None) -> Values | None:
    if element is None:
        return None
    websocket = element.get("websocket")
    return _given(
        type=element.get("type"),
        autoport=element.get("autoport", "yes") == "yes",
        listenType=_attribute(element, "listen", "type"),
        listenAddress=_attribute(element, "listen", "address"),
        websocket=int(websocket) if websocket else None,
    )


def _tpm(element: ET.Element | None) -> Values | None:
    if element is None:
        return None
    persistent = _attribute(element, "backend", "persistent_state")
    return _given(
        model=element.get("model"),
        backendType=_attribute(element, "backend", "type"),
        backendVersion=_attribute(element, "backend", "version"),
        backendDevicePath=_attribute(element, "backend/device", "path"),
        backendEncryptionSecret=_attribute(element, "backend/encryption", "secret"),
        backendPersistentState=None if persistent is None else persistent == "yes",
    )


def _attribute(element: ET.Element, path: str, name: str) -> str | None:
    found = element.find(path)
    return None if found is None else found.get(name)


def _given(**values: Any) -> Values:
    return {name: value for name, value in values.items() if value is not None}
