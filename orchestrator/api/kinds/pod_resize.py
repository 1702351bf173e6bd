"""Resizing a pod in place: what the `resize` subresource may change, which is the cpu and memory of its containers.

The class of service stays what it was; a request or limit may be moved but not taken away. Everything else comes from
the stored pod before this is asked. Source: KEP-1287; messages of kube-apiserver.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from orchestrator.api.kinds import faults, pod_faults
from orchestrator.api.kinds.qos import qos_class
from orchestrator.api.meta import Object
from orchestrator.api.status import Cause

RESIZABLE = ("cpu", "memory")


def faults_of(new: Object, old: Object) -> list[Cause]:
    spec, before = new.get("spec") or {}, old.get("spec") or {}
    causes = pod_faults.spec(spec, "spec")
    found = qos_class(spec)
    if found != qos_class(before):
        causes.append(faults.invalid("spec", found, "Pod QOS Class may not change as a result of resizing"))
    for kind in ("containers", "initContainers"):
        for index, (after, prior) in enumerate(zip(spec.get(kind) or (), before.get(kind) or (), strict=False)):
            causes += _of_container(f"spec.{kind}[{index}].resources", after, prior)
    return causes


def _of_container(path: str, new: dict[str, Any], old: dict[str, Any]) -> Iterator[Cause]:
    for kind in ("requests", "limits"):
        after = (new.get("resources") or {}).get(kind) or {}
        before = (old.get("resources") or {}).get(kind) or {}
        if any(name in before and name not in after for name in RESIZABLE):
            yield faults.forbidden(f"{path}.{kind}", f"resource {kind} cannot be removed")
        elif _others(after) != _others(before):
            yield faults.forbidden(f"{path}.{kind}", "only cpu and memory resources are mutable")


def _others(quantities: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in quantities.items() if name not in RESIZABLE}
