"""PersistentVolume, its claim, and storage classes: what the binder and provisioners work on.

A bound claim's spec is fixed but for its request, which may only grow. Source: core/v1 and storage.k8s.io/v1 reference.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.api import meta, quantity
from orchestrator.api.kinds import faults, formats, podspec, resource_faults, scheduling_faults, table
from orchestrator.api.kinds.claim_faults import VOLUME_MODES, access_modes, claim_spec, positive
from orchestrator.api.kinds.pod_update_faults import difference
from orchestrator.api.kinds.rules import KindRules
from orchestrator.api.kinds.table import AGE, NAME, Cells, Column, age, wide
from orchestrator.api.kinds.values import name_of, one_of
from orchestrator.api.kinds.volume_faults import SOURCES
from orchestrator.api.meta import Object
from orchestrator.api.resources import (
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    STORAGECLASSES,
    VOLUMEATTRIBUTESCLASSES,
)
from orchestrator.api.status import Cause

Json = Mapping[str, Any]

SHORT_MODES = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}
CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"
DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
SOURCE_KINDS = (("", "PersistentVolumeClaim"), ("snapshot.storage.k8s.io", "VolumeSnapshot"))
RESIZE_STATES = (
    "ControllerResizeInProgress", "ControllerResizeInfeasible", "NodeResizeInProgress", "NodeResizeInfeasible",
    "NodeResizePending",
)  # fmt: skip
# Fields of a PersistentVolume's spec that are no source.
_NOT_SOURCES = {
    "accessModes", "capacity", "claimRef", "mountOptions", "nodeAffinity", "persistentVolumeReclaimPolicy",
    "storageClassName", "volumeAttributesClassName", "volumeMode",
}  # fmt: skip


def _spec(obj: Json) -> dict[str, Any]:
    return obj.get("spec") or {}


# -- PersistentVolume --------------------------------------------------------------------------------------------------


def default_volume(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    status = obj.setdefault("status", {})
    if not status.get("phase"):
        status["phase"] = "Pending"
    if not spec.get("persistentVolumeReclaimPolicy"):
        spec["persistentVolumeReclaimPolicy"] = "Retain"
    spec.setdefault("volumeMode", "Filesystem")
    podspec.round_up(spec.get("capacity"))
    for name in spec.keys() - _NOT_SOURCES:
        podspec.default_source(name, spec[name])


def create_volume(obj: Object) -> None:
    obj["status"] = {"phase": "Pending"}
    if now := meta.metadata(obj).get("creationTimestamp"):
        obj["status"]["lastPhaseTransitionTime"] = now


def volume(obj: Object) -> list[Cause]:
    spec = _spec(obj)
    causes = access_modes(spec.get("accessModes") or (), "spec.accessModes")
    capacity = spec.get("capacity") or {}
    if not capacity:
        causes.append(faults.required("spec.capacity"))
    if set(capacity) != {"storage"}:
        causes.append(faults.not_supported("spec.capacity", spec.get("capacity"), ("storage",)))
    for name, value in capacity.items():
        causes += _basic(value, f"spec.capacity[{name}]") + positive(value, f"spec.capacity[{name}]")
    policy = spec.get("persistentVolumeReclaimPolicy")
    causes += one_of(policy, "spec.persistentVolumeReclaimPolicy", ("Delete", "Recycle", "Retain"), required=False)
    affinity = spec.get("nodeAffinity")
    if affinity is not None:
        if affinity.get("required") is None:
            causes.append(faults.required("spec.nodeAffinity.required", "must specify required node constraints"))
        else:
            causes += scheduling_faults.node_selector(affinity["required"], "spec.nodeAffinity.required")
    causes += source(spec, "spec")
    causes += name_of(spec.get("storageClassName"), "spec.storageClassName", formats.dns_subdomain)
    causes += one_of(spec.get("volumeMode"), "spec.volumeMode", VOLUME_MODES, required=False)
    return causes + _volume_attributes(spec)


def _volume_attributes(spec: Json) -> list[Cause]:
    name, path = spec.get("volumeAttributesClassName"), "spec.volumeAttributesClassName"
    if name is None:
        return []
    causes = faults.each(path, name, formats.dns_subdomain(name))
    if not name:
        causes = [faults.required(path, "an empty string is disallowed")]
    if spec.get("csi") is None:
        causes.append(faults.required("spec.csi", "has to be specified when using volumeAttributesClassName"))
    return causes


def inline_volume(spec: Json, path: str) -> list[Cause]:
    """A volume that is in an attachment, as those are that came from a pod's own volume of before CSI."""
    causes = [
        faults.forbidden(f"{path}.{name}", "may not be specified in the context of inline volumes")
        for name in ("claimRef", "capacity", "nodeAffinity", "storageClassName")
        if spec.get(name)
    ]
    if spec.get("csi") is None:
        causes.append(faults.required(f"{path}.csi", "has to be specified in the context of inline volumes"))
    causes += access_modes(spec.get("accessModes") or (), f"{path}.accessModes")
    if spec.get("persistentVolumeReclaimPolicy") not in (None, "", "Retain"):
        detail = "may only be Retain in the context of inline volumes"
        causes.append(faults.forbidden(f"{path}.persistentVolumeReclaimPolicy", detail))
    if spec.get("volumeMode") not in (None, "Filesystem"):
        detail = "may not specify volumeMode other than Filesystem in the context of inline volumes"
        causes.append(faults.forbidden(f"{path}.volumeMode", detail))
    return causes + source(spec, path)


