"""The kinds of dynamic resource allocation: device classes, claims, templates of claims, and what nodes have.

They are stored and checked; allocating devices is the work of a driver and of a scheduler that knows it.
Source: resource.k8s.io/v1; KEP-4381; upstream pkg/apis/resource, validation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.api import meta
from orchestrator.api.kinds import faults, formats, go_values, metadata
from orchestrator.api.kinds.device_allocation import claim_status, forget_released
from orchestrator.api.kinds.device_claims import claim_spec
from orchestrator.api.kinds.device_slices import drop_disabled, slice_spec
from orchestrator.api.kinds.device_values import CONFIGS_MAX, configuration, each_of, selectors
from orchestrator.api.kinds.resource_faults import is_extended
from orchestrator.api.kinds.rules import KindRules
from orchestrator.api.kinds.table import AGE, NAME, Cells, age, texts
from orchestrator.api.meta import Object
from orchestrator.api.resources import DEVICECLASSES, RESOURCECLAIMS, RESOURCECLAIMTEMPLATES, RESOURCESLICES
from orchestrator.api.status import Cause

Json = Mapping[str, Any]


def _spec(obj: Json) -> dict[str, Any]:
    return obj.get("spec") or {}


# -- device classes ----------------------------------------------------------------------------------------------------


def device_class(obj: Object, old: Object | None = None) -> list[Cause]:
    spec = _spec(obj)
    is_stored = old is not None and (spec.get("config") or []) == (_spec(old).get("config") or [])

    def check(config: Json, path: str) -> list[Cause]:
        return configuration(config, path, is_stored=is_stored)

    causes = selectors(spec.get("selectors") or (), "spec.selectors")
    causes += each_of(spec.get("config") or (), "spec.config", check, CONFIGS_MAX)
    name = spec.get("extendedResourceName")
    if name is not None and not is_extended(name):
        causes.append(faults.invalid("spec.extendedResourceName", name, "must be a valid extended resource name"))
    return causes


def class_name(name: str, is_prefix: bool) -> list[str]:
    """What a name is generated from is not looked at, only the name."""
    return [] if is_prefix else formats.dns_subdomain(name)


# -- claims and their templates ----------------------------------------------------------------------------------------


def default_claim(obj: Object) -> None:
    _default_requests(_spec(obj))
    allocation = (obj.get("status") or {}).get("allocation") or {}
    for result in (allocation.get("devices") or {}).get("results") or ():
        _default_tolerations(result)


def default_template(obj: Object) -> None:
    _default_requests(_spec(obj).get("spec") or {})


def _default_requests(spec: Json) -> None:
    for request in (spec.get("devices") or {}).get("requests") or ():
        for one in [request.get("exactly"), *(request.get("firstAvailable") or ())]:
            if one is not None:
                one["allocationMode"] = one.get("allocationMode") or "ExactCount"
                if one["allocationMode"] == "ExactCount":
                    one["count"] = one.get("count") or 1
                _default_tolerations(one)


def _default_tolerations(holder: Json) -> None:
    for toleration in holder.get("tolerations") or ():
        toleration["operator"] = toleration.get("operator") or "Equal"


def claim(obj: Object) -> list[Cause]:
    return claim_spec(_spec(obj), "spec")


def claim_update(new: Object, old: Object) -> list[Cause]:
    """The spec never changes, so it is not looked at again."""
    specs = [go_values.go_value(_spec(obj), go_values.CLAIM_SPEC) for obj in (new, old)]
    return go_values.immutable("spec", *specs)


def template(obj: Object) -> list[Cause]:
    found = metadata.template(_spec(obj).get("metadata") or {}, "spec.metadata")
    return found + claim_spec(_spec(obj).get("spec") or {}, "spec.spec")


def template_update(new: Object, old: Object) -> list[Cause]:
    specs = []
    for obj in (new, old):
        inner = go_values.go_value(_spec(obj).get("spec") or {}, go_values.CLAIM_SPEC)
        specs.append({**(_spec(obj).get("metadata") or {}), "Spec": inner})
    return template(new) + go_values.immutable("spec", *specs)


# -- slices ------------------------------------------------------------------------------------------------------------


def default_slice(obj: Object) -> None:
    """An amount that is not said is none."""
    spec = _spec(obj)
    for device in spec.get("devices") or ():
        _default_amounts(device.get("capacity"))
        for consumption in device.get("consumesCounters") or ():
            _default_amounts(consumption.get("counters"))
    for counters in spec.get("sharedCounters") or ():
        _default_amounts(counters.get("counters"))


def _default_amounts(found: dict[str, Any] | None) -> None:
    for holder in (found or {}).values():
        holder.setdefault("value", "0")


def resource_slice(obj: Object) -> list[Cause]:
    return slice_spec(_spec(obj))


def slice_update(new: Object, old: Object) -> list[Cause]:
    return slice_spec(_spec(new), _spec(old))


def slice_warnings(obj: Object) -> list[str]:
    driver = _spec(obj).get("driver") or ""
    if driver == driver.lower():
        return []
    rule = "driver names should be lowercase"
    return [f"spec.driver: {rule}; {faults.shown(driver)} contains uppercase characters"]


# -- tables ------------------------------------------------------------------------------------------------------------


def _claim_cells(obj: Object, now: float) -> Cells:
    status = obj.get("status") or {}
    states = ["deleted"] if meta.is_deleting(obj) else []
    states += ["allocated"] if status.get("allocation") else ["pending"]
    states += ["reserved"] if status.get("reservedFor") else []
    return [meta.name(obj), ",".join(states), age(obj, now)]


def _slice_cells(obj: Object, now: float) -> Cells:
    spec = _spec(obj)
    pool = (spec.get("pool") or {}).get("name") or ""
    return [meta.name(obj), spec.get("nodeName") or "", spec.get("driver") or "", pool, age(obj, now)]


RULES = (
    KindRules(
        resource=DEVICECLASSES, has_generation=True, name_format=class_name, faults=device_class,
        update_faults=device_class,
    ),
    KindRules(
        resource=RESOURCECLAIMS, status_keeps_metadata=True,
        default=default_claim, on_status_update=forget_released,
        faults=claim, update_faults=claim_update, status_faults=claim_status,
        columns=(NAME, *texts("State"), AGE), cells=_claim_cells,
    ),
    KindRules(
        resource=RESOURCECLAIMTEMPLATES, default=default_template, faults=template, update_faults=template_update
    ),
    KindRules(
        resource=RESOURCESLICES, has_generation=True,
        default=default_slice, on_create=drop_disabled, on_update=lambda new, old: drop_disabled(new),
        faults=resource_slice, update_faults=slice_update, warnings=slice_warnings,
        columns=(NAME, *texts("Node", "Driver", "Pool"), AGE), cells=_slice_cells,
    ),
)  # fmt: skip
