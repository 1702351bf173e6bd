"""This node's CSINode: which drivers it has (the lab's own), and how many volumes of each it can attach.

The object belongs to the Node and goes with it. Other drivers' entries are left alone. Source: API reference, CSINode.
"""

from __future__ import annotations

from typing import Any

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.api.resources import CSINODES
from orchestrator.api.status import NotFound
from orchestrator.api.volumes import DISK_DRIVER
from orchestrator.client.client import Client

DISKS_MAX = 20  # a PC has 32 PCI slots, some of which the machine itself takes


def entry(node_name: str) -> dict[str, Any]:
    return {"name": DISK_DRIVER, "nodeID": node_name, "topologyKeys": None, "allocatable": {"count": DISKS_MAX}}


async def ensure(client: Client, node: Object) -> None:
    name = meta.name(node)
    owner = meta.owner_reference({"apiVersion": "v1", "kind": "Node", **node}, controller=False)
    try:
        found = await client.get(CSINODES, name)
    except NotFound:
        made = {"metadata": {"name": name, "ownerReferences": [owner]}, "spec": {"drivers": [entry(name)]}}
        await client.create(CSINODES, made)
        return
    others = [each for each in found["spec"].get("drivers") or () if each["name"] != DISK_DRIVER]
    wanted = {
        **found,
        "metadata": {**found["metadata"], "ownerReferences": [owner]},
        "spec": {**found["spec"], "drivers": [*others, entry(name)]},
    }
    await client.update(CSINODES, wanted)