def source(spec: Json, path: str) -> list[Cause]:
    """What a volume is made of: one thing."""
    given = sorted(name for name in spec.keys() - _NOT_SOURCES if spec[name] is not None)
    causes: list[Cause] = []
    for position, name in enumerate(given):
        if position:
            causes.append(faults.forbidden(f"{path}.{name}", "may not specify more than 1 volume type"))
        elif name == "local":
            if not spec[name].get("path"):
                causes.append(faults.required(f"{path}.local.path"))
            if (spec.get("nodeAffinity") or {}).get("required") is None:
                causes.append(faults.required(f"{path}.nodeAffinity", "Local volume requires node affinity"))
        elif name in SOURCES:
            causes += SOURCES[name](spec[name], f"{path}.{name}")
    recycles = spec.get("persistentVolumeReclaimPolicy") == "Recycle"
    if recycles and posixpath.normpath((spec.get("hostPath") or {}).get("path") or ".") == "/":
        detail = "may not be 'recycle' for a hostPath mount of '/'"
        causes.append(faults.forbidden(f"{path}.persistentVolumeReclaimPolicy", detail))
    return causes if given else [*causes, faults.required(path, "must specify a volume type")]


def volume_update(new: Object, old: Object) -> list[Cause]:
    causes = volume(new)
    now = {name: value for name, value in _spec(new).items() if name not in _NOT_SOURCES}
    held = {name: value for name, value in _spec(old).items() if name not in _NOT_SOURCES}
    if now != held:
        shown = difference(held, now, "spec.persistentvolumesource")
        detail = f"spec.persistentvolumesource is immutable after creation\n{shown}"
        causes.append(faults.forbidden("spec.persistentvolumesource", detail))
    causes += faults.immutable("volumeMode", _spec(new).get("volumeMode"), _spec(old).get("volumeMode"))
    affinity, before = _spec(new).get("nodeAffinity"), _spec(old).get("nodeAffinity")
    if before is not None and affinity != before:
        detail = f"{faults.IMMUTABLE}, except for updating from beta label to GA"
        causes.append(faults.invalid("nodeAffinity", affinity, detail))
    name = "volumeAttributesClassName"
    if _spec(old).get(name) is not None and _spec(new).get(name) is None:
        causes.append(faults.forbidden(f"spec.{name}", "update from non-nil value to nil is forbidden"))
    return causes


# -- PersistentVolumeClaim ---------------------------------------------------------------------------------------------


