"""Subresources that are a part of the object: what a write to one may take from the body.

A status write is handled by the kind's rules. The others here are narrower: what is not named comes from the stored
object, so a client cannot change more than it was authorized for. Subresources with work of their own
(binding, eviction, token, log, exec…) are handlers. Source: core/v1 Pod, certificates/v1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orchestrator.api.kinds import certificates
from orchestrator.api.meta import Object

Narrow = Callable[[Object, Object, str], Object]  # (what the client sent, what is stored, now) → what to write


def _based_on(new: Object, old: Object) -> dict[str, Any]:
    """The stored metadata with the preconditions of the request, and the record of who applied what."""
    asked = new.get("metadata") or {}
    metadata = {key: value for key, value in old["metadata"].items() if key != "resourceVersion"}
    kept = ("resourceVersion", "uid", "managedFields")
    return {**metadata, **{key: asked[key] for key in kept if asked.get(key)}}


def _ephemeral_containers(new: Object, old: Object, _: str) -> Object:
    containers = (new.get("spec") or {}).get("ephemeralContainers") or []
    return {**old, "metadata": _based_on(new, old), "spec": {**old["spec"], "ephemeralContainers": containers}}


def _resize(new: Object, old: Object, _: str) -> Object:
    """The stored pod with the resources that are asked for; containers that are others stay, to be refused."""
    asked, spec = new.get("spec") or {}, dict(old["spec"])
    kept = ("containers", "initContainers")
    names = [[[one.get("name") for one in held.get(kind) or ()] for kind in kept] for held in (asked, spec)]
    if [len(found) for found in names[0]] != [len(found) for found in names[1]]:
        return new
    for kind, after, before in zip(kept, *names, strict=True):
        if after != before:
            spec[kind] = asked[kind]
        elif kind in spec:
            spec[kind] = [_resized(one, other) for one, other in zip(spec[kind], asked[kind], strict=True)]
    spec.pop("resources", None)
    if asked.get("resources") is not None:
        spec["resources"] = asked["resources"]
    return {**old, "metadata": _based_on(new, old), "spec": spec}


def _resized(container: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in container.items() if key not in ("resources", "resizePolicy")}
    return kept | {key: asked[key] for key in ("resources", "resizePolicy") if key in asked}


NARROW: dict[tuple[str, str], Narrow] = {
    ("pods", "ephemeralcontainers"): _ephemeral_containers,
    ("pods", "resize"): _resize,
    ("certificatesigningrequests.certificates.k8s.io", "approval"): certificates.approval,
    ("certificatesigningrequests.certificates.k8s.io", "status"): certificates.signing,
}
