"""What a volume plugin gets and gives: the place of one pod's volumes, and the record of a mounted one.

A plugin is one coroutine, `mount(volume, place) -> Mounted`, that may be called again at any time: it brings the volume
to what the pod and the objects behind it say now. Errors: VolumeFailure in the kubelet's words (FailedMount), or the
errors of the API and the porter.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from msgspec import Struct

from orchestrator.api import meta
from orchestrator.api.clock import Clock
from orchestrator.api.meta import Object
from orchestrator.api.resources import Resource
from orchestrator.client.client import Client
from orchestrator.kubelet import securitycontext
from orchestrator.kubelet.dirs import PodDirs
from orchestrator.kubelet.disks import Disks
from orchestrator.kubelet.downwardapi import NodeFacts
from orchestrator.kubelet.objects import Objects
from orchestrator.kubelet.porter import PodKey, Porter
from orchestrator.kubelet.tokens import Tokens

Volume = dict[str, Any]


class VolumeFailure(Exception):
    """The volume cannot be mounted; the text is what users read."""


class Mounted(Struct, frozen=True):
    """Where the volume's files are: a path on the node, or (`is_image`) the name of an image. Of a volume that is no
    file system but a device (`is_device`), the device."""

    path: str
    is_image: bool = False
    read_only: bool = False
    is_device: bool = False


class Place(Struct, frozen=True, kw_only=True):
    """One pod on this node."""

    pod: Object
    client: Client
    disks: Disks
    dirs: PodDirs
    porter: Porter
    objects: Objects
    tokens: Tokens
    facts: NodeFacts
    clock: Clock
    pod_ips: tuple[str, ...] = ()

    @property
    def key(self) -> PodKey:
        return PodKey(meta.uid(self.pod), meta.namespace(self.pod), meta.name(self.pod))

    @property
    def fs_group(self) -> int | None:
        return securitycontext.fs_group(self.pod)

    async def get(self, resource: Resource, name: str) -> Object:
        """An object of the pod's namespace (or of none, where the resource has none)."""
        namespace = meta.namespace(self.pod) if resource.namespaced else ""
        return await self.objects.get(meta.uid(self.pod), resource, namespace, name)

    async def own_by_group(self, path: Path, *, mode: int | None = None, is_lazy: bool = False) -> None:
        """Gives a path to the pod's fsGroup, where it has one; `is_lazy`: only if the path itself is not its yet."""
        if self.fs_group is not None:
            await self.porter.own(
                self.key, path, user_id=None, group_id=self.fs_group, mode=mode, recursive=True, is_lazy=is_lazy
            )


Plugin = Callable[[Volume, Place], Awaitable[Mounted]]
