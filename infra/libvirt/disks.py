"""The cluster's own disks, at their end: the cloud controller makes volumes in the lab's pool (PersistentVolumes), and
they go when the lab goes. Deleted after the machines that have them plugged in, and before the pool.
"""

from __future__ import annotations

from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, Resource, ResourceProvider

from infra.provider import binding

PREFIX = "vol-"  # of their names


class DisksProvider(ResourceProvider):
    serialize_as_secret_always = False

    def diff(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        moved = [key for key in ("uri", "pool") if olds.get(key) != news[key]]
        return DiffResult(changes=bool(moved), replaces=moved)

    def create(self, props: dict[str, Any]) -> CreateResult:
        return CreateResult(props["pool"], props)

    def delete(self, _id: str, props: dict[str, Any]) -> None:
        connection = binding.connect(props["uri"])
        for pool in connection.listAllStoragePools():
            if pool.name() == props["pool"] and pool.isActive():
                pool.refresh()
                for volume in pool.listAllVolumes():
                    if volume.name().startswith(PREFIX):
                        volume.delete()


class ClusterDisks(Resource, module="sampan", name="ClusterDisks"):
    def __init__(self, name: str, uri: str, pool: str, options: pulumi.ResourceOptions) -> None:
        super().__init__(DisksProvider(), name, {"uri": uri, "pool": pool}, options)
