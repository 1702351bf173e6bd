"""Garbage collector: deletes what has lost its owners, and sees foreground and orphaning deletions through.

It follows every resource that can be listed, watched and deleted (the metadata alone, unless another controller has
the whole objects anyway), and keeps the graph of owners. An owner counts as gone only after the server itself has said
so, or the informer has shown its end; a deletion names uid and revision, so that an object that was adopted meanwhile
is left alone. Custom resources are followed as their definitions come and go.
Events are not followed: nothing owns them and they are most of all objects.
Source: Concepts, "Garbage Collection"; design "Garbage collection, synchronous deletion".
"""

from __future__ import annotations

import asyncio
import logging

from orchestrator.api import meta, status
from orchestrator.api.meta import Object
from orchestrator.api.resources import Resource
from orchestrator.client.discovery import discover
from orchestrator.client.informer import Handler, Informer
from orchestrator.client.loop import Loop
from orchestrator.controllers import ownergraph
from orchestrator.controllers.context import Context
from orchestrator.controllers.ownergraph import Attention, Node, OwnerGraph, owns

log = logging.getLogger(__name__)

REQUIRED = {"list", "watch", "delete"}
NOT_FOLLOWED = {"events"}
DEFINITIONS = ("apiextensions.k8s.io", "customresourcedefinitions")
WORKERS = 20
ABSENT_MAX = 10_000


