"""Claiming: which objects belong to a controller by its selector, which to adopt and which to release.

An object has at most one controller. Orphans that match are adopted, by adding the owner reference; objects that no
longer match are released, by removing it. Before it adopts, a controller reads itself from the server: one that is
being deleted, or was replaced by another of its name, must not adopt.
Source: Concepts, "Labels and Selectors", ownership; design of controller references.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from msgspec import Struct

from orchestrator.api import meta, status
from orchestrator.api.meta import Object
from orchestrator.api.resources import Resource
from orchestrator.api.selectors import LabelSelector
from orchestrator.client.cache import Indexer, by_controller
from orchestrator.client.client import Client
from orchestrator.client.informer import Informer

log = logging.getLogger(__name__)


def by_orphanage(obj: Object) -> Iterable[str]:
    """The namespace of an object that has no controller."""
    return () if meta.controller_of(obj) else (meta.namespace(obj),)


INDEXERS: dict[str, Indexer] = {"controller": by_controller, "orphans": by_orphanage}


class Claims(Struct, frozen=True):
    owned: list[Object]
    to_adopt: list[Object]
    to_release: list[Object]


def classify(owner: Object, selector: LabelSelector, candidates: Iterable[Object]) -> Claims:
    claims = Claims([], [], [])
    for obj in candidates:
        matches = selector.matches(meta.labels(obj))
        if meta.is_controlled_by(obj, owner):
            if matches:
                claims.owned.append(obj)
            elif not meta.is_deleting(owner):
                claims.to_release.append(obj)
        elif matches and not meta.controller_of(obj) and not meta.is_deleting(obj) and not meta.is_deleting(owner):
            claims.to_adopt.append(obj)
    return claims


async def claim(
    client: Client, owner_resource: Resource, owner: Object, selector: LabelSelector, informer: Informer
) -> list[Object]:
    """The objects of `informer` (indexed by INDEXERS) that are the owner's, after adopting and releasing."""
    cache = informer.cache
    candidates = [
        *cache.by_index("controller", meta.uid(owner)),
        *cache.by_index("orphans", meta.namespace(owner)),
    ]
    claims = classify(owner, selector, candidates)
    for obj in claims.to_release:
        await _release(client, informer.resource, owner, obj)
    if not claims.to_adopt:
        return claims.owned
    live = await client.get(owner_resource, meta.name(owner), meta.namespace(owner))
    if meta.uid(live) != meta.uid(owner) or meta.is_deleting(live):
        return claims.owned
    adopted = [await _adopt(client, informer.resource, owner, obj) for obj in claims.to_adopt]
    return [*claims.owned, *(obj for obj in adopted if obj is not None)]


async def _adopt(client: Client, resource: Resource, owner: Object, obj: Object) -> Object | None:
    references = [*meta.owner_references(obj), meta.owner_reference(owner)]
    patch = {"metadata": {"uid": meta.uid(obj), "ownerReferences": references}}
    patch["metadata"]["resourceVersion"] = meta.resource_version(obj)
    try:
        return await client.patch(resource, meta.name(obj), meta.namespace(obj), patch)
    except (status.NotFound, status.Invalid):
        return None  # gone, or deleting by now


async def _release(client: Client, resource: Resource, owner: Object, obj: Object) -> None:
    references = [ref for ref in meta.owner_references(obj) if ref.get("uid") != meta.uid(owner)]
    patch = {
        "metadata": {
            "uid": meta.uid(obj),
            "resourceVersion": meta.resource_version(obj),
            "ownerReferences": references or None,
        }
    }
    try:
        await client.patch(resource, meta.name(obj), meta.namespace(obj), patch)
    except (status.NotFound, status.Invalid) as error:
        log.debug("object not released", extra={"key": meta.key(obj), "error": str(error)})
