"""Namespace deletion: everything in it goes first, then the namespace.

A namespace that is being deleted carries the finalizer `kubernetes` in its spec. Of each namespaced resource that the
server serves (by discovery, custom ones too) the whole collection is deleted, pods before all others; while anything
remains, the conditions say what, and the deletion is tried again as pods and others end. When nothing is left the
finalizer is removed through /finalize, which lets the server remove the namespace.
Source: Concepts, Namespaces, "Automatic deletion"; API reference, NamespaceCondition.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence

from msgspec import Struct, field

from orchestrator.api import conditions, meta, status
from orchestrator.api.conditions import Condition
from orchestrator.api.meta import Object
from orchestrator.api.resources import NAMESPACES, PODS, Resource
from orchestrator.client.discovery import discover
from orchestrator.client.loop import Loop
from orchestrator.controllers.context import Context
from orchestrator.controllers.fields import spec, status_of, with_status

FINALIZER = "kubernetes"
RETRY_FIRST_S, RETRY_MAX_S = 0.2, 15.0


class Remaining(Struct):
    """What deletion left: objects by resource, finalizers by name, and what went wrong."""

    objects: dict[str, int] = field(default_factory=dict)
    finalizers: Counter[str] = field(default_factory=Counter)
    discovery_failures: Mapping[str, str] = field(default_factory=dict)
    deletion_failures: list[str] = field(default_factory=list)

    @property
    def is_nothing(self) -> bool:
        return not (self.objects or self.discovery_failures or self.deletion_failures)


def next_conditions(current: Sequence[Condition] | None, left: Remaining, now: str) -> list[Condition]:
    """The five conditions of a namespace that is being deleted."""
    discovery = "; ".join(f"{name}: {why}" for name, why in sorted(left.discovery_failures.items()))
    content = ", ".join(f"{name} has {count} resource instances" for name, count in sorted(left.objects.items()))
    finalizers = ", ".join(f"{name} in {count} resource instances" for name, count in sorted(left.finalizers.items()))
    rows = (
        (
            "NamespaceDeletionDiscoveryFailure",
            (
                "DiscoveryFailed",
                f"Discovery failed for some groups, {len(left.discovery_failures)} failing: {discovery}",
            )
            if discovery
            else None,
            ("ResourcesDiscovered", "All resources successfully discovered"),
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            None,
            ("ParsedGroupVersions", "All legacy kube types successfully parsed"),
        ),
        (
            "NamespaceDeletionContentFailure",
            ("ContentDeletionFailed", "Failed to delete all resource types: " + "; ".join(left.deletion_failures))
            if left.deletion_failures
            else None,
            ("ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
        ),
        (
            "NamespaceContentRemaining",
            ("SomeResourcesRemain", f"Some resources are remaining: {content}") if content else None,
            ("ContentRemoved", "All content successfully removed"),
        ),
        (
            "NamespaceFinalizersRemaining",
            ("SomeFinalizersRemain", f"Some content in the namespace has finalizers remaining: {finalizers}")
            if finalizers
            else None,
            ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
        ),
    )
    found = list(current or ())
    for kind, fault, fine in rows:
        reason, message = fault or fine
        condition = {"type": kind, "status": "True" if fault else "False", "reason": reason, "message": message}
        found = conditions.updated(found, condition, now)
    return found


class NamespaceController:
    """Empties and finalizes namespaces that are being deleted."""

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._clock = context.clock
        self.loop = Loop("namespace", self.reconcile)
        self._namespaces = context.informers.informer(NAMESPACES)
        self._pods = context.informers.informer(PODS)
        self._tries: dict[str, int] = {}
        self._namespaces.add_handler(self._namespace_changed)
        self._pods.add_handler(self._pod_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _namespace_changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None and meta.is_deleting(new):
            self.loop.queue.add(meta.name(new))

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        """The last pod is what a deletion mostly waits for."""
        if new is None and old is not None:
            namespace = self._namespaces.cache.get(meta.namespace(old))
            if namespace is not None and meta.is_deleting(namespace):
                self.loop.queue.add(meta.name(namespace))

    async def reconcile(self, key: str) -> None:
        namespace = self._namespaces.cache.get(key)
        if namespace is None or not meta.is_deleting(namespace):
            self._tries.pop(key, None)
            return
        if FINALIZER not in (spec(namespace).get("finalizers") or ()):
            return
        if status_of(namespace).get("phase") != "Terminating":
            ending = with_status(namespace, {**status_of(namespace), "phase": "Terminating"})
            namespace = await self._client.update(NAMESPACES, ending, subresource="status")
        left = await self._empty(key)
        if left.is_nothing:
            self._tries.pop(key, None)
            await self._finalize(key)
            return
        found = status_of(namespace).get("conditions")
        wanted = next_conditions(found, left, meta.format_time(self._clock.now()))
        if wanted != found:
            reported = with_status(namespace, {**status_of(namespace), "conditions": wanted})
            await self._client.update(NAMESPACES, reported, subresource="status")
        tries = self._tries.get(key, 0)
        self._tries[key] = tries + 1
        self.loop.queue.add_after(key, min(RETRY_FIRST_S * 2 ** min(tries, 16), RETRY_MAX_S))

    async def _empty(self, namespace: str) -> Remaining:
        """Deletes all content once; says what is left after it."""
        discovered = await discover(self._client)
        left = Remaining(discovery_failures=discovered.failures)
        kinds = [
            resource
            for resource in discovered.resources
            if resource.namespaced and "list" in resource.verbs and "delete" in resource.verbs
        ]
        # Pods go first and alone: what they use to the end (policies, secrets, volumes) must outlive them (KEP-5080).
        # Events go last, as deleting other objects makes some.
        kinds.sort(key=lambda resource: (resource.group_resource != PODS.group_resource, resource.plural == "events"))
        for resource in kinds:
            await self._empty_one(namespace, resource, left)
            if resource.group_resource == PODS.group_resource and not left.is_nothing:
                return left
        return left

    async def _empty_one(self, namespace: str, resource: Resource, left: Remaining) -> None:
        try:
            before = await self._client.list(resource, namespace)
            if not before.items:
                return
            if "deletecollection" in resource.verbs:
                await self._client.delete_collection(resource, namespace, propagation="Background")
            else:
                await asyncio.gather(
                    *(
                        self._delete(resource, meta.name(obj), namespace)
                        for obj in before.items
                        if not meta.is_deleting(obj)
                    )
                )
            after = await self._client.list(resource, namespace)
        except status.NotFound:
            return  # the resource is no longer served
        except status.ApiError as error:
            left.deletion_failures.append(f"{resource.group_resource}: {error}")
            return
        if after.items:
            left.objects[f"{resource.plural}.{resource.group}"] = len(after.items)
            left.finalizers.update(name for obj in after.items for name in meta.finalizers(obj))

    async def _delete(self, resource: Resource, name: str, namespace: str) -> None:
        try:
            await self._client.delete(resource, name, namespace, propagation="Background")
        except status.NotFound:
            return

    async def _finalize(self, key: str) -> None:
        try:
            live = await self._client.get(NAMESPACES, key)
            kept = [name for name in spec(live).get("finalizers") or () if name != FINALIZER]
            finalized = {**live, "spec": {**spec(live), "finalizers": kept}}
            await self._client.update(NAMESPACES, finalized, subresource="finalize")
        except status.NotFound:
            return
