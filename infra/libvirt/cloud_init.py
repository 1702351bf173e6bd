"""What a machine learns from its NoCloud disk: its name, its addresses, who may log in, and as whom it is known. Pure.

The host key comes from here, so that the first connection is to a pinned key. Nothing of Kubernetes is in it: that is
installed over SSH, and may change without a new disk.
Source: cloud-init documentation, "NoCloud", "Networking config Version 2", module "SSH".
"""

from __future__ import annotations

import json

import yaml

from infra.topology import Node, Topology


def user_data(node: Node, authorized_key: str, host_key: str, host_key_public: str) -> str:
    data = {
        "hostname": node.name,
        "prefer_fqdn_over_hostname": False,
        "disable_root": False,  # keys below are root's too
        "ssh_pwauth": False,
        "ssh_authorized_keys": [authorized_key],
        "ssh_deletekeys": True,
        "ssh_genkeytypes": [],
        "ssh_keys": {"ed25519_private": host_key, "ed25519_public": host_key_public},
    }
    return f"#cloud-config\n{yaml.safe_dump(data, sort_keys=False)}"


def meta_data(topology: Topology, node: Node) -> str:
    """A new instance id makes cloud-init run everything again; a VM of the same name keeps its own."""
    return yaml.safe_dump(
        {"instance-id": f"{topology.name}-{node.name}", "local-hostname": node.name}, sort_keys=False
    )  # fmt: skip


def network_config(topology: Topology, node: Node) -> str:
    """Both families are fixed: a machine that asked by DHCP would boot later, and one that heard router advertisements
    would have more addresses than its Node says."""
    v4, v6 = topology.gateway
    ethernet = {
        "match": {"macaddress": node.mac},
        "dhcp4": False,
        "dhcp6": False,
        "accept-ra": False,
        "addresses": [
            f"{node.address_v4}/{topology.node_network_v4.prefixlen}",
            f"{node.address_v6}/{topology.node_network_v6.prefixlen}",
        ],
        "routes": [{"to": "0.0.0.0/0", "via": str(v4)}, {"to": "::/0", "via": str(v6)}],
        "nameservers": {"addresses": [str(v4), str(v6)]},
    }
    return json.dumps({"version": 2, "ethernets": {"node": ethernet}}, indent=1)
