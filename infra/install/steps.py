"""Install a node: look, compare, do what is missing. The same steps for every kind of machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from infra.install import components, machine
from infra.install.connection import Connection, File, NamespaceNode
from infra.local.control import Shell
from infra.topology import Node, Topology


def converge(
    connection: Connection, wanted: Sequence[File], folders: Sequence[machine.Folder], node: Node
) -> tuple[str, ...]:
    """Returns the paths of the files that were laid down."""
    seen = connection.run(machine.observe([file.path for file in wanted])).decode()
    todo = machine.plan(wanted, folders, node, *machine.parse(seen))
    if todo.script:
        connection.run(["sh", "-s"], todo.script.encode())
    connection.put(todo.files)
    return tuple(file.path for file in todo.files)


def prepare_node(shell: Shell, topology: Topology, node: Node) -> tuple[str, ...]:
    """A node that runs containers for its user, and nothing of Kubernetes yet."""
    connection = NamespaceNode(shell)
    return converge(connection, machine.files(topology, node, _resolv_conf()), machine.folders(node), node)


def install_node(shell: Shell, topology: Topology, node: Node, keys: Mapping[str, bytes]) -> tuple[str, ...]:
    """A node with everything that its components read."""
    connection = NamespaceNode(shell)
    wanted = [*machine.files(topology, node, _resolv_conf()), *components.files(topology, node, keys)]
    return converge(connection, wanted, machine.folders(node), node)


def _resolv_conf() -> str:
    file = Path("/etc/resolv.conf")
    return file.read_text() if file.exists() else ""
