"""The kinds of dynamic resource allocation: device classes, claims, templates of claims, and what nodes have.

They are stored and checked; allocating devices is the work of a driver and of a scheduler that knows it.
Source: resource.k8s.io/v1; KEP-4381; upstream pkg/apis/resource, validation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.api import meta
from orchestrator.api.kinds import faults, formats
from orchestrator.api.kinds.rules import KindRules
from orchestrator.api.kinds.table import AGE, NAME, Cells, age, texts
from orchestrator.api.meta import Object
from orchestrator.api.resources import DEVICECLASSES, RESOURCECLAIMS, RESOURCECLAIMTEMPLATES, RESOURCESLICES
from orchestrator.api.status import Cause

Json = Mapping[str, Any]
SELECTORS_MAX, REQUESTS_MAX, DEVICES_MAX = 32, 32, 128
_MODES = ("All", "ExactCount")


def _spec(obj: Json) -> dict[str, Any]:
    return obj.get("spec") or {}


def _selectors(selectors: list[Any], path: str) -> list[Cause]:
    causes: list[Cause] = []
    if len(selectors) > SELECTORS_MAX:
        causes.append(faults.too_many(path, len(selectors), SELECTORS_MAX))
    for index, selector in enumerate(selectors):
        if selector.get("cel") is None:
            causes.append(faults.required(f"{path}[{index}].cel"))
        elif not selector["cel"].get("expression"):
            causes.append(faults.required(f"{path}[{index}].cel.expression"))
    return causes


def device_class(obj: Object) -> list[Cause]:
    return _selectors(_spec(obj).get("selectors") or [], "spec.selectors")


def default_claim(obj: Object) -> None:
    _default_requests(_spec(obj))


def default_template(obj: Object) -> None:
    _default_requests(_spec(obj).get("spec") or {})


def _default_requests(spec: Json) -> None:
    for request in (spec.get("devices") or {}).get("requests") or ():
        for one in [request.get("exactly"), *(request.get("firstAvailable") or ())]:
            if one is not None:
                one.setdefault("allocationMode", "ExactCount")
                if one["allocationMode"] == "ExactCount":
                    one.setdefault("count", 1)


def _claim_spec(spec: Json, path: str) -> list[Cause]:
    devices = spec.get("devices") or {}
    requests, place = devices.get("requests") or [], f"{path}.devices.requests"
    causes: list[Cause] = []
    if len(requests) > REQUESTS_MAX:
        causes.append(faults.too_many(place, len(requests), REQUESTS_MAX))
    names: list[str] = []
    for index, request in enumerate(requests):
        at, name = f"{place}[{index}]", request.get("name") or ""
        causes += faults.each(f"{at}.name", name, formats.dns_label(name)) if name else [faults.required(f"{at}.name")]
        if name in names:
            causes.append(faults.duplicate(f"{at}.name", name))
        names.append(name)
        exactly, first = request.get("exactly"), request.get("firstAvailable")
        if exactly is None and not first:
            causes.append(faults.required(at, "exactly one of `exactly` or `firstAvailable` is required"))
        elif exactly is not None and first:
            causes.append(faults.invalid(at, None, "exactly one of `exactly` or `firstAvailable` is required"))
        elif exactly is not None:
            causes += _exact(exactly, f"{at}.exactly")
        for place_in_list, one in enumerate(first or ()):
            causes += _exact(one, f"{at}.firstAvailable[{place_in_list}]")
    return causes


def _exact(request: Json, path: str) -> list[Cause]:
    name, causes = request.get("deviceClassName") or "", []
    if not name:
        causes.append(faults.required(f"{path}.deviceClassName"))
    else:
        causes += faults.each(f"{path}.deviceClassName", name, formats.dns_subdomain(name))
    causes += _selectors(request.get("selectors") or [], f"{path}.selectors")
    mode, count = request.get("allocationMode", "ExactCount"), request.get("count", 0)
    if mode not in _MODES:
        causes.append(faults.not_supported(f"{path}.allocationMode", mode, _MODES))
    elif mode == "All" and count:
        detail = "must not be specified when allocationMode is 'All'"
        causes.append(faults.invalid(f"{path}.count", count, detail))
    elif mode == "ExactCount" and count <= 0:
        causes.append(faults.invalid(f"{path}.count", count, "must be greater than zero"))
    return causes


def claim(obj: Object) -> list[Cause]:
    return _claim_spec(_spec(obj), "spec")


def claim_update(new: Object, old: Object) -> list[Cause]:
    return faults.immutable("spec", _spec(new), _spec(old))


def template(obj: Object) -> list[Cause]:
    return _claim_spec(_spec(obj).get("spec") or {}, "spec.spec")


def resource_slice(obj: Object) -> list[Cause]:
    spec, causes = _spec(obj), []
    placed = [name for name in ("nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection") if spec.get(name)]
    rule = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"
    if not placed:
        causes.append(faults.required("spec", rule))
    elif len(placed) > 1:
        causes.append(faults.invalid("spec", f"{{{', '.join(placed)}}}", rule))
    driver = spec.get("driver") or ""
    causes += (
        faults.each("spec.driver", driver, formats.dns_subdomain(driver))
        if driver
        else [faults.required("spec.driver")]
    )
    pool = spec.get("pool") or {}
    if not pool.get("name"):
        causes.append(faults.required("spec.pool.name"))
    if pool.get("resourceSliceCount", 0) <= 0:
        count = pool.get("resourceSliceCount", 0)
        causes.append(faults.invalid("spec.pool.resourceSliceCount", count, "must be greater than zero"))
    devices = spec.get("devices") or []
    if len(devices) > DEVICES_MAX:
        causes.append(faults.too_many("spec.devices", len(devices), DEVICES_MAX))
    for index, device in enumerate(devices):
        name = device.get("name") or ""
        path = f"spec.devices[{index}].name"
        causes += faults.each(path, name, formats.dns_label(name)) if name else [faults.required(path)]
    return causes


def slice_update(new: Object, old: Object) -> list[Cause]:
    causes = resource_slice(new)
    for name in ("nodeName", "driver"):
        causes += faults.immutable(f"spec.{name}", _spec(new).get(name), _spec(old).get(name))
    pools = [(_spec(obj).get("pool") or {}).get("name") for obj in (new, old)]
    return causes + faults.immutable("spec.pool.name", *pools)


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
        resource=DEVICECLASSES, has_generation=True, faults=device_class,
        update_faults=lambda new, old: device_class(new),
    ),
    KindRules(
        resource=RESOURCECLAIMS, status_keeps_metadata=True,
        default=default_claim, faults=claim, update_faults=claim_update,
        columns=(NAME, *texts("State"), AGE), cells=_claim_cells,
    ),
    KindRules(
        resource=RESOURCECLAIMTEMPLATES, default=default_template, faults=template, update_faults=claim_update
    ),
    KindRules(
        resource=RESOURCESLICES, has_generation=True, faults=resource_slice, update_faults=slice_update,
        columns=(NAME, *texts("Node", "Driver", "Pool"), AGE), cells=_slice_cells,
    ),
)  # fmt: skip
