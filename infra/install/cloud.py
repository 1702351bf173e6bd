"""The cloud controller's files. It runs on the lab's host, not on a node: beside the bridge to the nodes.

A lab on machines that the user has, has no cloud: nobody knows there when a machine is gone, or an address free.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infra import pki
from infra.install.connection import File
from infra.install.templates import render
from infra.topology import LIBVIRT, LOCAL, Topology

COMPONENT = "cloud-controller"
KEYS = ("ca.crt", "cloud-controller-manager.crt", "cloud-controller-manager.key")  # of infra/pki.py
ROUTE_METRIC = 1024


def has_cloud(topology: Topology) -> bool:
    return topology.backend in (LOCAL, LIBVIRT)


def table(topology: Topology) -> str:
    """Of the packet filter; named after the lab's index, as everything that is unique on a machine."""
    return f"sampan-cloud-{topology.index}"


def local_settings(control_socket: Path) -> dict[str, Any]:
    """Of a lab whose supervisor answers at this socket, as seen by the cloud controller."""
    return {"control_socket": str(control_socket)}


def libvirt_settings(topology: Topology, uri: str) -> dict[str, Any]:
    """Of a lab at this URI, but for the nodes that name another."""
    return {"uri": uri, "uris": {node.name: node.hypervisor for node in topology.nodes if node.hypervisor}}


def files(
    topology: Topology, keys: Mapping[str, bytes], folder: Path, settings: dict[str, Any], *, bridge: str = "",
    host_root: str = "",
) -> list[File]:  # fmt: skip
    """Configuration and kubeconfig, for `folder` (as the cloud controller sees it), readable by root alone.

    `bridge`: to the nodes; the libvirt network's own where empty. `host_root`: where it sees the root of the host whose
    network it changes, if that is not its own root.
    """
    kubeconfig = folder / "cloud-controller.kubeconfig"
    config = render(
        f"components/{COMPONENT}.yaml",
        lab=topology.name,
        kubeconfig=kubeconfig,
        table=table(topology),
        bridge=bridge,
        gateway=topology.gateway,
        node_networks=(topology.node_network_v4, topology.node_network_v6),
        load_balancers=topology.load_balancers,
        host_root=host_root,
        route_metric=ROUTE_METRIC + topology.index,
        provider=topology.backend,
        settings=settings,
        zones={node.name: node.zone for node in topology.nodes if node.zone},
    )
    access = pki.kubeconfig(
        keys, topology.server, "cloud-controller-manager", cluster=f"sampan-{topology.name}", user=COMPONENT
    )
    return [
        File(path=str(folder / f"{COMPONENT}.yaml"), content=config.encode(), mode=0o600),
        File(path=str(kubeconfig), content=access.encode(), mode=0o600),
    ]
