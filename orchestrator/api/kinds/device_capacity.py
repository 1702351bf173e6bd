"""Capacity of a device that several requests may share: which amounts of it can be asked for.

Source: resource.k8s.io/v1 API reference, CapacityRequestPolicy; KEP-5075; upstream pkg/apis/resource/validation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.api import quantity
from orchestrator.api.kinds import faults
from orchestrator.api.kinds.device_values import Check, each_of
from orchestrator.api.status import Cause

Json = Mapping[str, Any]
Amount = str | int | float

OPTIONS_MAX = 10


def capacity(*, is_shared: bool) -> Check:
    """The check of one capacity. A device that is allocated once at most has no policy."""

    def check(found: Json, path: str) -> list[Cause]:
        policy, at = found.get("requestPolicy"), f"{path}.requestPolicy"
        if policy is None:
            return []
        if not is_shared:
            return [faults.forbidden(at, "allowMultipleAllocations must be true")]
        return _policy(found.get("value") or "0", policy, at)

    return check


def _policy(whole: Amount, policy: Json, path: str) -> list[Cause]:
    options, limits, default = policy.get("validValues"), policy.get("validRange"), policy.get("default")
    if options and limits is not None:
        detail = 'exactly one policy can be specified, cannot specify "validValues" and "validRange" at the same time'
        return [faults.forbidden(path, detail)]
    if options:
        if default is None:
            return [faults.required(f"{path}.default", "required when validValues is defined")]
        return _options(options, default, whole, f"{path}.validValues")
    if limits is not None:
        if default is None:
            return [faults.required(f"{path}.default", "required when validRange is defined")]
        return _limits(limits, default, whole, f"{path}.validRange")
    return []


def _invalid(path: str, value: Amount, detail: str) -> Cause:
    return faults.invalid(path, quantity.canonical(value), detail)


def _is_more(one: Amount, other: Amount) -> bool:
    return quantity.parse(one) > quantity.parse(other)


def _options(options: list[Amount], default: Amount, whole: Amount, path: str) -> list[Cause]:
    causes = [
        _invalid(f"{path}[{index}]", options[index], "values must be sorted in ascending order")
        for index in range(1, len(options))
        if _is_more(options[index - 1], options[index])
    ]

    def check(option: Amount, at: str) -> list[Cause]:
        detail = f"option is larger than capacity value: {quantity.canonical(whole)}"
        return [_invalid(at, option, detail)] if _is_more(option, whole) else []

    causes += each_of(options, path, check, OPTIONS_MAX, lambda option: str(quantity.ceil(option)))
    # Too many options are not searched for the default, upstream neither.
    is_option = any(quantity.parse(option) == quantity.parse(default) for option in options)
    if not is_option or len(options) > OPTIONS_MAX:
        causes.append(_invalid(path, default, "default value is not valid according to the requestPolicy"))
    return causes


def _limits(limits: Json, default: Amount, whole: Amount, path: str) -> list[Cause]:
    low, high, step = limits.get("min"), limits.get("max"), limits.get("step")
    if low is None:
        return [faults.required(f"{path}.min", "required when validRange is defined")]
    causes: list[Cause] = []
    text = quantity.canonical
    if _is_more(low, whole):
        causes.append(_invalid(f"{path}.min", low, f"min is larger than capacity value: {text(whole)}"))
    if _is_more(low, default):
        causes.append(_invalid(f"{path}.min", default, f"default is less than min: {text(low)}"))
    if high is not None:
        if _is_more(low, high):
            causes.append(_invalid(f"{path}.max", low, f"min is larger than max: {text(high)}"))
        if _is_more(high, whole):
            causes.append(_invalid(f"{path}.max", high, f"max is larger than capacity value: {text(whole)}"))
        if _is_more(default, high):
            causes.append(_invalid(f"{path}.max", default, f"default is more than max: {text(high)}"))
    if step is None:
        return causes
    if (added := quantity.parse(low) + quantity.parse(step)) > quantity.parse(whole):
        shown = quantity.format_binary(added) if text(low).endswith("i") else quantity.format_decimal(added)
        detail = f"one step {shown} is larger than capacity value: {text(whole)}"
        causes.append(_invalid(f"{path}.step", step, detail))
    for value in (default, *([high] if high is not None else ())):
        # Deviation: a step of nothing divides by zero upstream; here it fits all.
        if quantity.ceil(step) and (quantity.ceil(value) - quantity.ceil(low)) % quantity.ceil(step):
            detail = f"value is not a multiple of a given step ({text(step)}) from ({text(low)})"
            causes.append(_invalid(f"{path}.step", value, detail))
    return causes
