"""Resizing a pod in place: what the `resize` subresource may change, which is the cpu and memory of its containers and
of the pod as a whole.

The class of service stays what it was; a request or limit may be moved but not taken away. What else a client sends
comes from the stored pod before this is asked, but for containers that are others. Source: KEP-1287, KEP-5419;
kube-apiserver's ValidatePodResize.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.api import meta
from orchestrator.api.kinds import faults, pod_faults
from orchestrator.api.kinds.qos import qos_class
from orchestrator.api.meta import Object
from orchestrator.api.podresources import is_sidecar
from orchestrator.api.status import Cause

RESIZABLE = ("cpu", "memory")
PARTS = ("requests", "limits")
Json = Mapping[str, Any]


def faults_of(new: Object, old: Object) -> list[Cause]:
    spec, before = new.get("spec") or {}, old.get("spec") or {}
    if meta.MIRROR_ANNOTATION in meta.annotations(old):
        return [faults.forbidden("", "static pods cannot be resized")]
    if (before.get("os") or {}).get("name") == "windows":
        return [faults.forbidden("", "windows pods cannot be resized")]
    causes = pod_faults.spec(spec, "spec")
    held = (old.get("status") or {}).get("qosClass") or qos_class(before)
    if qos_class(spec) != held:
        causes.append(faults.invalid("spec", held, "Pod QOS Class may not change as a result of resizing"))
    if not _can_resize(old):
        causes.append(faults.forbidden("spec", "Pod running on node without support for resize"))
    causes += _of_pod(spec.get("resources"), before.get("resources"))
    if others := [*_others(spec, before)]:
        return causes + others
    for kind in ("initContainers", "containers"):
        for index, (after, prior) in enumerate(_pairs(spec, before, kind)):
            causes += _removed(f"spec.{kind}[{index}].resources", "resource", after, prior)
    causes += _other_changes(spec, before)
    return causes


def _can_resize(old: Object) -> bool:
    """Whether its node tells what resources are in force."""
    for found in (old.get("status") or {}).get("containerStatuses") or ():
        if (found.get("state") or {}).get("running") is not None:
            return found.get("resources") is not None
    return True


def _of_pod(new: Json | None, old: Json | None) -> Iterator[Cause]:
    if old is not None and new is None:
        yield faults.forbidden("spec.resources", "pod-level resources cannot be removed")
        return
    yield from _removed("spec.resources", "pod-level resource", {"resources": new}, {"resources": old})
    if _fixed(new) != _fixed(old):
        yield faults.forbidden("spec", "only cpu and memory resources are mutable at pod-level")


def _others(spec: Json, before: Json) -> Iterator[Cause]:
    """Containers that were not there, or stood elsewhere."""
    for kind in ("containers", "initContainers"):
        if len(spec.get(kind) or ()) != len(before.get(kind) or ()):
            yield faults.forbidden(f"spec.{kind}", f"{kind} may not be added or removed on resize")
            continue
        for index, (after, prior) in enumerate(_pairs(spec, before, kind)):
            if after.get("name") != prior.get("name"):
                detail = f"{kind} may not be renamed or reordered on resize"
                yield faults.forbidden(f"spec.{kind}[{index}].name", detail)


def _removed(path: str, what: str, new: Json, old: Json) -> Iterator[Cause]:
    for part in PARTS:
        after = (new.get("resources") or {}).get(part) or {}
        before = (old.get("resources") or {}).get(part) or {}
        if before.keys() - after.keys():
            yield faults.forbidden(f"{path}.{part}", f"{what} {part} cannot be removed")


def _other_changes(spec: Json, before: Json) -> Iterator[Cause]:
    for after, prior in _pairs(spec, before, "containers"):
        if _others_of(after) != _others_of(prior):
            yield faults.forbidden("spec", "only cpu and memory resources are mutable")
    for index, (after, prior) in enumerate(_pairs(spec, before, "initContainers")):
        path = f"spec.initContainers[{index}]"
        if _others_of(after) != _others_of(prior):
            yield faults.forbidden(path, "only cpu and memory resources for init or sidecar containers are mutable")
        if after != prior and not is_sidecar(after):
            restarts = [
                one for one in after.get("resizePolicy") or () if one.get("restartPolicy") == "RestartContainer"
            ]
            detail = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized"
            yield from (faults.forbidden(path, detail) for _ in restarts)


def _others_of(container: Json) -> dict[str, Any]:
    """A container without what may be resized."""
    return {**container, "resources": _fixed(container.get("resources"))}


def _fixed(resources: Json | None) -> dict[str, Any]:
    """What of resources stays as it is."""
    found: dict[str, Any] = {name: value for name, value in (resources or {}).items() if name not in PARTS and value}
    for part in PARTS:
        amounts = (resources or {}).get(part) or {}
        found[part] = {name: value for name, value in amounts.items() if name not in RESIZABLE}
    return found


def _pairs(spec: Json, before: Json, kind: str) -> Iterator[tuple[Any, Any]]:
    return zip(spec.get(kind) or (), before.get(kind) or (), strict=False)