def default_claim(obj: Object) -> None:
    spec, status = obj.setdefault("spec", {}), obj.setdefault("status", {})
    spec.setdefault("volumeMode", "Filesystem")
    for amounts in (*(spec.get("resources") or {}).values(), status.get("capacity"), status.get("allocatedResources")):
        podspec.round_up(amounts)
    if not status.get("phase"):
        status["phase"] = "Pending"


def create_claim(obj: Object) -> None:
    obj["status"] = {"phase": "Pending"}
    _sources(obj.setdefault("spec", {}), {})


def update_claim(new: Object, old: Object) -> None:
    _sources(new.setdefault("spec", {}), _spec(old))


def _sources(spec: dict[str, Any], before: Json) -> None:
    """A claim without a source cannot be given one that only a `dataSourceRef` may name; it is dropped in silence, as
    ever. Nor may it name one of another namespace, which is behind a gate that is off in v1.36."""
    reference = spec.get("dataSourceRef")
    if reference and reference.get("namespace") and not before.get("dataSourceRef"):
        del spec["dataSourceRef"]
    source = spec.get("dataSource")
    if source is not None and not (before.get("dataSource") or before.get("dataSourceRef")):
        is_known = (source.get("apiGroup") or "", source.get("kind")) in SOURCE_KINDS
        if spec.get("dataSourceRef") is None and not is_known:
            del spec["dataSource"]
    _same_sources(spec)


def _same_sources(spec: dict[str, Any]) -> None:
    """`dataSource` and `dataSourceRef` mean the same where the latter names no namespace."""
    source, reference = spec.get("dataSource"), spec.get("dataSourceRef")
    if source is not None and reference is None:
        spec["dataSourceRef"] = dict(source)
    elif reference is not None and source is None and not reference.get("namespace"):
        spec["dataSource"] = {name: value for name, value in reference.items() if name != "namespace"}


def claim(obj: Object) -> list[Cause]:
    return claim_spec(_spec(obj), "spec")


def claim_update(new: Object, old: Object) -> list[Cause]:
    causes = claim(new)
    spec, before = dict(_spec(new)), dict(_spec(old))
    bound = (new.get("status") or {}).get("phase") == "Bound"
    if not before.get("volumeName"):
        before["volumeName"] = spec.get("volumeName")
    if before.get("storageClassName") is None:
        before["storageClassName"] = spec.get("storageClassName")
    size, held = _requested(spec), _requested(before)
    if bound and size is not None:
        before["resources"] = spec.get("resources")
        before["volumeAttributesClassName"] = spec.get("volumeAttributesClassName")
    before = {name: value for name, value in before.items() if value is not None}
    spec = {name: value for name, value in spec.items() if value is not None}
    if spec != before:
        rule = "spec is immutable after creation except resources.requests and volumeAttributesClassName"
        causes.append(faults.forbidden("spec", f"{rule} for bound claims\n{difference(before, spec)}"))
    granted = ((new.get("status") or {}).get("capacity") or {}).get("storage")
    if quantity.parse(size or 0) < quantity.parse(held or 0):
        path = "spec.resources.requests.storage"
        if quantity.parse(size or 0) <= quantity.parse(granted or 0):
            causes.append(faults.forbidden(path, "field can not be less than status.capacity"))
    return causes + faults.immutable("volumeMode", spec.get("volumeMode"), before.get("volumeMode"))


def claim_status(new: Object, old: Object) -> list[Cause]:
    status = new.get("status") or {}
    causes: list[Cause] = []
    if not _spec(new).get("accessModes"):
        causes.append(faults.required("Spec.accessModes"))
    for name, value in (status.get("capacity") or {}).items():
        causes += _basic(value, f"status.capacity[{name}]")
    path = "status.allocatedResourceStatuses"
    for name, state in (status.get("allocatedResourceStatuses") or {}).items():
        causes += _resource_key(name, path)
        if state not in RESIZE_STATES:
            causes.append(faults.not_supported(path, name, sorted(RESIZE_STATES)))
    path = "status.allocatedResources"
    for name, value in (status.get("allocatedResources") or {}).items():
        causes += (
            _resource_key(name, path)
            or _basic(value, f"{path}[{name}]")
            or resource_faults.amount("storage", value, f"{path}[{name}]")
        )
    return causes


