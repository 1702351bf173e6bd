"""The cloud of a lab of virtual machines: libvirt domains named `<lab>-<node>`, on one hypervisor or several.

A domain that is not defined is gone, one that is shut off or has crashed is shut down. Its addresses are those that the
lab's network (named as the lab) gives it: DHCP host entries by its MAC address or name, DNS entries, leases.
Source: libvirt.org, formatdomain, formatnetwork.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any

from msgspec import Struct, field

from orchestrator.cloud.hypervisors import Hypervisors
from orchestrator.cloud.provider import Instance
from orchestrator.cloud.provider_ids import machine_of, provider_id


class LibvirtConfig(Struct, frozen=True, kw_only=True):
    """`uris`: of nodes whose machine is on another hypervisor than `uri`; `zones`: of nodes in another than `zone`."""

    uri: str
    uris: dict[str, str] = field(default_factory=dict)
    region: str = "libvirt"
    zone: str = "libvirt-a"
    zones: dict[str, str] = field(default_factory=dict)


class Seen(Struct, frozen=True):
    """What libvirt says of a domain and its network."""

    state: int
    vcpus: int
    memory_kib: int
    domain_xml: str
    network_xml: str
    leases: tuple[tuple[str, str], ...]  # MAC address, IP address


class LibvirtInstances:
    """The machines of one lab."""

    def __init__(self, lab: str, config: LibvirtConfig, hypervisors: Hypervisors) -> None:
        self._lab, self._config, self._hypervisors = lab, config, hypervisors

    async def get(self, node: str, provider_id: str) -> Instance | None:
        name = machine_of(self._lab, node, provider_id)
        seen = await self._hypervisors.call(self._config.uris.get(name, self._config.uri), self._look(name))
        return None if seen is None else instance(self._lab, name, seen, self._config, self._hypervisors.libvirt)

    def _look(self, name: str) -> Any:
        libvirt = self._hypervisors.libvirt

        def look(connection: Any) -> Seen | None:
            try:
                domain = connection.lookupByName(f"{self._lab}-{name}")
                state, _, memory_kib, vcpus, _ = domain.info()
                described = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
            except libvirt.libvirtError as error:
                if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                    return None
                raise
            network_xml, leases = _network(libvirt, connection, self._lab)
            return Seen(state, vcpus, memory_kib or domain.maxMemory(), described, network_xml, leases)

        return look


def _network(libvirt: Any, connection: Any, name: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """The network's definition and leases; nothing where it is not there, or has no DHCP that could be asked."""
    try:
        network = connection.networkLookupByName(name)
        described = network.XMLDesc()
    except libvirt.libvirtError:
        return "<network/>", ()
    try:
        leases = network.DHCPLeases()
    except libvirt.libvirtError:
        leases = []
    return described, tuple((lease["mac"], lease["ipaddr"]) for lease in leases)


def instance(lab: str, name: str, seen: Seen, config: LibvirtConfig, libvirt: Any) -> Instance:
    """From what libvirt says. Pure."""
    found = addresses(f"{lab}-{name}", name, seen)
    return Instance(
        name=name,
        provider_id=provider_id(lab, name),
        addresses=tuple(("InternalIP", address) for address in found),
        instance_type=f"{seen.vcpus}vcpu-{seen.memory_kib // 1024}mib",
        zone=config.zones.get(name, config.zone),
        region=config.region,
        is_shut_down=seen.state in (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_CRASHED),
    )


def addresses(domain: str, node: str, seen: Seen) -> list[str]:
    """Addresses of a domain, IPv4 first. Where the network promises some of a family, leases of it do not count: they
    may be of an earlier life."""
    interfaces = ElementTree.fromstring(seen.domain_xml).findall("devices/interface/mac")
    macs = {(entry.get("address") or "").lower() for entry in interfaces}
    network = ElementTree.fromstring(seen.network_xml)
    promised = [
        entry.get("ip") or ""
        for entry in network.findall("ip/dhcp/host")
        if (entry.get("mac") or "").lower() in macs or entry.get("name") in (domain, node)
    ]
    for entry in network.findall("dns/host"):
        if {name.text for name in entry.findall("hostname")} & {domain, node}:
            promised.append(entry.get("ip") or "")
    found = dict.fromkeys(address for address in promised if address)
    for is_v6 in (False, True):
        if not any((":" in address) == is_v6 for address in found):
            leased = [address for mac, address in seen.leases if mac.lower() in macs and (":" in address) == is_v6]
            found |= dict.fromkeys(leased)
    return sorted(found, key=lambda address: ":" in address)


async def bridge_of(hypervisors: Hypervisors, uri: str, network: str) -> str:
    """The name of a network's bridge. CloudError where there is no such network."""

    def look(connection: Any) -> str:
        return str(connection.networkLookupByName(network).bridgeName())

    return await hypervisors.call(uri, look)
