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
    spec = dict(old["spec"])
    for field in ("containers", "initContainers"):
        asked = {container.get("name"): container for container in (new.get("spec") or {}).get(field) or ()}
        if field in spec:
            spec[field] = [_resized(container, asked.get(container["name"])) for container in spec[field]]
    return {**old, "metadata": _based_on(new, old), "spec": spec}


def _resized(container: dict[str, Any], asked: dict[str, Any] | None) -> dict[str, Any]:
    if asked is None:
        return container
    kept = {key: value for key, value in container.items() if key not in ("resources", "resizePolicy")}
    return kept | {key: asked[key] for key in ("resources", "resizePolicy") if key in asked}


NARROW: dict[tuple[str, str], Narrow] = {
    ("pods", "ephemeralcontainers"): _ephemeral_containers,
    ("pods", "resize"): _resize,
    ("certificatesigningrequests.certificates.k8s.io", "approval"): certificates.approval,
    ("certificatesigningrequests.certificates.k8s.io", "status"): certificates.signing,
}