def _basic(value: Any, path: str) -> list[Cause]:
    amount = quantity.ceil(value)
    return [faults.invalid(path, amount, "must be a valid resource quantity")] if amount < 0 else []


def _resource_key(name: str, path: str) -> list[Cause]:
    if complaints := formats.qualified_name(name):
        return faults.each(path, name, complaints)
    is_native = "/" not in name or "kubernetes.io/" in name
    return [faults.not_supported(path, name, ("storage",))] if is_native and name != "storage" else []


def _requested(spec: Json) -> Any:
    return ((spec.get("resources") or {}).get("requests") or {}).get("storage")


# -- classes -----------------------------------------------------------------------------------------------------------


def default_class(obj: Object) -> None:
    obj.setdefault("reclaimPolicy", "Delete")
    obj.setdefault("volumeBindingMode", "Immediate")


def storage_class(obj: Object) -> list[Cause]:
    provisioner = obj.get("provisioner") or ""
    causes = [] if provisioner else [faults.required("provisioner")]
    if provisioner:
        causes += faults.each("provisioner", provisioner, formats.qualified_name(provisioner.lower()))
    causes += [
        faults.invalid("parameters", key, "field can not be empty.") for key in obj.get("parameters") or () if not key
    ]
    causes += one_of(obj.get("reclaimPolicy"), "reclaimPolicy", ("Delete", "Retain"), required=False)
    causes += _topologies(obj.get("allowedTopologies") or [])
    return causes + one_of(obj.get("volumeBindingMode"), "volumeBindingMode", ("Immediate", "WaitForFirstConsumer"))


def _topologies(terms: list[dict[str, Any]]) -> list[Cause]:
    """No two terms may say the same. Upstream compares with terms that it has not read yet too, so an empty one is
    always said to be a duplicate."""
    causes: list[Cause] = []
    seen: list[dict[str, set[str]]] = [{} for _ in terms]
    for index, term in enumerate(terms):
        path = f"allowedTopologies[{index}].matchLabelExpressions"
        found: dict[str, set[str]] = {}
        for place, expression in enumerate(term.get("matchLabelExpressions") or ()):
            key, values = expression.get("key") or "", expression.get("values") or []
            if not values:
                causes.append(faults.required(f"{path}[{place}].values"))
            for position, value in enumerate(values):
                if value in values[:position]:
                    causes.append(faults.duplicate(f"{path}[{place}].values[{position}]", value))
            causes += faults.each(f"{path}[{place}].key", key, formats.qualified_name(key))
            if key in found:
                causes.append(faults.duplicate(f"{path}[{place}].key", key))
            found[key] = set(values)
        causes += [faults.duplicate(path, "")] if found in seen else []
        seen.append(found)
    return causes


def storage_class_update(new: Object, old: Object) -> list[Cause]:
    names = ("parameters", "provisioner", "reclaimPolicy", "volumeBindingMode")
    return storage_class(new) + [
        cause for name in names for cause in faults.immutable(name, new.get(name), old.get(name))
    ]


def attributes_class(obj: Object) -> list[Cause]:
    driver = obj.get("driverName") or ""
    causes = [] if driver else [faults.required("driverName")]
    if driver:
        causes += faults.each("driverName", driver, formats.qualified_name(driver.lower()))
    if not obj.get("parameters"):
        causes.append(faults.required("parameters", "must contain at least one key/value pair"))
    return causes + [
        faults.invalid("parameters", key, "field can not be empty.") for key in obj.get("parameters") or () if not key
    ]


def attributes_class_update(new: Object, old: Object) -> list[Cause]:
    changed = [name for name in ("driverName", "parameters") if new.get(name) != old.get(name)]
    return [faults.forbidden(name, f"updates to {name} are forbidden.") for name in changed] + attributes_class(new)


