"""What a domain's properties refer to, looked up in libvirt: volumes, networks, an image's format."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from infra.provider.binding import libvirt
from infra.provider.dhcp import Host
from infra.provider.domain_devices import Medium, Plug, derived_mac, derived_wwn
from infra.provider.domain_inputs import Disk, DomainInputs, Interface
from infra.provider.domain_xml import Found
from infra.provider.marks import origin
from infra.provider.resource import Context, ProviderError
from infra.provider.source import QCOW2_MAGIC
from infra.provider.storage import find_volume
from infra.provider.volume_xml import parse


def look_up(context: Context, domain: DomainInputs) -> Found:
    """ProviderError where something is not there."""
    return Found(
        disks=tuple(_medium(context, domain.name, index, disk) for index, disk in enumerate(domain.disks)),
        plugs=tuple(
            _plug(context, domain.name, index, interface) for index, interface in enumerate(domain.network_interfaces)
        ),
        cloudinit=_path(context, domain.name, "cloudinit", domain.cloudinit.partition(";")[0]),
        kernel=_path(context, domain.name, "kernel", domain.kernel),
        initrd=_path(context, domain.name, "initrd", domain.initrd),
        ignition=_path(context, domain.name, "coreosIgnition", domain.coreos_ignition.partition(";")[0]),
    )


def hosts_by_network(context: Context, domain: DomainInputs, found: Found) -> Iterator[tuple[Any, tuple[Host, ...]]]:
    """Each network that the domain is plugged into, with the fixed addresses that it is to serve the domain."""
    wanted: dict[str, list[Host]] = {}
    for interface, plug in zip(domain.network_interfaces, found.plugs, strict=True):
        if plug.kind == "network":
            hosts = wanted.setdefault(plug.source, [])
            hosts += (Host(plug.mac, interface.hostname, address) for address in interface.addresses)
    for name, hosts in wanted.items():
        yield context.connection.networkLookupByName(name), tuple(hosts)


def _medium(context: Context, name: str, index: int, disk: Disk) -> Medium:
    wwn = (disk.wwn or derived_wwn(context.urn, index)) if disk.scsi else ""
    if disk.url:
        return Medium("network", disk.url, "raw", wwn)
    if disk.block_device:
        return Medium("block", disk.block_device, "raw", wwn)
    if disk.file:
        return Medium("file", disk.file, _format(context, disk.file), wwn)
    volume = find_volume(context.connection, disk.volume_id)
    if volume is None:
        raise _missing(context, f"domain {name}: disks[{index}]", f"volume {disk.volume_id}")
    is_block = volume.info()[0] == libvirt.VIR_STORAGE_VOL_BLOCK
    return Medium("block" if is_block else "file", volume.path(), parse(volume.XMLDesc(0))["format"], wwn)


def _format(context: Context, path: str) -> str:
    """As libvirt knows it, else by what the file begins with if we can see it, else by its name."""
    if path.endswith(".iso"):
        return "raw"
    if (volume := find_volume(context.connection, path)) is not None:
        return str(parse(volume.XMLDesc(0))["format"])
    if os.access(path, os.R_OK):
        with Path(path).open("rb") as file:
            return "qcow2" if file.read(len(QCOW2_MAGIC)) == QCOW2_MAGIC else "raw"
    return "raw" if path.endswith((".raw", ".img")) else "qcow2"


def _path(context: Context, name: str, property: str, id: str) -> str:
    """Of a volume, or of a file of the hypervisor (a full path, which only libvirtd can see)."""
    if not id:
        return ""
    volume = find_volume(context.connection, id)
    if volume is not None:
        return str(volume.path())
    if id.startswith("/"):
        return id
    raise _missing(context, f"domain {name}: {property}", f"volume {id}")


def _plug(context: Context, name: str, index: int, interface: Interface) -> Plug:
    mac = interface.mac.lower() or derived_mac(context.urn, origin(), index)
    for source, mode in (
        (interface.vepa, "vepa"),
        (interface.macvtap, "bridge"),
        (interface.passthrough, "passthrough"),
    ):
        if source:
            return Plug(mac, "direct", source, mode)
    if interface.bridge:
        return Plug(mac, "bridge", interface.bridge)
    try:
        if interface.network_id:
            network = context.connection.networkLookupByUUIDString(interface.network_id)
        else:
            network = context.connection.networkLookupByName(interface.network_name)
    except libvirt.libvirtError as error:
        if error.get_error_code() not in (libvirt.VIR_ERR_NO_NETWORK, libvirt.VIR_ERR_INVALID_ARG):
            raise
        wanted = interface.network_id or interface.network_name
        raise _missing(context, f"domain {name}: networkInterfaces[{index}]", f"network {wanted}") from error
    return Plug(mac, "network", network.name(), identity=network.UUIDString())


def _missing(context: Context, where: str, what: str) -> ProviderError:
    return ProviderError(
        f"{where}: there is no {what} on {context.uri}. If this stack made it, it was removed behind Pulumi's back: "
        f"pulumi up --refresh makes it again."
    )
