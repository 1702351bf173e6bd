"""Install a node: look, compare, do what is missing. The same steps for every kind of machine."""

from __future__ import annotations

from infra.install import machine
from infra.install.connection import Connection, File, NamespaceNode
from infra.local.control import Control
from infra.topology import Node, Topology


def converge(connection: Connection, wanted: list[File], folders: list[machine.Folder], node: Node) -> int:
    """Returns how many files were laid down."""
    seen = connection.run(machine.observe([file.path for file in wanted])).decode()
    todo = machine.plan(wanted, folders, node, *machine.parse(seen))
    if todo.script:
        connection.run(["sh", "-s"], todo.script.encode())
    connection.put(todo.files)
    return len(todo.files)


def prepare_node(control: Control, topology: Topology, node: Node) -> int:
    """A node that runs containers for its user, and nothing of Kubernetes yet."""
    connection = NamespaceNode(control, node.name)
    return converge(connection, machine.files(topology, node), machine.folders(node), node)