class GarbageCollector:
    """Keeps the graph and acts on what it says."""

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._informers = context.informers
        self._recorder = context.recorder("garbage-collector-controller")
        self._graph = OwnerGraph()
        self._absent: dict[str, None] = {}  # uids that are gone for good, the latest ones: uids do not come back
        self._followed: dict[Resource, tuple[Informer, Handler]] = {}
        self._by_kind: dict[tuple[str, str], Resource] = {}
        self._deletions = Loop("garbage-collector", self._attempt_to_delete, WORKERS)
        self._orphanings = Loop("garbage-collector orphans", self._attempt_to_orphan)
        self._discoveries = Loop("garbage-collector discovery", self._rediscover, workers=1)

    async def run(self) -> None:
        self._discoveries.queue.add("all")
        async with asyncio.TaskGroup() as group:
            group.create_task(self._discoveries.run())
            group.create_task(self._deletions.run())
            group.create_task(self._orphanings.run())

    # What is followed

    async def _rediscover(self, _: str) -> None:
        discovered = await discover(self._client)
        served = {
            resource.group_resource: resource
            for resource in discovered.resources
            if set(resource.verbs) >= REQUIRED and resource.plural not in NOT_FOLLOWED
        }
        for resource in served.values():
            self._by_kind[resource.group, resource.kind] = resource
        known = {resource.group_resource: resource for resource in self._followed}
        for name, resource in served.items():
            if name not in known:
                self._follow(resource)
        for name, resource in known.items():
            if name not in served and resource.api_version not in discovered.failures:
                self._unfollow(resource)
        if discovered.failures:
            self._discoveries.queue.add_after("all", 30)

    def _follow(self, resource: Resource) -> None:
        informer, handler = self._informers.shared(resource), self._handler(resource)
        self._followed[resource] = informer, handler
        informer.add_handler(handler)
        if (resource.group, resource.plural) == DEFINITIONS:
            informer.add_handler(lambda old, new: self._discoveries.queue.add_after("all", 0.5))

    def _unfollow(self, resource: Resource) -> None:
        informer, handler = self._followed.pop(resource)
        informer.remove_handler(handler)
        self._informers.release(informer)
        for obj in informer.cache.list():
            self._attend(self._graph.forget(meta.uid(obj)))

    def _handler(self, resource: Resource) -> Handler:
        def changed(old: Object | None, new: Object | None) -> None:
            if old is not None and (new is None or meta.uid(new) != meta.uid(old)):
                self._is_gone(meta.uid(old))
                self._attend(self._graph.forget(meta.uid(old)))
            if new is not None:
                self._attend(self._graph.observe(resource, new))

        return changed

    def _is_gone(self, uid: str) -> None:
        self._absent[uid] = None
        if len(self._absent) > ABSENT_MAX:
            del self._absent[next(iter(self._absent))]

    def _attend(self, found: Attention) -> None:
        for uid in found.delete:
            self._deletions.queue.add(uid)
        for uid in found.orphan:
            self._orphanings.queue.add(uid)

    # What is deleted

    async def _attempt_to_delete(self, uid: str) -> None:
        node = self._graph.get(uid)
        if node is None or node.is_virtual or node.resource is None:
            return
        if node.is_foreground:
            verdict, look_at = ownergraph.judge_foreground(node)
            for dependent in look_at:
                self._deletions.queue.add(dependent)
            if verdict is not None:
                await self._remove_finalizer(node, ownergraph.FOREGROUND)
            return
        if node.is_deleting or not node.owners:
            return
        live = await self._live(node)
        if live is None:
            return
        references = meta.owner_references(live)
        dangling, waiting = await self._classify(node, references)
        verdict = ownergraph.judge(node, references, meta.finalizers(live), dangling, waiting)
        await self._carry_out(node, live, verdict)

    async def _live(self, node: Node) -> Object | None:
        """The object as it is now, or None if it is gone: then the informer will say so too."""
        assert node.resource is not None
        try:
            found = await self._client.get(node.resource, node.name, node.namespace)
        except status.NotFound:
            return None
        return found if meta.uid(found) == node.uid else None

    async def _classify(self, node: Node, references: list[dict[str, object]]) -> tuple[set[str], set[str]]:
        dangling: set[str] = set()
        waiting: set[str] = set()
        for ref in references:
            uid = str(ref["uid"])
            owner = self._graph.get(uid)
            if owner is not None and not owner.is_virtual and owns(owner.namespace, node.namespace):
                if owner.is_foreground and any(
                    each["uid"] == uid and each.get("blockOwnerDeletion") for each in references
                ):
                    waiting.add(uid)
                continue
            if uid in self._absent or not await self._exists(ref, node.namespace):
                dangling.add(uid)
        return dangling, waiting

    async def _exists(self, ref: dict[str, object], namespace: str) -> bool:
        """Asks the server. A kind that is not served may come back: its objects are kept."""
        group, _, _ = str(ref["apiVersion"]).rpartition("/")
        resource = self._by_kind.get((group, str(ref["kind"])))
        if resource is None:
            log.warning("owner of unknown kind", extra={"apiVersion": ref["apiVersion"], "kind": ref["kind"]})
            self._discoveries.queue.add_after("all", 30)
            return True
        try:
            found = await self._client.get(resource, str(ref["name"]), namespace if resource.namespaced else "")
        except status.NotFound:
            return False
        return meta.uid(found) == ref["uid"]

    async def _carry_out(self, node: Node, live: Object, verdict: ownergraph.Verdict) -> None:
        match verdict:
            case ownergraph.Delete(propagation):
                await self._delete(node, live, propagation)
            case ownergraph.ReleaseOwners(uids):
                kept = [ref for ref in meta.owner_references(live) if ref["uid"] not in uids]
                await self._set_owners(node, live, kept)
            case ownergraph.Unblock():
                unblocked = [{**ref, "blockOwnerDeletion": False} for ref in meta.owner_references(live)]
                live = await self._set_owners(node, live, unblocked)
                await self._delete(node, live, "Foreground")

    async def _delete(self, node: Node, live: Object, propagation: str) -> None:
        assert node.resource is not None
        log.info("deleting garbage", extra={"resource": node.resource.group_resource, "key": meta.key(live)})
        try:
            await self._client.delete(
                node.resource,
                node.name,
                node.namespace,
                propagation=propagation,  # type: ignore[arg-type]
                uid=node.uid,
                resource_version=meta.resource_version(live),
            )
        except status.NotFound:
            return

    async def _set_owners(self, node: Node, live: Object, references: list[dict[str, object]]) -> Object:
        assert node.resource is not None
        described = {"uid": node.uid, "resourceVersion": meta.resource_version(live)}
        patch = {"metadata": {**described, "ownerReferences": references or None}}
        return await self._client.patch(node.resource, node.name, node.namespace, patch)

    # What is released

    async def _attempt_to_orphan(self, uid: str) -> None:
        owner = self._graph.get(uid)
        if owner is None or not owner.is_orphaning:
            return
        for dependent in list(owner.dependents.values()):
            live = await self._live(dependent) if dependent.resource is not None else None
            if live is None:
                continue
            kept = [ref for ref in meta.owner_references(live) if ref["uid"] != uid]
            if len(kept) != len(meta.owner_references(live)):
                await self._set_owners(dependent, live, kept)
        await self._remove_finalizer(owner, ownergraph.ORPHAN)

    async def _remove_finalizer(self, node: Node, finalizer: str) -> None:
        live = await self._live(node)
        if live is None or node.resource is None or finalizer not in meta.finalizers(live):
            return
        kept = [name for name in meta.finalizers(live) if name != finalizer]
        described = {"uid": node.uid, "resourceVersion": meta.resource_version(live), "finalizers": kept or None}
        try:
            await self._client.patch(node.resource, node.name, node.namespace, {"metadata": described})
        except status.NotFound:
            return
