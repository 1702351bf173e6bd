"""Object metadata: what every kind shares, on creation and on update.

`prepare_create` and `carry_over` mend what clients may leave out; `create` and `update` return the faults.
Source: meta/v1 ObjectMeta; API conventions, "Metadata".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.api.kinds import faults, formats
from orchestrator.api.meta import Object
from orchestrator.api.status import Cause

ANNOTATIONS_BYTES_MAX = 256 * 1024
STANDARD_FINALIZERS = ("kubernetes", "orphan", "foregroundDeletion")
NO_FINALIZER = "name is neither a standard finalizer name nor is it fully qualified"
_SYSTEM_FIELDS = ("creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "selfLink", "uid")
_IMMUTABLE = ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")


def wipe_system_fields(obj: Object) -> None:
    """What a client may not bring to a new object; the server sets uid, creation time and resource version next."""
    metadata = obj.setdefault("metadata", {})
    for name in (*_SYSTEM_FIELDS, "resourceVersion"):
        metadata.pop(name, None)


def carry_over(new: Object, old: Object) -> None:
    """System fields that an update left out come from the stored object; a deletion cannot be taken back."""
    metadata, kept = new.setdefault("metadata", {}), old.get("metadata") or {}
    for name in (*_SYSTEM_FIELDS, "generation"):
        is_ours = name in ("creationTimestamp", "generation")  # whatever the client says
        if kept.get(name) is not None and (is_ours or metadata.get(name) in (None, "")):
            metadata[name] = kept[name]
        elif is_ours:
            metadata.pop(name, None)


def create(
    obj: Object, *, namespaced: bool, name_format: formats.NameFormat, own_finalizers: bool = True
) -> list[Cause]:
    """`own_finalizers`: a finalizer without a domain must be one of Kubernetes' own; some API groups do not ask."""
    metadata = obj.get("metadata") or {}
    causes: list[Cause] = []
    name = metadata.get("name") or ""
    causes += prefix_faults(metadata, name_format)
    if name:
        causes += faults.each("metadata.name", name, name_format(name, False))
    else:
        causes.append(faults.required("metadata.name", "name or generateName is required"))
    namespace = metadata.get("namespace") or ""
    if namespaced and not namespace:
        causes.append(faults.required("metadata.namespace"))
    elif namespaced:
        causes += faults.each("metadata.namespace", namespace, formats.dns_label(namespace))
    elif namespace:
        causes.append(faults.forbidden("metadata.namespace", "not allowed on this type"))
    if (generation := metadata.get("generation") or 0) < 0:
        causes.append(faults.invalid("metadata.generation", generation, "must be greater than or equal to 0"))
    return causes + _either_way(metadata) + _finalizers(metadata.get("finalizers") or [], own_finalizers)


def prefix_faults(metadata: Mapping[str, Any], name_format: formats.NameFormat) -> list[Cause]:
    prefix = metadata.get("generateName") or ""
    return faults.each("metadata.generateName", prefix, name_format(prefix, True)) if prefix else []


def update(new: Object, old: Object, *, own_finalizers: bool = True) -> list[Cause]:
    metadata, before = new.get("metadata") or {}, old.get("metadata") or {}
    causes: list[Cause] = []
    if before.get("deletionTimestamp"):
        added = sorted(set(metadata.get("finalizers") or ()) - set(before.get("finalizers") or ()))
        if added:
            shown = ", ".join(faults.shown(name) for name in added)
            rule = "no new finalizers can be added if the object is being deleted"
            detail = f"{rule}, found new finalizers []string{{{shown}}}"
            causes.append(faults.forbidden("metadata.finalizers", detail))
    for name in _IMMUTABLE:
        if metadata.get(name) != before.get(name):
            causes.append(faults.invalid(f"metadata.{name}", metadata.get(name), faults.IMMUTABLE))
    return causes + _either_way(metadata) + _finalizers(metadata.get("finalizers") or [], own_finalizers)


