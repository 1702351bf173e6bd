"""ConfigMaps, Secrets and volume claims that pods refer to: fetched one by one, then followed while a pod needs them.

The kubelet may read only what its pods name, so there is a watch for each object, not one for all; it is dropped with
the last pod that used it. The first answer comes from a GET, so that a pod never waits for a watch; what a cache does
not have is asked for again, so that "not found" is always the server's word.
Errors: NotFound and the other API errors; ConnectionError where the server cannot be reached and nothing is known.
Source: kubelet's watch-based configMap and secret managers.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct, field

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.api.resources import Resource
from orchestrator.client.client import Client
from orchestrator.client.informer import Informer, Informers

Key = tuple[str, str, str]  # plural, namespace, name


class _Followed(Struct):
    informer: Informer
    served_version: str = ""
    pods: set[str] = field(default_factory=set)


class Objects:
    """`on_change` is called with the uid of each pod that uses an object that changed."""

    def __init__(self, client: Client, informers: Informers, on_change: Callable[[str], None]) -> None:
        self._client, self._informers, self._on_change = client, informers, on_change
        self._followed: dict[Key, _Followed] = {}

    async def get(self, pod_uid: str, resource: Resource, namespace: str, name: str) -> Object:
        followed = self._follow(pod_uid, resource, namespace, name)
        if followed.informer.synced:
            found = followed.informer.cache.get(meta.join_key(namespace, name))
            if found is not None:
                return found
        found = await self._client.get(resource, name, namespace)
        followed.served_version = meta.resource_version(found)
        return found

    def release(self, pod_uid: str) -> None:
        """The pod is gone."""
        for key, followed in list(self._followed.items()):
            followed.pods.discard(pod_uid)
            if not followed.pods:
                del self._followed[key]
                self._informers.release(followed.informer)

    def _follow(self, pod_uid: str, resource: Resource, namespace: str, name: str) -> _Followed:
        key = (resource.plural, namespace, name)
        followed = self._followed.get(key)
        if followed is None:
            selector = f"metadata.name={name}"
            informer = self._informers.informer(resource, namespace=namespace or None, field_selector=selector)
            followed = self._followed[key] = _Followed(informer)
            informer.add_handler(lambda old, new: self._changed(key, new))
        followed.pods.add(pod_uid)
        return followed

    def _changed(self, key: Key, new: Object | None) -> None:
        followed = self._followed.get(key)
        if followed is None or (new and meta.resource_version(new) == followed.served_version):
            return
        for pod_uid in sorted(followed.pods):
            self._on_change(pod_uid)
