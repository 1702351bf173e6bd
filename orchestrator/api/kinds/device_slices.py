"""What can be wrong with a ResourceSlice: the part of a driver's pool of devices, with what each device is and has.

Lists as attributes (KEP-5491) and mappings to node resources (KEP-5517) are off in kube-apiserver v1.36: it drops them.
Source: resource.k8s.io/v1 API reference, ResourceSlice; upstream pkg/apis/resource/validation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.api.kinds import faults, formats, go_values, scheduling_faults
from orchestrator.api.kinds.device_capacity import capacity
from orchestrator.api.kinds.device_values import (
    DOMAIN_MAX,
    IDENTIFIER_MAX,
    attribute_name,
    bindings,
    each_in,
    each_of,
    label,
    pool_name,
    taint,
)
from orchestrator.api.kinds.volume_faults import csi_driver
from orchestrator.api.meta import Object
from orchestrator.api.status import Cause

Json = Mapping[str, Any]

DEVICES_MAX, DEVICES_ADVANCED_MAX = 128, 64  # the latter where one has taints or uses counters
COUNTER_SETS_MAX, COUNTERS_MAX, CONSUMPTIONS_MAX = 8, 32, 2
PROPERTIES_MAX, ATTRIBUTES_MAX, TAINTS_MAX = 32, 48, 16  # of one device
VALUE_MAX, LABEL_MAX = 64, 63  # bytes
_KEY_MAX = DOMAIN_MAX + 1 + IDENTIFIER_MAX
_DROPPED = ("ints", "bools", "strings", "versions")
_NUMBER = r"(0|[1-9]\d*)"
_PRERELEASE = r"(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)"
_BUILD = "[0-9a-zA-Z-]+"
_VERSION = re.compile(
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(-{_PRERELEASE}(\.{_PRERELEASE})*)?(\+{_BUILD}(\.{_BUILD})*)?", re.ASCII
)


def drop_disabled(obj: Object) -> None:
    for device in (obj.get("spec") or {}).get("devices") or ():
        device.pop("nodeAllocatableResourceMappings", None)
        for attribute in (device.get("attributes") or {}).values():
            for name in _DROPPED:
                attribute.pop(name, None)


def slice_spec(spec: Json, old: Json | None = None) -> list[Cause]:
    causes = csi_driver(spec.get("driver") or "", "spec.driver") + _pool(spec.get("pool") or {}, "spec.pool")
    if old is not None:
        names = [(one.get("pool") or {}).get("name") or "" for one in (spec, old)]
        causes += faults.immutable("spec.pool.name", *names)
        causes += faults.immutable("spec.driver", spec.get("driver") or "", old.get("driver") or "")
        causes += faults.immutable("spec.nodeName", spec.get("nodeName"), old.get("nodeName"))
    causes += _nodes(spec, "spec")
    devices, sets = spec.get("devices"), spec.get("sharedCounters")
    if devices is not None and sets is not None:
        causes.append(faults.invalid("spec", "", "only one of `sharedCounters` or `devices` is allowed"))
    before = {device.get("name") or "": device for device in reversed((old or {}).get("devices") or ())}
    is_advanced = any(device.get("taints") or device.get("consumesCounters") for device in devices or ())

    def check(device: Json, path: str) -> list[Cause]:
        return _device(device, before.get(device.get("name") or ""), path, bool(spec.get("perDeviceNodeSelection")))

    devices_max = DEVICES_ADVANCED_MAX if is_advanced else DEVICES_MAX
    causes += each_of(devices or (), "spec.devices", check, devices_max, lambda one: one.get("name") or "")
    return causes + each_of(
        sets or (), "spec.sharedCounters", _counter_set, COUNTER_SETS_MAX, lambda one: one.get("name") or ""
    )


def _pool(pool: Json, path: str) -> list[Cause]:
    causes = pool_name(pool.get("name") or "", f"{path}.name")
    count, generation = pool.get("resourceSliceCount") or 0, pool.get("generation") or 0
    if count <= 0:
        causes.append(faults.invalid(f"{path}.resourceSliceCount", count, "must be greater than zero"))
    if generation < 0:
        causes.append(faults.invalid(f"{path}.generation", generation, "must be greater than or equal to zero"))
    return causes


# -- where the devices are ---------------------------------------------------------------------------------------------


def _nodes(spec: Json, path: str) -> list[Cause]:
    placed: list[str] = []
    causes = _by_name_or_labels(spec, path, placed, "must be either unset or set to a non-empty string")
    if (selector := spec.get("nodeSelector")) is not None:
        terms = selector.get("nodeSelectorTerms")
        if len(terms or ()) != 1:
            shown = go_values.go_value(terms, go_values.many(go_values.NODE_TERM))
            detail = "must have exactly one node selector term"
            causes.append(faults.invalid(f"{path}.nodeSelector.nodeSelectorTerms", shown, detail))
    for name in ("allNodes", "perDeviceNodeSelection"):
        causes += _true_or_unset(spec, name, path, placed)
    rule = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"
    if not placed:
        causes.append(faults.required(path, rule))
    elif len(placed) > 1:
        causes.append(faults.invalid(path, _together(placed), f"{rule}, but multiple fields are set"))
    return causes


def _by_name_or_labels(holder: Json, path: str, placed: list[str], when_empty: str) -> list[Cause]:
    """`placed` gets the fields that say where."""
    causes: list[Cause] = []
    if (name := holder.get("nodeName")) is not None:
        if name:
            placed.append("`nodeName`")
            causes += faults.each(f"{path}.nodeName", name, formats.dns_subdomain(name))
        else:
            causes.append(faults.invalid(f"{path}.nodeName", "", when_empty))
    if (selector := holder.get("nodeSelector")) is not None:
        placed.append("`nodeSelector`")
        causes += scheduling_faults.node_selector(selector, f"{path}.nodeSelector")
    return causes


def _true_or_unset(holder: Json, name: str, path: str, placed: list[str]) -> list[Cause]:
    if holder.get(name):
        placed.append(f"`{name}`")
    elif holder.get(name) is not None:
        return [faults.invalid(f"{path}.{name}", False, "must be either unset or set to true")]
    return []


def _together(names: Sequence[str]) -> str:
    return f"{{{', '.join(names)}}}"


def _nodes_of_device(device: Json, path: str) -> list[Cause]:
    placed: list[str] = []
    causes = _by_name_or_labels(device, path, placed, "must not be empty")
    causes += _true_or_unset(device, "allNodes", path, placed)
    rule = (
        "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` "
        "is set to true in the ResourceSlice spec"
    )
    if not placed:
        causes.append(faults.required(path, rule))
    elif len(placed) > 1:
        causes.append(faults.invalid(path, _together(placed), rule))
    return causes


# -- what they are and have --------------------------------------------------------------------------------------------


def _device(device: Json, before: Json | None, path: str, is_placed_alone: bool) -> list[Cause]:
    attributes, capacities = device.get("attributes") or {}, device.get("capacity") or {}
    causes = label(device.get("name") or "", f"{path}.name")
    if (count := len(attributes) + len(capacities)) > PROPERTIES_MAX:
        detail = f"the total number of attributes and capacities must not exceed {PROPERTIES_MAX}"
        causes.append(faults.invalid(path, count, detail))
    if (count := len(attributes)) > ATTRIBUTES_MAX:
        detail = f"the total number of attribute values must not exceed {ATTRIBUTES_MAX}"
        causes.append(faults.invalid(path, count, detail))
    causes += each_in(attributes, f"{path}.attributes", attribute_name, _attribute, _KEY_MAX)
    check = capacity(is_shared=bool(device.get("allowMultipleAllocations")))
    causes += each_in(capacities, f"{path}.capacity", attribute_name, check, _KEY_MAX)
    taints = device.get("taints") or []
    if before is None or taints != (before.get("taints") or []):
        causes += each_of(taints, f"{path}.taints", taint, TAINTS_MAX)
    causes += each_of(
        device.get("consumesCounters") or (), f"{path}.consumesCounters", _consumption, CONSUMPTIONS_MAX,
        lambda one: one.get("counterSet") or "",
    )  # fmt: skip
    if is_placed_alone:
        causes += _nodes_of_device(device, path)
    elif any(device.get(name) is not None for name in ("nodeName", "nodeSelector", "allNodes")):
        detail = (
            "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` "
            "is set to true in the ResourceSlice spec"
        )
        causes.append(faults.invalid(path, None, detail))
    return causes + bindings(device, path)


def _attribute(attribute: Json, path: str) -> list[Cause]:
    causes: list[Cause] = []
    values = [name for name in ("int", "bool", "string", "version") if attribute.get(name) is not None]
    for name in values:
        value = attribute[name]
        if name == "version" and _VERSION.fullmatch(value) is None:
            detail = "must be a string compatible with semver.org spec 2.0.0"
            causes.append(faults.invalid(f"{path}.version", value, detail))
        if isinstance(value, str) and len(value.encode()) > VALUE_MAX:
            causes.append(faults.too_long(f"{path}.{name}", VALUE_MAX))
    if len(values) != 1:
        shown = go_values.go_value(attribute, go_values.ATTRIBUTE) if values else ""
        causes.append(faults.invalid(path, shown, "exactly one value must be specified"))
    return causes


# -- counters ----------------------------------------------------------------------------------------------------------


def _counter_set(found: Json, path: str) -> list[Cause]:
    return _named_counters(found, path, "name")


def _consumption(found: Json, path: str) -> list[Cause]:
    return _named_counters(found, path, "counterSet")


def _named_counters(found: Json, path: str, name_field: str) -> list[Cause]:
    name, counters = found.get(name_field) or "", found.get("counters") or {}
    causes = label(name, f"{path}.{name_field}") if name else [faults.required(f"{path}.{name_field}")]
    if not counters:
        return [*causes, faults.required(f"{path}.counters")]
    return causes + each_in(counters, f"{path}.counters", label, lambda item, at: [], LABEL_MAX, COUNTERS_MAX)
