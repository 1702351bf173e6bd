"""Claiming: which objects belong to a controller by its selector, which to adopt and which to release.

An object has at most one controller. Orphans that match are adopted, by adding the owner reference; objects that no
longer match are released, by removing it. Before it adopts, a controller reads itself from the server: one that is
being deleted, or was replaced by another of its name, must not adopt. A finalizer by which the controller holds what it
owns comes and goes with the reference.
Source: Concepts, "Labels and Selectors", ownership; design of controller references.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

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


def adopters(
    old: Object | None, new: Object | None, owners: Iterable[Object], selector_of: Callable[[Object], LabelSelector]
) -> list[str]:
    """Keys of the owners that may adopt what has become an orphan, or an orphan of other labels."""
    if new is None or meta.controller_of(new):
        return []
    if old is not None and meta.labels(old) == meta.labels(new) and not meta.controller_of(old):
        return []
    near = (owner for owner in owners if meta.namespace(owner) == meta.namespace(new))
    return [meta.key(owner) for owner in near if selector_of(owner).matches(meta.labels(new))]


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
    client: Client,
    owner_resource: Resource,
    owner: Object,
    selector: LabelSelector,
    informer: Informer,
    finalizer: str = "",
) -> list[Object]:
    """The objects of `informer` (indexed by INDEXERS) that are the owner's, after adopting and releasing. `finalizer`:
    what the owner holds its objects by."""
    cache = informer.cache
    candidates = [
        *cache.by_index("controller", meta.uid(owner)),
        *cache.by_index("orphans", meta.namespace(owner)),
    ]
    claims = classify(owner, selector, candidates)
    for obj in claims.to_release:
        await _release(client, informer.resource, owner, obj, finalizer)
    if not claims.to_adopt:
        return claims.owned
    live = await client.get(owner_resource, meta.name(owner), meta.namespace(owner))
    if meta.uid(live) != meta.uid(owner) or meta.is_deleting(live):
        return claims.owned
    adopted = [await _adopt(client, informer.resource, owner, obj, finalizer) for obj in claims.to_adopt]
    return [*claims.owned, *(obj for obj in adopted if obj is not None)]


async def _adopt(client: Client, resource: Resource, owner: Object, obj: Object, finalizer: str) -> Object | None:
    references = [*meta.owner_references(obj), meta.owner_reference(owner)]
    patch = _patch(obj, references)
    if finalizer and finalizer not in meta.finalizers(obj):
        patch["metadata"]["finalizers"] = [*meta.finalizers(obj), finalizer]
    try:
        return await client.patch(resource, meta.name(obj), meta.namespace(obj), patch)
    except (status.NotFound, status.Invalid):
        return None  # gone, or deleting by now


async def _release(client: Client, resource: Resource, owner: Object, obj: Object, finalizer: str) -> None:
    references = [ref for ref in meta.owner_references(obj) if ref.get("uid") != meta.uid(owner)]
    patch = _patch(obj, references)
    if finalizer in meta.finalizers(obj):
        patch["metadata"]["finalizers"] = [name for name in meta.finalizers(obj) if name != finalizer] or None
    try:
        await client.patch(resource, meta.name(obj), meta.namespace(obj), patch)
    except (status.NotFound, status.Invalid) as error:
        log.debug("object not released", extra={"key": meta.key(obj), "error": str(error)})


def _patch(obj: Object, references: list[Object]) -> Object:
    """A merge patch of just this object in just this state."""
    described = {"uid": meta.uid(obj), "resourceVersion": meta.resource_version(obj)}
    return {"metadata": {**described, "ownerReferences": references or None}}
