"""What CSI drivers keep in the API: the driver's abilities, where it runs, what it has room for, what it attached.

Source: storage.k8s.io/v1 API reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.api import meta
from orchestrator.api.kinds import faults, formats, table
from orchestrator.api.kinds.rules import KindRules
from orchestrator.api.kinds.storage import inline_volume
from orchestrator.api.kinds.table import AGE, CREATED_AT, NAME, Cells, Column, age, integer
from orchestrator.api.kinds.values import in_range, label_selector, nonnegative, nonnegative_quantity, one_of
from orchestrator.api.kinds.volume_faults import csi_driver
from orchestrator.api.meta import Object
from orchestrator.api.resources import CSIDRIVERS, CSINODES, CSISTORAGECAPACITIES, VOLUMEATTACHMENTS
from orchestrator.api.status import Cause

Json = Mapping[str, Any]

NODE_ID_MAX = 192
METADATA_BYTES_MAX, MESSAGE_BYTES_MAX = 256 * 1024, 1024
EXACTLY_ONE = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"


TOKENS_IN_SECRETS = (
    "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, "
    "set to true to prevent possible logging of tokens in volume attributes"
)


def driver_warnings(obj: Json) -> list[str]:
    spec = _spec(obj)
    return [TOKENS_IN_SECRETS] if spec.get("tokenRequests") and "serviceAccountTokenInSecrets" not in spec else []


def _changed_driver_warnings(new: Json, old: Json) -> list[str]:
    is_same = (_spec(new).get("tokenRequests") or []) == (_spec(old).get("tokenRequests") or [])
    return [] if is_same else driver_warnings(new)


def _spec(obj: Json) -> dict[str, Any]:
    return obj.get("spec") or {}


def driver_name(name: str, is_prefix: bool = False) -> list[str]:
    """A CSIDriver's name may have capitals."""
    complaints = [formats.too_long(63)] if len(name) > 63 else []
    return complaints + formats.dns_subdomain(name.lower(), is_prefix)


