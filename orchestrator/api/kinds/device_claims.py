"""What can be wrong with a claim for devices: its requests, constraints and configuration.

Source: resource.k8s.io/v1 API reference, DeviceClaim; upstream pkg/apis/resource/validation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.api.kinds import faults, formats
from orchestrator.api.kinds.device_values import (
    CONFIGS_MAX,
    REQUESTS_MAX,
    Check,
    configuration,
    each_of,
    full_attribute_name,
    label,
    selectors,
    toleration,
)
from orchestrator.api.kinds.values import name_of
from orchestrator.api.status import Cause

Json = Mapping[str, Any]
Names = Mapping[str, frozenset[str] | None]

CONSTRAINTS_MAX, ALTERNATIVES_MAX = 32, 8
MODES = ("All", "ExactCount")
_NO_REQUEST = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"


def claim_spec(spec: Json, path: str) -> list[Cause]:
    devices, at = spec.get("devices") or {}, f"{path}.devices"
    names = request_names(devices)
    return [
        *each_of(devices.get("requests") or (), f"{at}.requests", _request, REQUESTS_MAX, _name),
        *each_of(devices.get("constraints") or (), f"{at}.constraints", _constraint(names), CONSTRAINTS_MAX),
        *each_of(devices.get("config") or (), f"{at}.config", claimed_configuration(names), CONFIGS_MAX),
    ]


def request_names(devices: Json) -> Names:
    """The names of requests, each with those of its alternatives; None where it has none."""
    names: dict[str, frozenset[str] | None] = {}
    for request in devices.get("requests") or ():
        alternatives = request.get("firstAvailable")
        names[_name(request)] = frozenset(map(_name, alternatives)) if alternatives else None
    return names


def _name(holder: Json) -> str:
    return holder.get("name") or ""


def _request(request: Json, path: str) -> list[Cause]:
    exactly, alternatives = request.get("exactly"), request.get("firstAvailable")
    causes, rule = label(_name(request), f"{path}.name"), "exactly one of `exactly` or `firstAvailable` is required"
    if exactly is None and not alternatives:
        causes.append(faults.required(path, rule))
    elif exactly is not None and alternatives:
        causes.append(faults.invalid(path, None, f"{rule}, but multiple fields are set"))
    elif alternatives:
        causes += each_of(alternatives, f"{path}.firstAvailable", _alternative, ALTERNATIVES_MAX, _name)
    else:
        causes += _exactly(exactly or {}, f"{path}.exactly")
    return causes


def _alternative(request: Json, path: str) -> list[Cause]:
    return label(_name(request), f"{path}.name") + _exactly(request, path)


def _exactly(request: Json, path: str) -> list[Cause]:
    causes = name_of(request.get("deviceClassName"), f"{path}.deviceClassName", formats.dns_subdomain, required=True)
    causes += selectors(request.get("selectors") or (), f"{path}.selectors")
    mode, count = request.get("allocationMode") or "", request.get("count") or 0
    if mode not in MODES:
        causes.append(faults.not_supported(f"{path}.allocationMode", mode, MODES))
    elif mode == "All" and count:
        detail = "must not be specified when allocationMode is 'All'"
        causes.append(faults.invalid(f"{path}.count", count, detail))
    elif mode == "ExactCount" and count <= 0:
        causes.append(faults.invalid(f"{path}.count", count, "must be greater than zero"))
    return causes + each_of(request.get("tolerations") or (), f"{path}.tolerations", toleration)


def request_reference(names: Names) -> Check:
    """The check of a name that something else in the claim gives: `request` or `request/alternative`."""

    def check(name: str, path: str) -> list[Cause]:
        parts = name.split("/")
        if len(parts) > 2:
            return [faults.invalid(path, name, _NO_REQUEST)]
        causes = [cause for part in parts for cause in label(part, path)]
        is_known = parts[0] in names and (len(parts) == 1 or parts[1] in (names[parts[0]] or ()))
        return causes if is_known else [*causes, faults.invalid(path, name, _NO_REQUEST)]

    return check


def references(holder: Json, path: str, names: Names) -> list[Cause]:
    return each_of(holder.get("requests") or (), f"{path}.requests", request_reference(names), REQUESTS_MAX, str)


def _constraint(names: Names) -> Check:
    def check(constraint: Json, path: str) -> list[Cause]:
        causes = references(constraint, path, names)
        for name in ("matchAttribute", "distinctAttribute"):
            if constraint.get(name) is not None:
                return causes + full_attribute_name(constraint[name], f"{path}.{name}")
        # The words are upstream's, though none is set.
        detail = 'exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are set'
        return [*causes, faults.required(path, detail)]

    return check


def claimed_configuration(names: Names) -> Check:
    def check(config: Json, path: str) -> list[Cause]:
        return references(config, path, names) + configuration(config, path)

    return check
