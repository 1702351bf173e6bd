"""A Node as the scheduler reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.scheduler import resources

NO_SCHEDULE, PREFER_NO_SCHEDULE, NO_EXECUTE = "NoSchedule", "PreferNoSchedule", "NoExecute"
UNSCHEDULABLE_TAINT = "node.kubernetes.io/unschedulable"


class Taint(Struct, frozen=True):
    key: str
    value: str
    effect: str


class Node(Struct, frozen=True):
    """`images` maps each name of an image to its size in bytes."""

    name: str
    labels: Mapping[str, str]
    taints: tuple[Taint, ...]
    is_unschedulable: bool
    allocatable: Mapping[str, int]
    images: Mapping[str, int]


def parse_node(obj: Object) -> Node:
    spec: dict[str, Any] = obj.get("spec") or {}
    status: dict[str, Any] = obj.get("status") or {}
    return Node(
        name=meta.name(obj),
        labels=meta.labels(obj),
        taints=tuple(
            Taint(taint["key"], taint.get("value") or "", taint.get("effect") or "")
            for taint in spec.get("taints") or ()
        ),
        is_unschedulable=bool(spec.get("unschedulable")),
        allocatable=resources.amounts(status.get("allocatable") or status.get("capacity")),
        images={
            name: int(image.get("sizeBytes") or 0)
            for image in status.get("images") or ()
            for name in image.get("names") or ()
        },
    )
