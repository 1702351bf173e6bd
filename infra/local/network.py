"""The lab's network on the host: one bridge that the host reaches, a cable to each node, and a way out if there is one.

Text for `ip -batch` and `nft -f` is computed purely; both programs are the node image's own, run in the host's network
namespace. Applying twice changes nothing, and removing what is not there is not an error.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from infra import forwarding
from infra.local.layout import HOST, bridge, host_link, table
from infra.topology import Node, Topology

LINK_MTU = 1500


def bridge_commands(topology: Topology) -> str:
    """For an absent bridge. Addresses are usable at once: duplicate detection would cost a second."""
    name = bridge(topology)
    v4, v6 = topology.gateway
    return (
        f"link add name {name} mtu {LINK_MTU} type bridge forward_delay 0 stp_state 0\n"
        f"address add {v4}/{topology.node_network_v4.prefixlen} dev {name}\n"
        f"address add {v6}/{topology.node_network_v6.prefixlen} dev {name} nodad\n"
        f"link set {name} up\n"
    )


def cable_commands(topology: Topology, node: Node, pid: int) -> str:
    """Run on the host: a veth pair from the bridge into the network namespace of the node's PID 1.

    The node's end has the same hardware address each time: others keep what they know of a neighbour for up to a
    minute, and would send to one that a reboot has changed.
    """
    link = host_link(topology, node)
    return (
        f"link add name {link} mtu {LINK_MTU} type veth peer name eth0 address {mac(topology, node)} netns {pid}\n"
        f"link set {link} master {bridge(topology)} up\n"
    )


def mac(topology: Topology, node: Node) -> str:
    """A locally administered address; of a lab's bridge alone."""
    return f"02:53:4d:00:{topology.index:02x}:{node.index:02x}"


def node_commands(topology: Topology, node: Node) -> str:
    """Run in the node: its addresses, and the host as its gateway."""
    v4, v6 = topology.gateway
    return (
        "link set lo up\n"
        f"address add {node.address_v4}/{topology.node_network_v4.prefixlen} dev eth0\n"
        f"address add {node.address_v6}/{topology.node_network_v6.prefixlen} dev eth0 nodad\n"
        "link set eth0 up\n"
        f"route add default via {v4} dev eth0\n"
        f"route add ::/0 via {v6} dev eth0\n"
    )


def way_out(topology: Topology) -> str:
    """Masquerade what leaves the lab through the host; replaces the table in one transaction."""
    name, link, networks = table(topology), bridge(topology), topology.networks
    return (
        f"table inet {name}\n"
        f"delete table inet {name}\n"
        f"table inet {name} {{\n"
        "  chain postrouting {\n"
        "    type nat hook postrouting priority srcnat; policy accept;\n"
        f'    ip saddr {topology.node_network_v4} oifname != "{link}" masquerade\n'
        f'    ip6 saddr {topology.node_network_v6} oifname != "{link}" masquerade\n'
        "  }\n"
        "  chain forward {\n"
        "    type filter hook forward priority filter; policy accept;\n"
        # Addresses of pods and services mean nothing outside: a node that lacks a route must not send them there.
        # What the bridge itself carries from node to node passes here too, where bridge netfilter is on.
        f'    iifname "{link}" oifname != "{link}" ip daddr {{ {networks.pods_v4}, {networks.services_v4} }} drop\n'
        f'    iifname "{link}" oifname != "{link}" ip6 daddr {{ {networks.pods_v6}, {networks.services_v6} }} drop\n'
        f'    iifname "{link}" accept\n'
        f'    oifname "{link}" ct state established,related accept\n'
        "  }\n"
        "}\n"
    )


def ip_batch(commands: str, *, prefix: tuple[str, ...] = ()) -> None:
    """Errors: RuntimeError with ip's own words and the line."""
    _feed([*prefix, "ip", "-batch", "-"], commands)


def ensure(topology: Topology) -> None:
    if not Path("/sys/class/net", bridge(topology)).exists():
        ip_batch(bridge_commands(topology))
    if has_default_route():
        forwarding.hold(table(topology), root=HOST)
        _feed(["nft", "-f", "-"], way_out(topology))


def plug(topology: Topology, node: Node, pid: int) -> None:
    """A new cable for a node that boots. That of a node that died may not be gone yet: the kernel takes its time."""
    link = host_link(topology, node)
    if Path("/sys/class/net", link).exists():
        subprocess.run(["ip", "link", "delete", link], check=False, capture_output=True)
    ip_batch(cable_commands(topology, node, pid))


def has_default_route() -> bool:
    routes = Path("/proc/net/route").read_text().splitlines()[1:]
    return any(fields[1] == "00000000" for fields in map(str.split, routes))


def remove(topology: Topology, *, tool: tuple[str, ...]) -> None:
    """`tool` is the prefix that reaches the image's programs from the host (chroot TREE)."""
    for link in (*(host_link(topology, node) for node in topology.nodes), bridge(topology)):
        if Path("/sys/class/net", link).exists():
            subprocess.run([*tool, "ip", "link", "delete", link], check=False, capture_output=True)
    remove_table(table(topology), tool=tool)
    forwarding.release(table(topology))


def remove_table(name: str, *, tool: tuple[str, ...]) -> None:
    subprocess.run(
        [*tool, "nft", "-f", "-"], input=f"table inet {name}\ndelete table inet {name}\n", text=True, check=False,
        capture_output=True,
    )  # fmt: skip


def _feed(command: list[str], text: str) -> None:
    done = subprocess.run(command, input=text, text=True, capture_output=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}\ngiven:\n{text}")