def embedded(found: Mapping[str, Any]) -> list[Cause]:
    """Of a resource that is embedded in another: it need not have a name."""
    causes: list[Cause] = []
    for name in ("name", "generateName"):
        if found.get(name):
            causes += faults.each(f"metadata.{name}", found[name], formats.dns_subdomain(found[name], name != "name"))
    return causes + _either_way(found) + _finalizers(found.get("finalizers") or [], own=False)


def template(found: Mapping[str, Any], path: str) -> list[Cause]:
    """Of an object that will be made from a template: labels and annotations are all that it can ask for."""
    causes = check_annotations(found.get("annotations"), f"{path}.annotations")
    causes += check_labels(found.get("labels"), f"{path}.labels")
    others = (
        "name", "generateName", "namespace", "selfLink", "uid", "resourceVersion", "generation", "creationTimestamp",
        "deletionTimestamp", "deletionGracePeriodSeconds", "ownerReferences", "finalizers", "managedFields",
    )  # fmt: skip
    for name in others:
        if found.get(name) not in (None, "", 0) or (name == "deletionGracePeriodSeconds" and found.get(name) == 0):
            field = {"uid": "uID"}.get(name, name)  # as upstream makes it of the Go name
            causes.append(faults.forbidden(f"{path}.{field}", "cannot be set"))
    return causes


def _either_way(metadata: Mapping[str, Any]) -> list[Cause]:
    return [
        *check_labels(metadata.get("labels"), "metadata.labels"),
        *check_annotations(metadata.get("annotations"), "metadata.annotations"),
        *_owner_references(metadata.get("ownerReferences") or []),
    ]


def check_labels(found: Mapping[str, str] | None, path: str) -> list[Cause]:
    causes: list[Cause] = []
    for key, value in sorted((found or {}).items()):
        causes += faults.each(path, key, formats.qualified_name(key))
        causes += faults.each(path, value, formats.label_value(value))
    return causes


def check_annotations(found: Mapping[str, str] | None, path: str) -> list[Cause]:
    causes: list[Cause] = []
    size = 0
    for key, value in (found or {}).items():
        causes += faults.each(path, key, formats.qualified_name(key.lower()))
        size += len(key.encode()) + len(value.encode())
    if size > ANNOTATIONS_BYTES_MAX:
        causes.append(faults.too_long(path, ANNOTATIONS_BYTES_MAX))
    return causes


def _owner_references(references: list[dict[str, Any]]) -> list[Cause]:
    path = "metadata.ownerReferences"
    causes: list[Cause] = []
    controller = ""
    for reference in references:
        for name, detail in (
            ("apiVersion", "version must not be empty"),
            ("kind", "must not be empty"),
            ("name", "must not be empty"),
            ("uid", "must not be empty"),
        ):
            if not reference.get(name):
                causes.append(faults.invalid(f"{path}.{name}", reference.get(name) or "", detail))
        if reference.get("apiVersion") == "v1" and reference.get("kind") == "Event":
            causes.append(faults.invalid(path, reference, "/v1, Kind=Event is disallowed from being an owner"))
        if reference.get("controller"):
            current = f"{reference.get('kind')}/{reference.get('name')}"
            if controller:
                detail = (
                    'Only one reference can have Controller set to true. Found "true" in references for '
                    f"{controller} and {current}"
                )
                causes.append(faults.invalid(path, references, detail))
            controller = controller or current
    return causes


def _finalizers(names: list[str], own: bool) -> list[Cause]:
    path = "metadata.finalizers"
    causes: list[Cause] = []
    for name in names:
        causes += faults.each(path, name, formats.qualified_name(name))
    for index, name in enumerate(names):
        if own and "/" not in name and name not in STANDARD_FINALIZERS:
            causes.append(faults.invalid(f"{path}[{index}]", name, NO_FINALIZER))
    if {"orphan", "foregroundDeletion"} <= set(names):
        detail = "finalizer orphan and foregroundDeletion cannot be both set"
        causes.append(faults.invalid(path, names, detail))
    return causes
