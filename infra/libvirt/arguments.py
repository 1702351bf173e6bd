"""What a lab's network, pool, volumes and domains are, as the arguments of pulumi_libvirt's resources. Pure.

Names are fixed, so that a lab is recognised on its hypervisor: network and pool are the lab's name, a domain is
<lab>-<node>. Addresses are fixed too: the network hands them out by MAC, and cloud-init sets the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from infra.libvirt.settings import Settings
from infra.topology import Node, Topology

BASE, KERNEL, INITRD = "base.qcow2", "vmlinuz", "initrd.img"
GIB = 1 << 30
Arguments = dict[str, Any]


def domain_name(lab: str, node: str) -> str:
    return f"{lab}-{node}"


def bridge(topology: Topology) -> str:
    """15 characters at most; those of local labs are called otherwise."""
    return f"sampanvm{topology.index}"


def network(topology: Topology) -> Arguments:
    """Mode `open`: libvirt adds no rules. Nodes must be reachable from the lab's host and send with addresses of pods,
    which its modes `nat` and `route` refuse; the way out is masqueraded by the host (infra/hypervisor/link.py)."""
    v4, v6 = topology.node_network_v4, topology.node_network_v6
    hosts = [
        {"hostname": node.name, "ip": address}
        for node in topology.nodes
        for address in (node.address_v4, node.address_v6)
    ]
    return {
        "name": topology.name,
        "mode": "open",
        "bridge": bridge(topology),
        "domain": f"{topology.name}.sampan",
        "addresses": [str(v4), str(v6)],
        "autostart": True,
        "dhcp": {"enabled": True},
        "dns": {"enabled": True, "local_only": True, "hosts": hosts},
    }


def joined_network(topology: Topology) -> Arguments:
    """Of a further hypervisor: a bridge there, of the same name, that its owner has joined to the lab's network (by a
    cable, a VLAN, a VXLAN). The gateway, DHCP and DNS are the first hypervisor's."""
    return {"name": topology.name, "mode": "bridge", "bridge": bridge(topology), "autostart": True}


def pool(topology: Topology, folder: Path) -> Arguments:
    return {"name": topology.name, "type": "dir", "target": {"path": str(folder)}}


def volume(topology: Topology, node: Node) -> Arguments:
    """The node's own disk, an overlay on the base volume."""
    assert node.size is not None
    name = f"{domain_name(topology.name, node.name)}.qcow2"
    return {"name": name, "pool": topology.name, "format": "qcow2", "size": node.size.disk_gib * GIB}


def source(topology: Topology, name: str, file: Path) -> Arguments:
    """A volume that is filled from a file of this machine."""
    form = "qcow2" if name == BASE else "raw"
    return {"name": name, "pool": topology.name, "format": form, "source": str(file)}


def domain(settings: Settings, node: Node, domain_type: str, console: Path | None) -> Arguments:
    """All but what other resources make: kernel, initrd, disk, cloud-init disk and network. `console`: the file for
    what it says on its serial port; none on another hypervisor, whose files nobody here could read (virsh console)."""
    assert node.size is not None
    upstream = settings.provider == "upstream"  # knows no console in a file
    port = {"type": "pty"} if upstream or console is None else {"type": "file", "source_path": str(console)}
    return {
        "name": domain_name(settings.topology.name, node.name),
        "type": domain_type,
        "machine": settings.machine,
        "memory": node.size.memory_mib,
        "vcpu": node.size.vcpus,
        "autostart": True,
        "running": True,
        "qemu_agent": True,  # through it the clock is set after a snapshot is restored
        # numpy needs x86-64-v2, which QEMU's default model is not.
        "cpu": {"mode": "host-passthrough" if domain_type == "kvm" else "maximum"},
        "consoles": [{**port, "target_type": "serial", "target_port": "0"}],
    }


def interface(node: Node, *, has_dhcp: bool) -> Arguments:
    """`wait_for_lease` stays off: the install step waits for SSH, and says what it waits for."""
    known = {"hostname": node.name, "addresses": [node.address_v4, node.address_v6]} if has_dhcp else {}
    return {**known, "mac": node.mac, "wait_for_lease": False}


# A processor that clears memory by one instruction: QEMU carries it out byte by byte, and loops of the kernel's own are
# a fifth of its boot quicker. Addresses drawn at random: QEMU translates a library's code again for each process that
# has it elsewhere, and a process takes two to three times as long to start.
EMULATED = ("clearcpuid=erms,fsrm", "norandmaps")


def kernel_words(cmdline: str, domain_type: str) -> list[str]:
    """`cmdline` is the image's."""
    return [*cmdline.split(), *([] if domain_type == "kvm" else EMULATED)]


def kernel_arguments(cmdline: str, domain_type: str) -> list[dict[str, str]]:
    """The SDK's list of mappings; a flag without a value is under the key `_`. One mapping each keeps the order."""
    pairs = (word.partition("=") for word in kernel_words(cmdline, domain_type))
    return [{key: value} if equals else {"_": key} for key, equals, value in pairs]
