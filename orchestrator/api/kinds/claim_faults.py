"""What can be wrong with a claim's spec: of a PersistentVolumeClaim, and of every template that claims are made from.

Source: core/v1 API reference, PersistentVolumeClaimSpec.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.api import quantity
from orchestrator.api.kinds import faults, formats
from orchestrator.api.kinds.values import label_selector, name_of, one_of
from orchestrator.api.status import Cause

Json = Mapping[str, Any]

ACCESS_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
VOLUME_MODES = ("Block", "Filesystem")


def claim_spec(spec: Json, path: str) -> list[Cause]:
    modes = spec.get("accessModes") or ()
    causes = access_modes(modes, f"{path}.accessModes", "at least 1 access mode is required")
    causes += label_selector(spec.get("selector"), f"{path}.selector")
    storage = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    if storage is None:
        causes.append(faults.required(f"{path}.resources[storage]"))
    else:
        causes += positive(storage, f"{path}.resources[storage]")
    causes += name_of(spec.get("storageClassName"), f"{path}.storageClassName", formats.dns_subdomain)
    causes += one_of(spec.get("volumeMode"), f"{path}.volumeMode", VOLUME_MODES, required=False)
    for name in ("dataSource", "dataSourceRef"):
        causes += _data_source(spec.get(name), f"{path}.{name}")
    causes += _both_sources(spec.get("dataSource"), spec.get("dataSourceRef"), path)
    return causes + name_of(
        spec.get("volumeAttributesClassName"), f"{path}.volumeAttributesClassName", formats.dns_subdomain
    )


def _both_sources(source: Json | None, reference: Json | None, path: str) -> list[Cause]:
    if source is None or reference is None:
        return []
    shown: Json = {}  # upstream shows a path here, which has no fields of its own
    if reference.get("namespace"):
        return [faults.invalid(path, shown, "may not be specified when dataSourceRef.namespace is specified")]
    same = all((source.get(name) or "") == (reference.get(name) or "") for name in ("apiGroup", "kind", "name"))
    return [] if same else [faults.invalid(path, shown, "must match dataSourceRef")]


def _data_source(source: Json | None, path: str) -> list[Cause]:
    if source is None:
        return []
    causes = [faults.required(f"{path}.{name}") for name in ("name", "kind") if not source.get(name)]
    if not source.get("apiGroup") and source.get("kind") != "PersistentVolumeClaim":
        detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup"
        causes.append(faults.invalid(path, source.get("kind") or "", detail))
    if group := source.get("apiGroup"):
        causes += faults.each(f"{path}.apiGroup", group, formats.dns_subdomain(group))
    if namespace := source.get("namespace"):
        causes += faults.each(f"{path}.namespace", namespace, formats.dns_label(namespace))
    return causes


def access_modes(modes: Sequence[str], path: str, why: str = "") -> list[Cause]:
    causes = [] if modes else [faults.required(path, why)]
    causes += [faults.not_supported(path, mode, ACCESS_MODES) for mode in modes if mode not in ACCESS_MODES]
    if "ReadWriteOncePod" in modes and set(modes) - {"ReadWriteOncePod"}:
        causes.append(faults.forbidden(path, "may not use ReadWriteOncePod with other access modes"))
    return causes


def positive(value: Any, path: str) -> list[Cause]:
    return [] if quantity.parse(value) > 0 else [faults.invalid(path, value, "must be greater than zero")]