def default_driver(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    for name, value in (
        ("attachRequired", True),
        ("podInfoOnMount", False),
        ("storageCapacity", False),
        ("fsGroupPolicy", "ReadWriteOnceWithFSType"),
        ("requiresRepublish", False),
        ("seLinuxMount", False),
    ):
        spec.setdefault(name, value)
    if not spec.get("volumeLifecycleModes"):
        spec["volumeLifecycleModes"] = ["Persistent"]


def drop_limit_scaling(new: Object, old: Object) -> None:
    """Is behind a gate that is off in v1.36."""
    if _spec(old).get("preventPodSchedulingIfMissing") is None:
        _spec(new).pop("preventPodSchedulingIfMissing", None)


def driver(obj: Object) -> list[Cause]:
    spec = _spec(obj)
    policies = ("File", "None", "ReadWriteOnceWithFSType")
    causes = one_of(spec.get("fsGroupPolicy"), "spec.fsGroupPolicy", policies, required=False)
    seen: set[str] = set()
    for index, request in enumerate(spec.get("tokenRequests") or ()):
        path, audience, seconds = (
            f"spec.tokenRequests[{index}]",
            request.get("audience"),
            request.get("expirationSeconds"),
        )
        if audience in seen:
            causes.append(faults.duplicate(f"{path}.audience", audience))
            continue
        seen.add(audience)
        if seconds is not None and seconds < 600:
            detail = "may not specify a duration less than 10 minutes"
            causes.append(faults.invalid(f"{path}.expirationSeconds", seconds, detail))
        if seconds is not None and seconds > 2**32:
            detail = "may not specify a duration larger than 2^32 seconds"
            causes.append(faults.invalid(f"{path}.expirationSeconds", seconds, detail))
    period = spec.get("nodeAllocatableUpdatePeriodSeconds")
    if period is not None and period < 10:
        detail = "must be greater than or equal to 10 seconds"
        causes.append(faults.invalid("spec.nodeAllocatableUpdatePeriodSeconds", period, detail))
    for mode in spec.get("volumeLifecycleModes") or ():
        if mode not in ("Persistent", "Ephemeral"):
            causes.append(faults.not_supported("spec.volumeLifecycleModes", mode, ("Persistent", "Ephemeral")))
    return causes


def driver_update(new: Object, old: Object) -> list[Cause]:
    spec, before = _spec(new), _spec(old)
    causes = driver(new)
    causes += faults.immutable("spec.attachedRequired", spec.get("attachRequired"), before.get("attachRequired"))
    modes = spec.get("volumeLifecycleModes")
    return causes + faults.immutable("spec.volumeLifecycleModes", modes, before.get("volumeLifecycleModes"))


def node(obj: Object) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, found in enumerate(_spec(obj).get("drivers") or ()):
        path, name, node_id = f"spec.drivers[{index}]", found.get("name") or "", found.get("nodeID") or ""
        causes += csi_driver(name, f"{path}.name")
        if not node_id:
            causes.append(faults.required(f"{path}.nodeID"))
        elif len(node_id) > NODE_ID_MAX:
            causes.append(faults.invalid(f"{path}.nodeID", node_id, f"must be {NODE_ID_MAX} characters or less"))
        causes += nonnegative(found.get("allocatable") or {}, f"{path}.allocatable", "count")
        if name in seen:
            causes.append(faults.duplicate(f"{path}.name", name))
        seen.add(name)
        causes += _topology_keys(found.get("topologyKeys") or [], path)
    return causes


def _topology_keys(keys: list[str], path: str) -> list[Cause]:
    causes: list[Cause] = []
    for index, key in enumerate(keys):
        if not key:
            causes.append(faults.required(path))
        if key in keys[:index]:
            causes.append(faults.duplicate(path, key))
        causes += faults.each(path, key, formats.qualified_name(key))
    return causes


def node_update(new: Object, old: Object) -> list[Cause]:
    """A driver that stays may change nothing but how many volumes it can attach."""
    causes = node(new)
    held = {found.get("name"): _but_allocatable(found) for found in _spec(old).get("drivers") or ()}
    for found in map(_but_allocatable, _spec(new).get("drivers") or ()):
        if found.get("name") in held:
            causes += faults.immutable("spec.drivers", found, held[found.get("name")])
    return causes


def _but_allocatable(driver: Json) -> dict[str, Any]:
    return {name: value for name, value in driver.items() if name != "allocatable" and value}


def capacity(obj: Object) -> list[Cause]:
    causes = label_selector(obj.get("nodeTopology"), "nodeTopology")
    name = obj.get("storageClassName") or ""
    causes += faults.each("storageClassName", name, formats.dns_subdomain(name))
    return causes + (nonnegative_quantity(obj["capacity"], "capacity") if obj.get("capacity") is not None else [])


def capacity_update(new: Object, old: Object) -> list[Cause]:
    names = ("nodeTopology", "storageClassName")
    return capacity(new) + [c for name in names for c in faults.immutable(name, new.get(name), old.get(name))]


def attachment(obj: Object) -> list[Cause]:
    spec = _spec(obj)
    causes = csi_driver(spec.get("attacher") or "", "spec.attacher")
    source = spec.get("source") or {}
    name, inline = source.get("persistentVolumeName"), source.get("inlineVolumeSpec")
    if name is None and inline is None:
        causes.append(faults.required("spec.source", EXACTLY_ONE))
    elif name is not None and inline is not None:
        causes.append(faults.forbidden("spec.source", EXACTLY_ONE))
    elif name is not None:
        path = "spec.source.persistentVolumeName"
        if not name:
            causes.append(faults.required(path, "must specify non empty persistentVolumeName"))
        causes += faults.each(path, name, formats.dns_subdomain(name))
    elif inline is not None:
        causes += inline_volume(inline, "spec.source.inlineVolumeSpec")
    node_name = spec.get("nodeName") or ""
    return causes + faults.each("spec.nodeName", node_name, formats.dns_subdomain(node_name))


def attachment_update(new: Object, old: Object) -> list[Cause]:
    return attachment(new) + faults.immutable("spec", _spec(new), _spec(old))


def attachment_status(new: Object, old: Object) -> list[Cause]:
    status = new.get("status") or {}
    causes = attachment_update(new, old)
    metadata = status.get("attachmentMetadata") or {}
    if sum(len(key.encode()) + len(value.encode()) for key, value in metadata.items()) > METADATA_BYTES_MAX:
        causes.append(faults.too_long("status.attachmentMetadata", METADATA_BYTES_MAX))
    for name in ("attachError", "detachError"):
        error, path = status.get(name) or {}, f"status.{name}"
        if len((error.get("message") or "").encode()) > MESSAGE_BYTES_MAX:  # and the other limit is told
            causes.append(faults.too_long(f"{path}.message", METADATA_BYTES_MAX))
        causes += in_range(error.get("errorCode"), f"{path}.errorCode", 0, 2**31 - 1)
    return causes


def _driver_cells(obj: Object, now: float) -> Cells:
    spec = _spec(obj)
    requests = spec.get("tokenRequests")
    tokens = "<unset>" if requests is None else ",".join(request.get("audience") or "" for request in requests)
    return [
        meta.name(obj),
        spec.get("attachRequired", True),
        bool(spec.get("podInfoOnMount")),
        bool(spec.get("storageCapacity")),
        tokens,
        bool(spec.get("requiresRepublish")),
        ",".join(spec.get("volumeLifecycleModes") or ()) or "<none>",
        age(obj, now),
    ]


def _attachment_cells(obj: Object, now: float) -> Cells:
    spec = _spec(obj)
    name = (spec.get("source") or {}).get("persistentVolumeName") or ""
    attached = bool((obj.get("status") or {}).get("attached"))
    return [meta.name(obj), spec.get("attacher") or "", name, spec.get("nodeName") or "", attached, age(obj, now)]


def _yes_no(*names: str) -> tuple[Column, ...]:
    return tuple(Column(name, "boolean") for name in names)


RULES = (
    KindRules(
        resource=CSIDRIVERS,
        name_format=driver_name,
        default=default_driver,
        on_create=lambda obj: drop_limit_scaling(obj, {}),
        on_update=drop_limit_scaling,
        faults=driver,
        update_faults=driver_update,
        warnings=driver_warnings,
        update_warnings=_changed_driver_warnings,
        has_generation=True,
        starts_generation=False,
        columns=(
            NAME,
            *_yes_no("AttachRequired", "PodInfoOnMount", "StorageCapacity"),
            Column("TokenRequests"),
            *_yes_no("RequiresRepublish"),
            Column("Modes"),
            AGE,
        ),
        cells=_driver_cells,
    ),
    KindRules(
        resource=CSINODES,
        faults=node,
        update_faults=node_update,
        columns=(NAME, integer("Drivers"), AGE),
        cells=lambda obj, now: [meta.name(obj), len(_spec(obj).get("drivers") or ()), age(obj, now)],
    ),
    KindRules(
        resource=CSISTORAGECAPACITIES,
        faults=capacity,
        update_faults=capacity_update,
        columns=(NAME, CREATED_AT),
        cells=lambda obj, now: [meta.name(obj), meta.metadata(obj).get("creationTimestamp")],
    ),
    KindRules(
        resource=VOLUMEATTACHMENTS,
        status_keeps_metadata=True,
        faults=attachment,
        update_faults=attachment_update,
        status_faults=attachment_status,
        columns=(NAME, Column("Attacher", format="name"), *table.texts("PV", "Node"), *_yes_no("Attached"), AGE),
        cells=_attachment_cells,
    ),
)
