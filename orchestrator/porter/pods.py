"""Which pods are this node's: the answer that every verb asks for first.

A pod is ours if the API says that it is bound to this node, or if it is a static pod: its manifest lies in the folder
that the porter's own configuration names, which the kubelet's user cannot choose. The kubelet often learns of a pod a
few milliseconds before we do, so an unknown uid is waited for, a bounded time.
Removal is allowed for what is on record here, when the API has long forgotten the pod.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import yaml

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.porter.verbs import PodArguments, PorterError

WAIT_MAX_S = 5.0


class Cache(Protocol):
    """The informer's cache of pods bound to this node."""

    def by_index(self, index: str, value: str) -> list[Object]: ...


def uids_of(pod: Object) -> list[str]:
    """The uids that the kubelet may know a pod by; the informer's index."""
    mirrored = meta.annotations(pod).get(meta.MIRROR_ANNOTATION)
    return [meta.uid(pod), *([mirrored] if mirrored else [])]


class Pods:
    """Looks pods up by uid. `changed()` is called by the informer's handler."""

    def __init__(self, cache: Cache, node_name: str, manifests_dir: Path | None) -> None:
        self._cache, self._node_name, self._manifests = cache, node_name, manifests_dir
        self._change = asyncio.Event()

    def changed(self, *_: Any) -> None:
        self._change.set()

    def find(self, uid: str) -> Object | None:
        return next(iter(self._cache.by_index("uid", uid)), None)

    async def require(self, arguments: PodArguments) -> Object:
        """The pod. PorterError where it is not of this node."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + WAIT_MAX_S
        while True:
            self._change.clear()
            found = self.find(arguments.uid) or self._static(arguments.pod)
            if found is not None:
                return found
            try:
                async with asyncio.timeout_at(give_up_at):
                    await self._change.wait()
            except TimeoutError:
                raise PorterError(f"no pod with uid {arguments.uid} is bound to node {self._node_name}") from None

    def _static(self, key: str) -> Object | None:
        if not key or self._manifests is None or not self._manifests.is_dir():
            return None
        for file in sorted(self._manifests.iterdir()):
            if file.suffix not in (".yaml", ".yml", ".json"):
                continue
            try:
                manifest = yaml.safe_load(file.read_text())
            except (OSError, yaml.YAMLError):
                continue
            if isinstance(manifest, dict) and static_key(manifest, self._node_name) == key:
                return manifest
        return None


def static_key(manifest: Object, node_name: str) -> str:
    """A static pod is called `<name>-<node>`, as upstream's kubelet does."""
    namespace = meta.namespace(manifest) or "default"
    return meta.join_key(namespace, f"{meta.name(manifest)}-{node_name}")


def volume(pod: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The pod's volume of that name. PorterError without one."""
    for found in (pod.get("spec") or {}).get("volumes") or ():
        if found.get("name") == name:
            return dict(found)
    raise PorterError(f"pod {meta.key(dict(pod))} has no volume {name!r}")
