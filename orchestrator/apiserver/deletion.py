"""Deletion: what a DELETE does to an object, decided in one pure function, and the loop that carries it out.

An object goes at once unless something is to be waited for: a Pod's grace period (the kubelet stops it, then deletes it
with grace 0), finalizers (their owners remove them), a propagation policy (which is a finalizer for the garbage
collector). Then it is only marked: deletionTimestamp, grace seconds, finalizers. Deleting again can shorten the grace
but takes nothing back. Namespaces become Terminating and wait for `spec.finalizers` too.
Source: k8s.io/apiserver registry/rest BeforeDelete; pod deletion strategy; Concepts, "Garbage Collection".
"""

from __future__ import annotations

import asyncio

from msgspec import Struct

from orchestrator.api import conditions, meta, status
from orchestrator.api.meta import Object
from orchestrator.api.resources import CUSTOMRESOURCEDEFINITIONS, PODS
from orchestrator.api.status import NotFound, ServiceUnavailable
from orchestrator.apiserver import encoding
from orchestrator.apiserver.endpoint import Core, Endpoint
from orchestrator.apiserver.options import DeleteOptions
from orchestrator.apiserver.reading import find
from orchestrator.apiserver.request import Attributes
from orchestrator.apiserver.resourcecache import Entry
from orchestrator.apiserver.writing import is_done
from orchestrator.store.interface import RevisionMismatch, StoreFailed

ORPHAN, FOREGROUND = "orphan", "foregroundDeletion"
CLEANUP = "customresourcecleanup.apiextensions.k8s.io"
DEFAULT_GRACE_S = 30
COLLECTION_AT_ONCE = 200  # deletions of a deletecollection that are on their way together
# Kinds whose dependents stay where the client says nothing, for compatibility with their first clients.
ORPHANS_BY_DEFAULT = frozenset({"replicationcontrollers", "jobs.batch"})
# What is told of that where the client said nothing.
WARNED_OF_ORPHANS = {
    "jobs.batch": "child pods are preserved by default when jobs are deleted; "
    "set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning"
}
# Kinds that the garbage collector does not follow, so that a propagation policy means nothing to them.
NEVER_COLLECTED = frozenset({"events"})
# Kinds whose DELETE answers with the object where others answer with a Status.
ANSWERS_OBJECT = frozenset(
    {
        "pods", "persistentvolumes", "persistentvolumeclaims", "podtemplates", "resourcequotas", "serviceaccounts",
        "storageclasses.storage.k8s.io", "csidrivers.storage.k8s.io", "csinodes.storage.k8s.io",
        "volumeattachments.storage.k8s.io", "volumeattributesclasses.storage.k8s.io", "services",
        "deviceclasses.resource.k8s.io", "resourceclaims.resource.k8s.io", "resourceclaimtemplates.resource.k8s.io",
        "resourceslices.resource.k8s.io",
    }
)  # fmt: skip


class Plan(Struct, frozen=True):
    """`obj` is the object as it will be; it is stored, unless it is removed, or is as it was (`is_unchanged`)."""

    obj: Object
    is_removed: bool
    is_unchanged: bool = False


class Deleted(Struct, frozen=True):
    """What a deletion came to; `data` is the object as last seen."""

    data: bytes
    uid: str
    is_removed: bool


def plan(old: Object, group_resource: str, asked: DeleteOptions, now: float) -> Plan:
    """`now` in seconds since the epoch."""
    obj = meta.copied(old)
    metadata = obj["metadata"]
    finalizers = metadata.get("finalizers") or []
    if group_resource not in NEVER_COLLECTED:
        finalizers = finalizers_for(finalizers, group_resource, asked.propagation)
    if finalizers:
        metadata["finalizers"] = finalizers
    else:
        metadata.pop("finalizers", None)
    grace_s = grace_period_s(old, asked) if group_resource == "pods" else 0
    if not metadata.get("deletionTimestamp"):
        _mark(obj, now, grace_s)
        if group_resource == CUSTOMRESOURCEDEFINITIONS.group_resource:
            terminating(obj, now)
        if group_resource == "namespaces":
            metadata.pop("deletionGracePeriodSeconds", None)
            obj.setdefault("status", {})["phase"] = "Terminating"
    elif group_resource == "pods" and grace_s < (metadata.get("deletionGracePeriodSeconds") or 0):
        asked_at = meta.parse_time(metadata["deletionTimestamp"]) - metadata["deletionGracePeriodSeconds"]
        metadata["deletionTimestamp"] = meta.format_time(asked_at + grace_s)
        metadata["deletionGracePeriodSeconds"] = grace_s
    return Plan(obj, is_removed=is_done(obj), is_unchanged=obj == old)


def terminating(definition: Object, now: float) -> None:
    """A definition waits until the resources that it defined are gone."""
    metadata, status = definition["metadata"], definition.setdefault("status", {})
    metadata.pop("deletionGracePeriodSeconds", None)
    if CLEANUP not in (metadata.get("finalizers") or ()):
        metadata["finalizers"] = [*(metadata.get("finalizers") or ()), CLEANUP]
    why = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon"
    condition = {"type": "Terminating", "status": "True", "reason": "InstanceDeletionPending", "message": why}
    status["conditions"] = conditions.updated(status.get("conditions"), condition, meta.format_time(now))


def _mark(obj: Object, now: float, grace_s: int) -> None:
    metadata = obj["metadata"]
    metadata["deletionTimestamp"] = meta.format_time(now + grace_s)
    metadata["deletionGracePeriodSeconds"] = grace_s
    if metadata.get("generation"):
        metadata["generation"] += 1


