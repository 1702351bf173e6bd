"""Networks that a hypervisor has already: a lab's own must not overlap with them.

Errors: those of the binding, where libvirt does not answer; Claimed, which names the other network and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from xml.etree import ElementTree

from infra.libvirt.registry import Claimed
from infra.provider import binding
from infra.topology import LAB_INDEX_MAX, LIBVIRT, Topology

Network = IPv4Network | IPv6Network


def of_hypervisor(uri: str) -> dict[str, list[Network]]:
    """The subnets of each libvirt network, active or not, by its name."""
    connection = binding.connect(uri)
    return {network.name(): subnets(network.XMLDesc()) for network in connection.listAllNetworks()}


def subnets(description: str) -> list[Network]:
    """Of a network's XML. A family without a prefix is IPv4's class, which libvirt writes as a netmask."""
    found: list[Network] = []
    for entry in ElementTree.fromstring(description).findall("ip"):
        length = entry.get("prefix") or entry.get("netmask")
        if address := entry.get("address"):
            found.append(ip_network(f"{address}/{length}" if length else address, strict=False))
    return found


def taken(present: Mapping[str, Sequence[Network]]) -> set[int]:
    """The indices of labs whose node networks overlap with one that is there."""
    others = [network for networks in present.values() for network in networks]
    return {index for index in range(LAB_INDEX_MAX + 1) if _overlap(Topology(index=index, backend=LIBVIRT), others)}


def place_of(lab: str, present: Mapping[str, Sequence[Network]]) -> int | None:
    """The index of a lab whose network is there though this machine's register has lost it."""
    for index in range(LAB_INDEX_MAX + 1):
        if Topology(index=index, backend=LIBVIRT).node_network_v4 in present.get(lab, ()):
            return index
    return None


def refuse(topology: Topology, present: Mapping[str, Sequence[Network]]) -> None:
    """Where a lab that is new here would meet a network of somebody else."""
    for name, networks in present.items():
        if name != topology.name and (clash := _overlap(topology, networks)):
            raise Claimed(
                f"index: {topology.index}: the node network {topology.node_network_v4} overlaps {clash} of libvirt's "
                f"network {name}: take another place (pulumi config set sampan:index N), or remove that network "
                f"(virsh net-destroy {name}; virsh net-undefine {name})"
            )


def _overlap(topology: Topology, others: Iterable[Network]) -> Network | None:
    for other in others:
        own = topology.node_network_v4 if other.version == 4 else topology.node_network_v6
        if own.overlaps(other):
            return other
    return None
