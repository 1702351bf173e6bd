"""Bootstrap roles and bindings are made to exist at every start, without taking away what people added.

A role gets the rights it lacks, a binding the subjects it lacks, both the labels and annotations they lack; a binding
to another role is replaced. An object whose autoupdate annotation says "false" is left alone.
Source: Kubernetes docs, "Using RBAC Authorization", auto-reconciliation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.api.resources import CLUSTERROLEBINDINGS, CLUSTERROLES, ROLEBINDINGS, ROLES, Resource
from orchestrator.api.status import AlreadyExists, Conflict
from orchestrator.apiserver.authz import bootstrap
from orchestrator.apiserver.authz.rules import Rule, missing
from orchestrator.apiserver.lookup import Lookup

PARALLEL = 32  # writes that share one commit of the store

Merge = Callable[[Object, Object], Object | None]


class Writer(Protocol):
    """What is needed of a client that may do anything (no escalation check applies to system:masters)."""

    async def create(self, resource: Resource, obj: Object) -> Object: ...

    async def update(self, resource: Resource, obj: Object) -> Object: ...

    async def delete(self, resource: Resource, name: str, namespace: str) -> Object: ...


async def reconcile(writer: Writer, lookup: Lookup) -> None:
    """Namespaces kube-system and kube-public must exist. Every API server does this at start, so each may find that
    another was quicker."""
    turns = asyncio.Semaphore(PARALLEL)
    async with asyncio.TaskGroup() as tasks:
        for resource, wanted, merge in _everything():
            for want in wanted:
                have = lookup.get(resource, meta.namespace(want), meta.name(want))
                tasks.create_task(_ensure(writer, resource, have, want, merge, turns))


def _everything() -> list[tuple[Resource, Iterable[Object], Merge]]:
    return [
        (CLUSTERROLES, bootstrap.cluster_roles(), merged_role),
        (CLUSTERROLEBINDINGS, bootstrap.cluster_role_bindings(), merged_binding),
        (ROLES, bootstrap.roles(), merged_role),
        (ROLEBINDINGS, bootstrap.role_bindings(), merged_binding),
    ]


async def _ensure(
    writer: Writer, resource: Resource, have: Object | None, want: Object, merge: Merge, turns: asyncio.Semaphore
) -> None:
    async with turns:
        try:
            if have is None:
                await writer.create(resource, want)
            elif "roleRef" in want and have["roleRef"] != want["roleRef"] and _is_ours(have):
                await writer.delete(resource, meta.name(have), meta.namespace(have))
                await writer.create(resource, want)
            elif (merged := merge(have, want)) is not None:
                await writer.update(resource, merged)
        except (AlreadyExists, Conflict):
            return  # another server writes the same


def merged_role(have: Object, want: Object) -> Object | None:
    """The role as it should be, None where it needs no change. Rules of an aggregated role are its controller's."""
    if not _is_ours(have):
        return None
    merged = _with_metadata(have, want)
    if "aggregationRule" in want:
        merged["aggregationRule"] = want["aggregationRule"]
    else:
        held = [Rule.from_json(rule) for rule in have.get("rules") or ()]
        lacking = [rule for rule in want["rules"] if missing(held, [Rule.from_json(rule)])]
        merged["rules"] = [*(have.get("rules") or ()), *lacking]
    return merged if _differs(merged, have) else None


def merged_binding(have: Object, want: Object) -> Object | None:
    if not _is_ours(have):
        return None
    merged = _with_metadata(have, want)
    present = have.get("subjects") or []
    merged["subjects"] = present + [subject for subject in want["subjects"] if subject not in present]
    return merged if _differs(merged, have) else None


def _is_ours(have: Object) -> bool:
    return meta.annotations(have).get(bootstrap.AUTOUPDATE) != "false"


def _with_metadata(have: Object, want: Object) -> Object:
    labels = {**meta.labels(want), **meta.labels(have)}
    annotations = {**meta.annotations(want), **meta.annotations(have)}
    return {**have, "metadata": {**have["metadata"], "labels": labels, "annotations": annotations}}


def _differs(merged: Object, have: Object) -> bool:
    empty: Object = {"rules": [], "subjects": []}
    return {**empty, **merged} != {**empty, **have}
