"""What bounds a namespace and its pods: LimitRange, ResourceQuota, PodDisruptionBudget.

Source: core/v1 and policy/v1 API reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_CEILING
from typing import Any

from orchestrator.api import meta, quantity
from orchestrator.api.kinds import faults, formats, podspec, resource_faults, table
from orchestrator.api.kinds.rules import KindRules
from orchestrator.api.kinds.table import AGE, CREATED_AT, NAME, Cells, age, integer
from orchestrator.api.kinds.values import int_or_percent, label_selector, nonnegative
from orchestrator.api.meta import Object
from orchestrator.api.resources import LIMITRANGES, PODDISRUPTIONBUDGETS, RESOURCEQUOTAS
from orchestrator.api.status import Cause

Json = Mapping[str, Any]

MILLIS_MAX = (2**63 - 1) // 1000
LIMIT_TYPES = ("Container", "PersistentVolumeClaim", "Pod")
SCOPES = ("BestEffort", "CrossNamespacePodAffinity", "NotBestEffort", "NotTerminating", "PriorityClass", "Terminating",
          "VolumeAttributesClass")  # fmt: skip
COMPUTE = ("cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory")
CONFLICTING = ({"BestEffort", "NotBestEffort"}, {"Terminating", "NotTerminating"})


def _spec(obj: Json) -> dict[str, Any]:
    return obj.get("spec") or {}


# -- LimitRange --------------------------------------------------------------------------------------------------------


AMOUNTS = ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio")


def default_limit_range(obj: Object) -> None:
    for limit in _spec(obj).get("limits") or ():
        for name in AMOUNTS:
            podspec.round_up(limit.get(name))
        if limit.get("type") != "Container":
            continue
        default = {**(limit.get("max") or {}), **(limit.get("default") or {})}
        requests = {**(limit.get("min") or {}), **default, **(limit.get("defaultRequest") or {})}
        for name, amounts in (("default", default), ("defaultRequest", requests)):
            if amounts:
                limit[name] = amounts


def name_limit_range(obj: Object) -> None:
    """One without a name is called by its uid."""
    metadata = obj["metadata"]
    if not metadata.get("name") and metadata.get("uid"):
        metadata["name"] = metadata["uid"]


def default_quota(obj: Object) -> None:
    status = obj.get("status") or {}
    for amounts in (_spec(obj).get("hard"), status.get("hard"), status.get("used")):
        podspec.round_up(amounts)


def limit_range(obj: Object) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, limit in enumerate(_spec(obj).get("limits") or ()):
        path, kind = f"spec.limits[{index}]", limit.get("type") or ""
        complaints = formats.qualified_name(kind)
        causes += faults.each(f"{path}.type", kind, complaints)
        if not complaints and "/" not in kind and kind not in LIMIT_TYPES:
            causes.append(faults.invalid(f"{path}.type", kind, "must be a standard limit type or fully qualified"))
        if kind in seen:
            causes.append(faults.duplicate(f"{path}.type", kind))
        seen.add(kind)
        causes += _limit(limit, path, kind)
    return causes


def _limit(limit: Json, path: str, kind: str) -> list[Cause]:
    causes: list[Cause] = []
    if kind == "Pod":
        for name in ("default", "defaultRequest"):
            if limit.get(name):
                causes.append(faults.forbidden(f"{path}.{name}", "may not be specified when `type` is 'Pod'"))
    if kind == "PersistentVolumeClaim" and not any("storage" in (limit.get(n) or {}) for n in ("min", "max")):
        detail = "either minimum or maximum storage value is required, but neither was provided"
        causes.append(faults.required(f"{path}.limits", detail))
    check = resource_faults.container_resource_name if kind in ("Pod", "Container") else resource_faults.resource_name
    for name in AMOUNTS:
        if kind != "Pod" or not name.startswith("default"):
            causes += [cause for key in limit.get(name) or () for cause in check(key, f"{path}.{name}[{key}]")]
    for resource in sorted({key for name in AMOUNTS for key in limit.get(name) or ()}):
        causes += _order(limit, resource, path)
    return causes


def _order(limit: Json, resource: str, path: str) -> list[Cause]:
    """min ≤ default request ≤ default ≤ max, as far as they are given."""
    low, high, default, request, ratio = (
        (limit.get(name) or {}).get(resource)
        for name in ("min", "max", "default", "defaultRequest", "maxLimitRequestRatio")
    )
    causes: list[Cause] = []

    def check(smaller: Any, larger: Any, field: str, shown: Any, detail: str) -> None:
        if smaller is not None and larger is not None and quantity.parse(smaller) > quantity.parse(larger):
            causes.append(faults.invalid(f"{path}.{field}[{resource}]", shown, detail))

    check(low, high, "min", low, f"min value {low} is greater than max value {high}")
    check(low, request, "defaultRequest", request, f"min value {low} is greater than default request value {request}")
    check(request, high, "defaultRequest", request, f"default request value {request} is greater than max value {high}")
    rule = f"default request value {request} is greater than default limit value {default}"
    check(request, default, "defaultRequest", request, rule)
    check(low, default, "default", low, f"min value {low} is greater than default value {default}")
    check(default, high, "default", high, f"default value {default} is greater than max value {high}")
    if ratio is not None and low is not None and high is not None and quantity.parse(low) > 0:
        most, largest, least = (quantity.parse(value) for value in (ratio, high, low))
        if max(most, largest, least) > MILLIS_MAX:  # too large to count thousandths
            most, largest, least = (value.to_integral_value(ROUND_CEILING) for value in (most, largest, least))
        if most > largest / least:
            detail = f"ratio {ratio} is greater than max/min = {float(largest / least):f}"
            causes.append(faults.invalid(f"{path}.maxLimitRequestRatio[{resource}]", ratio, detail))
    if ratio is not None and quantity.parse(ratio) < 1:
        causes.append(
            faults.invalid(f"{path}.maxLimitRequestRatio[{resource}]", ratio, f"ratio {ratio} is less than 1")
        )
    return causes


# -- ResourceQuota -----------------------------------------------------------------------------------------------------


NO_QUOTA = {"storage"}  # claims are counted by requests.storage
EXISTING = ("BestEffort", "NotBestEffort", "Terminating", "NotTerminating", "CrossNamespacePodAffinity")
MUST_EXIST = (
    "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, "
    "ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity"
)


def resource_quota(obj: Object) -> list[Cause]:
    spec = _spec(obj)
    causes: list[Cause] = []
    for name, value in (spec.get("hard") or {}).items():
        path = f"spec.hard[{name}]"
        causes += _quota_name(name, path)
        causes += resource_faults.amount(name, value, path)
    scopes = spec.get("scopes") or []
    if any(scope not in SCOPES for scope in scopes):
        causes.append(faults.invalid("spec.scopes", scopes, "unsupported scope"))
    if any(_is_misapplied(scope, name) for scope in scopes for name in spec.get("hard") or ()):
        causes.append(faults.invalid("spec.scopes", scopes, "unsupported scope applied to resource"))
    if any(pair <= set(scopes) for pair in CONFLICTING):
        causes.append(faults.invalid("spec.scopes", scopes, "conflicting scopes"))
    return causes + (_scope_selector(spec) if spec.get("scopeSelector") is not None else [])


def _scope_selector(spec: Json) -> list[Cause]:
    path, selector = "spec.scopeSelector.matchExpressions", spec["scopeSelector"]
    causes: list[Cause] = []
    terms = selector.get("matchExpressions") or []
    for term in terms:
        scope, operator, values = term.get("scopeName") or "", term.get("operator") or "", term.get("values") or []
        if scope not in SCOPES:
            causes.append(faults.invalid(f"{path}.scopeName", scope, "unsupported scope"))
        if any(_is_misapplied(scope, name) for name in spec.get("hard") or ()):
            causes.append(faults.invalid(path, selector, "unsupported scope applied to resource"))
        if scope in EXISTING and operator != "Exists":
            causes.append(faults.invalid(f"{path}.operator", operator, MUST_EXIST))
        if operator in ("In", "NotIn") and not values:
            detail = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"
            causes.append(faults.required(f"{path}.values", detail))
        elif operator in ("Exists", "DoesNotExist") and values:
            detail = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"
            causes.append(faults.invalid(f"{path}.values", values, detail))
        elif operator not in ("In", "NotIn", "Exists", "DoesNotExist"):
            causes.append(faults.invalid(f"{path}.operator", operator, "not a valid selector operator"))
    if any(pair <= {term.get("scopeName") for term in terms} for pair in CONFLICTING):
        causes.append(faults.invalid(path, spec.get("scopes"), "conflicting scopes"))
    return causes


def resource_quota_status(new: Object, old: Object) -> list[Cause]:
    causes: list[Cause] = []
    for part in ("hard", "used"):
        for name, value in ((new.get("status") or {}).get(part) or {}).items():
            path = f"status.{part}[{name}]"
            causes += [*_quota_name(name, path), *resource_faults.amount(name, value, path)]
    return causes


def _is_misapplied(scope: str, name: str) -> bool:
    """Most scopes are about pods: best-effort ones are only counted, others may have their compute resources summed."""
    if name not in resource_faults.STANDARD or scope not in SCOPES:
        return False
    if scope == "VolumeAttributesClass":
        return name not in ("persistentvolumeclaims", "requests.storage")
    return name not in ({"pods"} if scope == "BestEffort" else {"pods", *COMPUTE})


def _quota_name(name: str, path: str) -> list[Cause]:
    causes = resource_faults.resource_name(name, path)
    known = name in resource_faults.STANDARD - NO_QUOTA or name.startswith(("hugepages-", "requests.hugepages-"))
    if "/" not in name and not known:
        causes.append(faults.invalid(path, name, "must be a standard resource for quota"))
    return causes


def resource_quota_update(new: Object, old: Object) -> list[Cause]:
    causes = resource_quota(new)
    now, held = _spec(new).get("scopes") or [], _spec(old).get("scopes") or []
    return causes if set(now) == set(held) else [*causes, faults.invalid("spec.scopes", now, faults.IMMUTABLE)]


def _quota_cells(obj: Object, now: float) -> Cells:
    status = obj.get("status") or {}
    hard, used = status.get("hard") or {}, status.get("used") or {}
    shown = {name: f"{name}: {used.get(name, '0')}/{amount}" for name, amount in sorted(hard.items())}
    requests = ", ".join(text for name, text in shown.items() if not name.startswith("limits."))
    limits = ", ".join(text for name, text in shown.items() if name.startswith("limits."))
    return [meta.name(obj), requests, limits, age(obj, now)]


# -- PodDisruptionBudget -----------------------------------------------------------------------------------------------


def budget(obj: Object) -> list[Cause]:
    spec = _spec(obj)
    low, high = spec.get("minAvailable"), spec.get("maxUnavailable")
    causes: list[Cause] = []
    if low is not None and high is not None:
        causes.append(faults.invalid("spec", spec, "minAvailable and maxUnavailable cannot be both set"))
    for name, value in (("minAvailable", low), ("maxUnavailable", high)):
        causes += int_or_percent(value, f"spec.{name}")
        if isinstance(value, str) and not formats.percent(value) and int(value[:-1]) > 100:
            causes.append(faults.invalid(f"spec.{name}", value, "must not be greater than 100%"))
    causes += label_selector(spec.get("selector"), "spec.selector")
    policy = spec.get("unhealthyPodEvictionPolicy")
    if policy is not None and policy not in ("AlwaysAllow", "IfHealthyBudget"):
        path = "spec.unhealthyPodEvictionPolicy"
        causes.append(faults.not_supported(path, policy, ("AlwaysAllow", "IfHealthyBudget")))
    return causes


def budget_status(new: Object, old: Object) -> list[Cause]:
    names = ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods")
    return nonnegative(new.get("status") or {}, "status", *names)


def _budget_cells(obj: Object, now: float) -> Cells:
    spec, status = _spec(obj), obj.get("status") or {}
    bounds = [str(spec[n]) if spec.get(n) is not None else "N/A" for n in ("minAvailable", "maxUnavailable")]
    return [meta.name(obj), *bounds, status.get("disruptionsAllowed", 0), age(obj, now)]


RULES = (
    KindRules(
        resource=LIMITRANGES,
        default=default_limit_range,
        on_create=name_limit_range,
        faults=limit_range,
        update_faults=lambda new, old: limit_range(new),
        columns=(NAME, CREATED_AT),
        cells=lambda obj, now: [meta.name(obj), meta.metadata(obj).get("creationTimestamp")],
    ),
    KindRules(
        resource=RESOURCEQUOTAS,
        default=default_quota,
        faults=resource_quota,
        update_faults=resource_quota_update,
        status_faults=resource_quota_status,
        columns=(NAME, *table.texts("Request", "Limit"), AGE),
        cells=_quota_cells,
    ),
    KindRules(
        resource=PODDISRUPTIONBUDGETS,
        name_format=formats.path_segment,
        metadata_last=True,
        has_generation=True,
        faults=budget,
        update_faults=lambda new, old: budget(new),
        status_faults=budget_status,
        columns=(NAME, *table.texts("Min Available", "Max Unavailable"), integer("Allowed Disruptions"), AGE),
        cells=_budget_cells,
    ),
)