# -- tables ------------------------------------------------------------------------------------------------------------


def mode_text(modes: Sequence[str] | None) -> str:
    return ",".join(short for mode, short in SHORT_MODES.items() if mode in (modes or ()))


def _class_of(obj: Object) -> str:
    return meta.annotations(obj).get(CLASS_ANNOTATION) or _spec(obj).get("storageClassName") or ""


def _phase(obj: Object) -> str:
    return "Terminating" if meta.is_deleting(obj) else (obj.get("status") or {}).get("phase") or ""


def _volume_cells(obj: Object, now: float) -> Cells:
    spec, claimed = _spec(obj), _spec(obj).get("claimRef") or {}
    return [
        meta.name(obj),
        (spec.get("capacity") or {}).get("storage") or "0",
        mode_text(spec.get("accessModes")),
        spec.get("persistentVolumeReclaimPolicy") or "",
        _phase(obj),
        f"{claimed.get('namespace') or ''}/{claimed.get('name') or ''}" if claimed else "",
        _class_of(obj),
        spec.get("volumeAttributesClassName") or "<unset>",
        (obj.get("status") or {}).get("reason") or "",
        age(obj, now),
        spec.get("volumeMode") or "<unset>",
    ]


def _claim_cells(obj: Object, now: float) -> Cells:
    spec, status = _spec(obj), obj.get("status") or {}
    bound = spec.get("volumeName") or ""
    return [
        meta.name(obj),
        _phase(obj),
        bound,
        ((status.get("capacity") or {}).get("storage") or "0") if bound else "",
        mode_text(status.get("accessModes")) if bound else "",
        _class_of(obj),
        spec.get("volumeAttributesClassName") or "<unset>",
        age(obj, now),
        spec.get("volumeMode") or "<unset>",
    ]


def _class_cells(obj: Object, now: float) -> Cells:
    default = " (default)" if meta.annotations(obj).get(DEFAULT_CLASS) == "true" else ""
    return [
        f"{meta.name(obj)}{default}",
        obj.get("provisioner") or "",
        obj.get("reclaimPolicy") or "Delete",
        obj.get("volumeBindingMode") or "Immediate",
        bool(obj.get("allowVolumeExpansion")),
        age(obj, now),
    ]


VOLUME_TEXTS = ("Capacity", "Access Modes", "Reclaim Policy", "Status", "Claim", "StorageClass",
                "VolumeAttributesClass", "Reason")  # fmt: skip
CLAIM_TEXTS = ("Status", "Volume", "Capacity", "Access Modes", "StorageClass", "VolumeAttributesClass")

RULES = (
    KindRules(
        resource=PERSISTENTVOLUMES,
        default=default_volume,
        on_create=create_volume,
        faults=volume,
        update_faults=volume_update,
        columns=(NAME, *table.texts(*VOLUME_TEXTS), AGE, wide("VolumeMode")),
        cells=_volume_cells,
    ),
    KindRules(
        resource=PERSISTENTVOLUMECLAIMS,
        default=default_claim,
        on_create=create_claim,
        on_update=update_claim,
        faults=claim,
        update_faults=claim_update,
        status_faults=claim_status,
        columns=(NAME, *table.texts(*CLAIM_TEXTS), AGE, wide("VolumeMode")),
        cells=_claim_cells,
    ),
    KindRules(
        resource=STORAGECLASSES,
        default=default_class,
        faults=storage_class,
        update_faults=storage_class_update,
        columns=(
            NAME,
            *table.texts("Provisioner", "ReclaimPolicy", "VolumeBindingMode", "AllowVolumeExpansion"),
            AGE,
        ),
        cells=_class_cells,
    ),
    KindRules(
        resource=VOLUMEATTRIBUTESCLASSES,
        faults=attributes_class,
        update_faults=attributes_class_update,
        columns=(NAME, Column("DriverName"), AGE),
        cells=lambda obj, now: [meta.name(obj), obj.get("driverName") or "", age(obj, now)],
    ),
)
