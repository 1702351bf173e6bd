"""Which components a node runs, as whom, with which files. From the topology and the lab's keys to a list of files.

Every component has its own file /etc/sampan/NAME.yaml, whether it shares a process or not; a private key can be read
only by the account whose component uses it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from infra import pki
from infra.install import cloud
from infra.install.connection import File
from infra.install.machine import SERVER_USER_ID
from infra.install.templates import render
from infra.topology import CONTROL_PLANE, Node, Topology

ETC = "/etc/sampan"
ROLE_LABEL = "node-role.kubernetes.io/control-plane"
CGROUP_PARENT = "/user/kubepods"  # delegated to the node's user (infra/local/cgroups.py)

SERVER_COMPONENTS = ("api-server", "scheduler", "controller-manager")
NODE_COMPONENTS = ("porter", "proxy", "dns")


@dataclass(frozen=True)
class Process:
    """What the supervisor keeps running; `arguments` follow `sampan`, or are a program's path and arguments."""

    name: str
    user: str
    arguments: tuple[str, ...]


def processes(topology: Topology, node: Node) -> list[Process]:
    socket = f"unix:///run/user/{node.user_id}/podman/podman.sock"
    found = [Process("podman", "sampan", ("/usr/bin/podman", "system", "service", "--time=0", socket))]
    server = f"{SERVER_USER_ID}:{SERVER_USER_ID}"
    groups: list[tuple[str, str, tuple[str, ...]]] = [("node", "root", NODE_COMPONENTS)]
    if node.role == CONTROL_PLANE:
        groups.insert(0, ("server", server, SERVER_COMPONENTS))
    for name, user, parts in groups:
        if topology.separate:
            found += [Process(part, user, (part, "--config", f"{ETC}/{part}.yaml")) for part in parts]
        else:
            found.append(Process(name, user, (name, "--config", ETC)))
    return [*found, Process("kubelet", "sampan", ("kubelet", "--config", f"{ETC}/kubelet.yaml"))]


def api_server_process(topology: Topology) -> str:
    """The process that has the API server, alone or with others."""
    return "api-server" if topology.separate else "server"


def key_names(node: Node) -> list[str]:
    """The keys and certificates (names of infra/pki.py) that `files` asks for: a node is given no other."""
    pairs = [f"kubelet-{node.name}", f"kubelet-client-{node.name}", "proxy"]
    names = ["ca.crt"]
    if node.role == CONTROL_PLANE:
        pairs += ["apiserver", "apiserver-kubelet-client", "front-proxy-client", "scheduler", "controller-manager"]
        names += ["ca.key", "sa.key", "sa.pub", "front-proxy-ca.crt"]
    return [*names, *(f"{pair}{suffix}" for pair in pairs for suffix in (".crt", ".key"))]


def files(
    topology: Topology, node: Node, keys: Mapping[str, bytes], *, cgroup_parent: str = CGROUP_PARENT
) -> list[File]:
    """`keys`: PEM by file name. `cgroup_parent`: the group of the node below which Podman makes those of pods."""
    found = _worker_files(topology, node, keys, cgroup_parent)
    return [*found, *_server_files(topology, node, keys)] if node.role == CONTROL_PLANE else found


def _worker_files(topology: Topology, node: Node, keys: Mapping[str, bytes], cgroup_parent: str) -> list[File]:
    user = node.user_id
    found = [_config(component, topology, node, cgroup_parent) for component in (*NODE_COMPONENTS, "kubelet")]
    found += [
        _file("pki/ca.crt", keys["ca.crt"]),
        _file("pki/kubelet.crt", keys[f"kubelet-{node.name}.crt"]),
        _file("pki/kubelet.key", keys[f"kubelet-{node.name}.key"], owner=user),
        _kubeconfig("kubelet", topology, keys, f"kubelet-client-{node.name}", owner=user),
        _kubeconfig("proxy", topology, keys, "proxy", owner=0),
    ]
    return found


def _server_files(topology: Topology, node: Node, keys: Mapping[str, bytes]) -> list[File]:
    found = [_config(component, topology, node) for component in SERVER_COMPONENTS]
    for name in ("apiserver", "apiserver-kubelet-client", "front-proxy-client", "ca"):
        if name != "ca":
            found.append(_file(f"pki/{name}.crt", keys[f"{name}.crt"]))
        found.append(_file(f"pki/{name}.key", keys[f"{name}.key"], owner=SERVER_USER_ID))
    found.append(_file("pki/sa.key", keys["sa.key"], owner=SERVER_USER_ID))
    for name in ("sa.pub", "front-proxy-ca.crt"):
        found.append(_file(f"pki/{name}", keys[name]))
    for name in ("scheduler", "controller-manager"):
        found.append(_kubeconfig(name, topology, keys, name, owner=SERVER_USER_ID))
    return found


def _config(component: str, topology: Topology, node: Node, cgroup_parent: str = "") -> File:
    is_control_plane = node.role == CONTROL_PLANE
    # As with kubeadm and kind: a control-plane node takes ordinary pods only where there is no worker.
    taints = [{"key": ROLE_LABEL, "effect": "NoSchedule"}] if is_control_plane and topology.workers else []
    text = render(
        f"components/{component}.yaml",
        lab=topology.name,
        node=node,
        networks=topology.networks,
        server=topology.server,
        dns_service=topology.networks.dns_service,
        kubernetes_service=topology.networks.kubernetes_service,
        cgroup_parent=cgroup_parent,
        taints=taints,
        cloud_provider="external" if cloud.has_cloud(topology) else "",
    )
    return _file(f"{component}.yaml", text.encode())


def _kubeconfig(name: str, topology: Topology, keys: Mapping[str, bytes], subject: str, owner: int) -> File:
    text = pki.kubeconfig(keys, topology.server, subject, cluster=f"sampan-{topology.name}", user=name)
    return _file(f"{name}.kubeconfig", text.encode(), owner=owner)


def _file(name: str, content: bytes, owner: int | None = None) -> File:
    """Readable by all, or, where it has an owner, by that one alone."""
    if owner is None:
        return File(path=f"{ETC}/{name}", content=content)
    return File(path=f"{ETC}/{name}", content=content, mode=0o600, user_id=owner, group_id=owner)