def grace_period_s(pod: Object, asked: DeleteOptions) -> int:
    """How long the kubelet may take: not at all where no kubelet has the Pod, or its containers are done."""
    grace_s = asked.grace_period_s
    spec, phase = pod.get("spec") or {}, (pod.get("status") or {}).get("phase")
    if not spec.get("nodeName") or phase in ("Succeeded", "Failed"):
        return 0
    if grace_s is None:
        grace_s = spec.get("terminationGracePeriodSeconds", DEFAULT_GRACE_S)
    return max(int(grace_s), 0) if grace_s >= 0 else 1


def finalizers_for(present: list[str], group_resource: str, propagation: str | None) -> list[str]:
    """The finalizers after a deletion with this policy; None leaves what an earlier one asked for."""
    if propagation is not None:
        orphan, foreground = propagation == "Orphan", propagation == "Foreground"
    else:
        foreground = FOREGROUND in present
        orphan = ORPHAN in present or (not foreground and group_resource in ORPHANS_BY_DEFAULT)
    others = [name for name in present if name not in (ORPHAN, FOREGROUND)]
    return others + [ORPHAN] * orphan + [FOREGROUND] * foreground


async def delete(core: Core, endpoint: Endpoint, attributes: Attributes, asked: DeleteOptions) -> Deleted:
    """Deletes the object that `attributes` names. NotFound, Conflict (preconditions), Forbidden (admission)."""
    attributes.operation = "DELETE"
    while True:
        entry = find(endpoint, attributes.namespace, attributes.name)
        old = encoding.decode(entry.data)
        _check_preconditions(endpoint, old, asked)
        attributes.old_object = old
        await core.admission.mutate(attributes)
        await core.admission.validate(attributes)
        planned = plan(old, endpoint.stored.group_resource, asked, core.clock.now())
        try:
            return await _carry_out(core, endpoint, entry, planned, asked.dry_run)
        except RevisionMismatch:
            await core.cache.moved_past(endpoint.cache, entry)  # someone wrote meanwhile: look again
        except StoreFailed as error:
            raise ServiceUnavailable(f"storage is not available: {error}") from error
        finally:
            strategy = core.tables.strategies.get(endpoint.stored.group_resource)
            if strategy:
                gone = entry.key not in endpoint.cache.entries and not asked.dry_run
                await strategy.after_write(attributes, succeeded=gone)


async def _carry_out(core: Core, endpoint: Endpoint, entry: Entry, planned: Plan, dry_run: bool) -> Deleted:
    uid = meta.uid(planned.obj)
    if planned.is_removed:
        if not dry_run:
            await core.store.delete(entry.key, expected=entry.revision)
        if endpoint.stored.group_resource == PODS.group_resource:  # a Pod is always marked before it goes
            value = encoding.encode(endpoint.stored, planned.obj)
            return Deleted(encoding.with_revision(value, endpoint.cache.head, entry.revision), uid, True)
        return Deleted(entry.data, uid, True)
    if planned.is_unchanged:
        return Deleted(entry.data, uid, False)
    value = encoding.encode(endpoint.stored, planned.obj)
    revision = entry.revision
    if not dry_run:
        revision = await core.store.update(entry.key, value, expected=entry.revision, ttl_s=endpoint.ttl_s)
    return Deleted(encoding.with_revision(value, endpoint.cache.head, revision), uid, False)


async def delete_collection(
    core: Core, endpoint: Endpoint, entries: list[Entry], attributes: Attributes, asked: DeleteOptions
) -> list[bytes]:
    """Deletes each of `entries`, many at once; what is gone meanwhile is not missed. Returns them as they were."""
    deleted: list[bytes] = []

    async def one(entry: Entry) -> None:
        mine = Attributes(
            user=attributes.user, verb="delete", group=attributes.group, version=attributes.version,
            resource=attributes.resource, namespace=entry.namespace, name=entry.name, path=attributes.path,
            row=attributes.row, options=attributes.options, dry_run=attributes.dry_run,
        )  # fmt: skip
        try:
            await delete(core, endpoint, mine, asked)
            deleted.append(entry.data)
        except NotFound:
            return

    for start in range(0, len(entries), COLLECTION_AT_ONCE):
        results = await asyncio.gather(
            *(one(entry) for entry in entries[start : start + COLLECTION_AT_ONCE]), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result
    return deleted


def _check_preconditions(endpoint: Endpoint, old: Object, asked: DeleteOptions) -> None:
    metadata, resource = old["metadata"], endpoint.resource
    for field, wanted, found, what in (
        ("UID", asked.uid, metadata["uid"], "deleted and then recreated"),
        ("ResourceVersion", asked.resource_version, metadata["resourceVersion"], "modified"),
    ):
        if wanted and wanted != found and resource.group_resource == "namespaces":  # which checks them itself
            why = f"Precondition failed: {field} in precondition: {wanted}, {field} in object meta: {found}"
            raise status.conflict(resource.group, resource.plural, metadata["name"], why)
        if wanted and wanted != found:
            why = (
                f"the {field} in the precondition ({wanted}) does not match the {field} in record ({found}). "
                f"The object might have been {what}"
            )
            raise status.conflict(endpoint.stored.group, resource.kind, metadata["name"], why)


def success(endpoint: Endpoint, name: str, uid: str) -> Object:
    """The Status of an object that is gone."""
    details = {"name": name, "group": endpoint.resource.group, "kind": endpoint.resource.plural, "uid": uid}
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {key: value for key, value in details.items() if value},
    }
