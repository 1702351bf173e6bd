"""Where a lab lives on its host, and what everything that belongs to it is called. Pure: nothing is touched here.

A lab is found, and removed, by these names alone: one folder, one bridge, one nftables table, one control group in each
hierarchy. The supervisor sees the host's root at HOST, because its own root is the node image.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from infra.topology import Node, Topology

LABS = Path("/var/lib/sampan-labs")
HOST = Path("/mnt")  # the host's root, inside the supervisor's mount namespace
CGROUPS = Path("/run/cgroup")  # hierarchies mounted by the supervisor for itself
HOST_NODE = "host"  # where components are that run on no node, but beside the lab's bridge
V1_CONTROLLERS = ("memory", "cpu", "cpuacct", "pids")


@dataclass(frozen=True)
class Layout:
    """All paths are the host's; `inside` gives the supervisor's view of one."""

    name: str

    @property
    def folder(self) -> Path:
        return LABS / self.name

    @property
    def lab_file(self) -> Path:
        return self.folder / "lab.json"

    @property
    def pki(self) -> Path:
        return self.folder / "pki"

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "admin.kubeconfig"

    @property
    def kubeconfig_users(self) -> Path:
        """Which kubeconfigs of users have the lab's context, one a line."""
        return self.folder / "kubeconfigs"

    @property
    def control_socket(self) -> Path:
        return self.folder / "control.sock"

    @property
    def volumes(self) -> Path:
        """Disks of the cluster, where the cloud controller looks for them: beside the control socket."""
        return self.folder / "volumes"

    @property
    def supervisor_log(self) -> Path:
        return self.folder / "supervisor.log"

    @property
    def cgroup(self) -> str:
        """Below the root of each cgroup hierarchy."""
        return f"sampan-{self.name}"

    def node(self, node: str) -> Path:
        return self.folder / "nodes" / node

    def log(self, node: str, component: str) -> Path:
        return self.node(node) / "log/sampan" / f"{component}.log"


def inside(path: Path) -> Path:
    return HOST / path.relative_to("/")


def bridge(topology: Topology) -> str:
    return f"sampan{topology.index}"


def host_link(topology: Topology, node: Node) -> str:
    """The host's end of a node's cable; 15 characters at most."""
    return f"smp{topology.index}n{node.index}"


def table(topology: Topology) -> str:
    return f"sampan-lab-{topology.index}"
