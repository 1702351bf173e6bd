"""Revisions of StatefulSets and DaemonSets: the templates that they had, as ControllerRevisions.

A revision's data is a strategic merge patch that puts the template back (`kubectl rollout undo` applies it), its number
grows with each change, and its name ends with a hash of the template. A template that comes back gets its old revision
with a new number. Beyond `revisionHistoryLimit` the oldest that no pod uses are deleted.
Source: API reference apps/v1 ControllerRevision.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from msgspec import Struct

from orchestrator.api import meta, status
from orchestrator.api.meta import Object
from orchestrator.api.resources import CONTROLLERREVISIONS
from orchestrator.client.client import Client
from orchestrator.controllers.fields import copied, spec, status_of
from orchestrator.controllers.template_hash import template_hash

HASH_LABEL = "controller.kubernetes.io/hash"  # of a StatefulSet's revisions
REVISION_LABEL = "controller-revision-hash"  # of pods, and of a DaemonSet's revisions
LIMIT = 10


class Missing(Struct, frozen=True):
    """The revision that is to be created."""

    revision: Object


class Outdated(Struct, frozen=True):
    """An old revision whose template came back: it becomes the newest."""

    revision: Object
    number: int


def number(revision: Object) -> int:
    return int(revision.get("revision") or 0)


def ordered(revisions: Sequence[Object]) -> list[Object]:
    return sorted(revisions, key=lambda each: (number(each), meta.name(each)))


def template_of(revision: Object) -> dict[str, Any]:
    template = copied((revision.get("data") or {}).get("spec", {}).get("template") or {})
    template.pop("$patch", None)
    return template


def find(owner: Object, revisions: Sequence[Object], hash_label: str = HASH_LABEL) -> Object | Missing | Outdated:
    """The revision of the owner's template among `revisions`, or what is to be done to have it."""
    template = spec(owner).get("template") or {}
    known = ordered(revisions)
    equal = [each for each in known if template_of(each) == template]
    if not equal:
        return Missing(_revision(owner, template, number(known[-1]) + 1 if known else 1, hash_label))
    if equal[-1] is known[-1]:
        return equal[-1]
    return Outdated(equal[-1], number(known[-1]) + 1)


def hash_of(revision: Object, hash_label: str) -> str:
    """What the label says; of a revision that was made before its kind had a label of its own, what the other says."""
    labels = meta.labels(revision)
    return labels.get(hash_label) or labels.get(HASH_LABEL, "")


def _sorted(value: Any) -> Any:
    """With the keys of mappings in order: others compare the text of a revision's data with what they would write."""
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


def _revision(owner: Object, template: dict[str, Any], revision_number: int, hash_label: str) -> Object:
    hashed = template_hash(template, status_of(owner).get("collisionCount") or 0)
    labels = dict((template.get("metadata") or {}).get("labels") or {})
    made: Object = {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": f"{meta.name(owner)}-{hashed}",
            "namespace": meta.namespace(owner),
            "labels": {**labels, hash_label: hashed},
            "ownerReferences": [meta.owner_reference(owner)],
        },
        "data": {"spec": {"template": _sorted({**template, "$patch": "replace"})}},
        "revision": revision_number,
    }
    annotations = {
        name: value
        for name, value in meta.annotations(owner).items()
        if name != "kubectl.kubernetes.io/last-applied-configuration"
    }
    if annotations:
        made["metadata"]["annotations"] = annotations
    return made


async def ensure(
    client: Client, owner: Object, revisions: Sequence[Object], hash_label: str = HASH_LABEL
) -> tuple[Object, bool]:
    """(the revision of the owner's template, whether it was written just now)."""
    found = find(owner, revisions, hash_label)
    if isinstance(found, Missing):
        return await _create(client, owner, found.revision, hash_label), True
    if isinstance(found, Outdated):
        newest = {**found.revision, "revision": found.number}
        return await client.update(CONTROLLERREVISIONS, newest), True
    return found, False


async def _create(client: Client, owner: Object, revision: Object, hash_label: str) -> Object:
    """A name that is taken by another template is avoided with a longer hash: the count is part of what is hashed."""
    for attempt in range(1, 10):
        try:
            return await client.create(CONTROLLERREVISIONS, revision)
        except status.AlreadyExists:
            existing = await client.get(CONTROLLERREVISIONS, meta.name(revision), meta.namespace(revision))
            if template_of(existing) == template_of(revision) and meta.is_controlled_by(existing, owner):
                return existing
            hashed = template_hash(template_of(revision), attempt)
            metadata = {**meta.metadata(revision), "name": f"{meta.name(owner)}-{hashed}"}
            metadata["labels"] = {**meta.labels(revision), hash_label: hashed}
            revision = {**revision, "metadata": metadata}
    raise status.Conflict(f"no free name for a revision of {meta.key(owner)}")


def surplus(owner: Object, revisions: Sequence[Object], in_use: Collection[str]) -> list[Object]:
    """The oldest revisions beyond the limit; `in_use` are names of revisions that are live."""
    limit = spec(owner).get("revisionHistoryLimit")
    limit = LIMIT if limit is None else limit
    unused = [each for each in ordered(revisions) if meta.name(each) not in in_use]
    return unused[: max(0, len(unused) - limit)]
