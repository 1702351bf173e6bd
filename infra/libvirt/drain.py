"""What happens before a machine is changed in a way that restarts it: its pods go to other nodes, if there are any.

A resource between the node before it and the machine: nothing while the machine's size stays, a drain when it changes.
Pods that nobody would make anew stay and start again with the machine. The node's installation, which follows the
machine, lets pods come again.
"""

from __future__ import annotations

from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, Resource, ResourceProvider, UpdateResult

from infra.libvirt import cluster, registry
from infra.libvirt.nodes import speaker
from infra.topology import WORKER, Node, Topology


class DrainProvider(ResourceProvider):
    serialize_as_secret_always = False

    def diff(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        return DiffResult(changes=olds.get("size") != news["size"])

    def create(self, props: dict[str, Any]) -> CreateResult:
        return CreateResult(props["node"], props)

    def update(self, _id: str, _olds: dict[str, Any], news: dict[str, Any]) -> UpdateResult:
        if news["elsewhere"] == "yes" and news["node"] in registry.installed(news["lab"]):
            kubeconfig = registry.folder(news["lab"]) / registry.KUBECONFIG
            cluster.drain(kubeconfig, news["node"], speaker(), with_bare=False)
        return UpdateResult(news)


def size(node: Node) -> str:
    """What a restart follows from; a larger disk does not."""
    assert node.size is not None
    return f"{node.size.memory_mib} MiB, {node.size.vcpus} vCPUs"


class Drain(Resource, module="sampan", name="Drain"):
    def __init__(self, topology: Topology, node: Node, options: pulumi.ResourceOptions) -> None:
        others = [one for one in topology.nodes if one.role == WORKER and one != node]
        props = {
            "lab": topology.name,
            "node": node.name,
            "size": size(node),
            "elsewhere": "yes" if others and node.role == WORKER else "no",
        }
        super().__init__(DrainProvider(), node.name, props, options)
