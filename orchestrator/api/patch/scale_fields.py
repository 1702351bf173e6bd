"""Managed fields between an object and its Scale: one field of both, under another path and version.

Whoever owns the number of replicas in the object owns `spec.replicas` of the Scale; what a write of the Scale makes of
that goes back. A manager that lost the number keeps its other fields; one that has it anew gets an entry in the
object's version, without a time, as kube-apiserver writes it.
Source: k8s.io/apimachinery util/managedfields, scalehandler.go.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from orchestrator.api.patch.field_sets import FieldSet, Path
from orchestrator.api.patch.managed_fields import Managers, Owned

REPLICAS: Path = ("f:spec", "f:replicas")  # in the Scale
SCALE_VERSION = "autoscaling/v1"

Paths = Mapping[str, Path | None]
"""Version of the object → where its replicas are; None for a version that has no Scale."""


def path_of(dotted: str) -> Path:
    """`.spec.replicas` → its path in a field set."""
    return tuple(f"f:{step}" for step in dotted.removeprefix(".").split("."))


def to_scale(parent: Managers, paths: Paths) -> Managers:
    """The managers of the Scale."""
    found: Managers = {}
    for manager, owned in parent.items():
        path = paths.get(owned.api_version)
        if path is not None and owned.fields.has(path):
            found[manager] = Owned(FieldSet().add(*REPLICAS), SCALE_VERSION, owned.time)
    return found


def to_parent(parent: Managers, scale: Managers, paths: Paths, api_version: str) -> Managers:
    """The managers of the object, whose version is `api_version`, after a write left `scale` those of its Scale.
    Entries of a version that is not served any more are dropped."""
    left = dict(scale)
    found: Managers = {}
    for manager, owned in parent.items():
        if owned.api_version not in paths:
            continue
        path = paths[owned.api_version]
        if path is None or not owned.fields.has(path) or left.pop(manager, None) is not None:
            found[manager] = owned
        elif fields := owned.fields.difference(FieldSet().add(*path)):
            found[manager] = replace(owned, fields=fields)
    own_path = paths[api_version]
    assert own_path is not None, "it has a Scale"
    for manager, owned in left.items():
        if owned.fields.has(REPLICAS):
            time = parent[manager].time if manager in parent else ""
            found[manager] = Owned(FieldSet().add(*own_path), api_version, time)
    return found
