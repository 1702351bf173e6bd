"""The provider's functions: templates of a network's records, and what the hypervisor is made of."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from typing import Any

from infra.provider.binding import libvirt
from infra.provider.marks import digest
from infra.provider.properties import Values
from infra.provider.resource import Failure, ProviderError

Connect = Callable[[], Any]
Function = Callable[[Values, Connect], tuple[Values, list[Failure]]]
CAPABILITIES = (
    *("system", "pci", "usb_device", "usb", "net", "scsi_host", "scsi_target", "scsi", "storage", "fc_host", "vports"),
    *("scsi_generic", "drm", "mdev", "mdev_types", "ccw", "css", "ap_card", "ap_queue", "ap_matrix"),
)


def template(required: tuple[str, ...], names: Mapping[str, str]) -> Function:
    """A function that gives back its arguments, as `rendered` for a network's property of that shape."""

    def render(given: Values, connect: Connect) -> tuple[Values, list[Failure]]:
        missing = [Failure(name, f"{name} is required") for name in required if not given.get(name)]
        kept = {name: given[name] for name in names if given.get(name) is not None}
        rendered = {names[name]: str(value) for name, value in kept.items()}
        return {**kept, "rendered": rendered, "id": digest(repr(sorted(rendered.items())))}, missing

    return render


def node_info(given: Values, connect: Connect) -> tuple[Values, list[Failure]]:
    connection = connect()
    model, memory_mib, cpus, _mhz, nodes, sockets, cores, threads = connection.getInfo()
    return {
        "cpuModel": model,
        "cpuCoresTotal": cpus,
        "cpuCoresPerSocket": cores,
        "cpuSockets": sockets,
        "cpuThreadsPerCore": threads,
        "memoryTotalKb": memory_mib * 1024,
        "numaNodes": nodes,
        "id": digest(connection.getHostname()),
    }, []


def node_devices(given: Values, connect: Connect) -> tuple[Values, list[Failure]]:
    capability = given.get("capability")
    if capability is not None and capability not in CAPABILITIES:
        return {}, [Failure("capability", f"capability = {capability!r}: must be one of {', '.join(CAPABILITIES)}")]
    names = (
        sorted(connect().listDevices(capability, 0))
        if capability
        else sorted(device.name() for device in connect().listAllDevices(0))
    )
    result: Values = {"devices": names, "id": digest(capability or "")}
    return ({**result, "capability": capability} if capability else result), []


def node_device_info(given: Values, connect: Connect) -> tuple[Values, list[Failure]]:
    name = given.get("name")
    if not name:
        return {}, [Failure("name", "name is required: one of get_node_devices()")]
    try:
        definition = connect().nodeDeviceLookupByName(name).XMLDesc(0)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_NODE_DEVICE:
            raise
        raise ProviderError(f"there is no device {name} on the hypervisor; see get_node_devices()") from error
    root = ET.fromstring(definition)
    return {
        "name": name,
        "id": digest(name),
        "path": root.findtext("path") or "",
        "parent": root.findtext("parent") or "",
        "xml": definition,
        "capability": _capability(root.find("capability")),
        "devnodes": [{"type": node.get("type", ""), "path": node.text or ""} for node in root.findall("devnode")],
    }, []


def _capability(element: ET.Element | None) -> Values:
    """A capability's parts: words as they are, and what has parts of its own (a vendor, a firmware) as a map."""
    if element is None:
        return {}
    found: Values = {"type": element.get("type", "")}
    for part in element:
        name = NAMES.get(part.tag, part.tag)
        if part.tag == "feature":
            found.setdefault("features", []).append(part.get("name", ""))
        elif part.tag == "iommuGroup":
            addresses = [dict(address.attrib) for address in part.findall("address")]
            found["iommuGroup"] = {"number": part.get("number", ""), "addresses": addresses}
        elif name in MAPS:
            inside = {inner.tag: inner.text or "" for inner in part}
            own = (part.text or "").strip()
            found[name] = {**part.attrib, **inside, **({"name": own} if own else {})}
        elif name in WORDS:
            found[name] = part.text or ""
    return found


NAMES = {
    "drive_type": "driveType",
    "logical_block_size": "logicalBlockSize",
    "num_blocks": "numBlocks",
    "unique_id": "uniqueId",
}
MAPS = frozenset({"capability", "firmware", "hardware", "link", "product", "vendor"})
WORDS = frozenset(
    {
        "address",
        "block",
        "bus",
        "class",
        "description",
        "device",
        "domain",
        "driveType",
        "function",
        "host",
        "interface",
    }
    | {"logicalBlockSize", "lun", "model", "numBlocks", "number", "protocol", "serial", "size", "slot", "subclass"}
    | {"target", "uniqueId"}
)
FUNCTIONS: Mapping[str, Function] = {
    "libvirt:index/getNetworkDnsHostTemplate:getNetworkDnsHostTemplate": template(
        ("hostname", "ip"), {"hostname": "hostname", "ip": "ip"}
    ),
    "libvirt:index/getNetworkDnsSrvTemplate:getNetworkDnsSrvTemplate": template(
        ("service", "protocol"),
        {name: name for name in ("service", "protocol", "domain", "target", "port", "priority", "weight")},
    ),
    "libvirt:index/getNetworkDnsmasqOptionsTemplate:getNetworkDnsmasqOptionsTemplate": template(
        ("optionName",), {"optionName": "option_name", "optionValue": "option_value"}
    ),
    "libvirt:index/getNodeInfo:getNodeInfo": node_info,
    "libvirt:index/getNodeDevices:getNodeDevices": node_devices,
    "libvirt:index/getNodeDeviceInfo:getNodeDeviceInfo": node_device_info,
}
