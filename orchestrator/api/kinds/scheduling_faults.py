"""What can be wrong with where a pod wants to run: node selectors, affinity, tolerations, spread constraints.

Source: core/v1 API reference, Affinity, Toleration, TopologySpreadConstraint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.api.kinds import faults, formats
from orchestrator.api.kinds.values import label_selector, one_of
from orchestrator.api.status import Cause

Json = Mapping[str, Any]

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
EFFECTS = ("NoExecute", "NoSchedule", "PreferNoSchedule")


def affinity(found: Json | None, path: str) -> list[Cause]:
    if found is None:
        return []
    causes: list[Cause] = []
    if (node := found.get("nodeAffinity")) is not None:
        causes += _node_affinity(node, f"{path}.nodeAffinity")
    for kind in ("podAffinity", "podAntiAffinity"):
        pods = found.get(kind) or {}
        for index, term in enumerate(pods.get(REQUIRED) or ()):
            causes += _pod_term(term, f"{path}.{kind}.{REQUIRED}[{index}]")
        for index, weighted in enumerate(pods.get(PREFERRED) or ()):
            at = f"{path}.{kind}.{PREFERRED}[{index}]"
            causes += _weight(weighted, at)
            causes += _pod_term(weighted.get("podAffinityTerm") or {}, f"{at}.podAffinityTerm")
    return causes


def _weight(holder: Json, path: str) -> list[Cause]:
    weight = holder.get("weight", 0)
    return [] if 1 <= weight <= 100 else [faults.invalid(f"{path}.weight", weight, "must be in the range 1-100")]


def _node_affinity(found: Json, path: str) -> list[Cause]:
    causes: list[Cause] = []
    if (required := found.get(REQUIRED)) is not None:
        causes += node_selector(required, f"{path}.{REQUIRED}")
    for index, term in enumerate(found.get(PREFERRED) or ()):
        at = f"{path}.{PREFERRED}[{index}]"
        causes += _weight(term, at)
        causes += _node_term(term.get("preference") or {}, f"{at}.preference", check_values=False)
    return causes


def node_selector(selector: Json, path: str) -> list[Cause]:
    terms = selector.get("nodeSelectorTerms") or ()
    if not terms:
        return [faults.required(f"{path}.nodeSelectorTerms", "must have at least one node selector term")]
    return [
        cause
        for index, term in enumerate(terms)
        for cause in _node_term(term, f"{path}.nodeSelectorTerms[{index}]", check_values=True)
    ]


def _node_term(term: Json, path: str, *, check_values: bool) -> list[Cause]:
    causes: list[Cause] = []
    for index, requirement in enumerate(term.get("matchExpressions") or ()):
        causes += _node_requirement(requirement, f"{path}.matchExpressions[{index}]", check_values)
    for index, requirement in enumerate(term.get("matchFields") or ()):
        causes += _field_requirement(requirement, f"{path}.matchFields[{index}]")
    return causes


def _node_requirement(requirement: Json, path: str, check_values: bool) -> list[Cause]:
    operator, values = requirement.get("operator") or "", requirement.get("values") or ()
    causes: list[Cause] = []
    if operator in ("In", "NotIn"):
        if not values:
            causes.append(faults.required(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            causes.append(faults.forbidden(f"{path}.values", detail))
    elif operator in ("Gt", "Lt"):
        if len(values) != 1:
            detail = "must be specified single value when `operator` is 'Lt' or 'Gt'"
            causes.append(faults.required(f"{path}.values", detail))
    else:
        causes.append(faults.invalid(f"{path}.operator", operator, "not a valid selector operator"))
    key = requirement.get("key") or ""
    causes += faults.each(f"{path}.key", key, formats.qualified_name(key))
    if check_values:
        for index, value in enumerate(values):
            causes += faults.each(f"{path}.values[{index}]", value, formats.label_value(value))
    return causes


def _field_requirement(requirement: Json, path: str) -> list[Cause]:
    operator, values = requirement.get("operator") or "", requirement.get("values") or ()
    causes: list[Cause] = []
    if operator in ("In", "NotIn"):
        if len(values) != 1:
            detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
            causes.append(faults.required(f"{path}.values", detail))
    else:
        causes.append(faults.invalid(f"{path}.operator", operator, "not a valid selector operator"))
    key = requirement.get("key") or ""
    if key != "metadata.name":
        causes.append(faults.invalid(f"{path}.key", key, "not a valid field selector key"))
        return causes
    for index, value in enumerate(values):
        causes += faults.each(f"{path}.values[{index}]", value, formats.dns_subdomain(value))
    return causes


def _pod_term(term: Json, path: str) -> list[Cause]:
    causes = label_selector(term.get("labelSelector"), f"{path}.labelSelector")
    causes += label_selector(term.get("namespaceSelector"), f"{path}.namespaceSelector")
    for name in term.get("namespaces") or ():
        causes += faults.each(f"{path}.namespace", name, formats.dns_label(name))
    key = term.get("topologyKey") or ""
    if not key:
        causes.append(faults.required(f"{path}.topologyKey", "can not be empty"))
    return causes + faults.each(f"{path}.topologyKey", key, formats.qualified_name(key))


def taint_effect(effect: str, path: str) -> list[Cause]:
    supported = ("NoSchedule", "PreferNoSchedule", "NoExecute")
    return [] if effect in supported else [faults.not_supported(path, effect, supported)]


def tolerations(found: Sequence[Json], path: str, first: int = 0) -> list[Cause]:
    """`first` is the index of the first in the list that `path` names."""
    causes: list[Cause] = []
    for index, toleration in enumerate(found, first):
        at = f"{path}[{index}]"
        key, value = toleration.get("key") or "", toleration.get("value") or ""
        operator, effect = toleration.get("operator") or "", toleration.get("effect") or ""
        if key:
            causes += faults.each(f"{at}.key", key, formats.qualified_name(key))
        elif operator != "Exists":
            detail = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
            causes.append(faults.invalid(f"{at}.operator", operator, detail))
        if toleration.get("tolerationSeconds") is not None and effect != "NoExecute":
            detail = "effect must be 'NoExecute' when `tolerationSeconds` is set"
            causes.append(faults.invalid(f"{at}.effect", effect, detail))
        if operator in ("", "Equal"):
            if complaints := formats.label_value(value):
                causes.append(faults.invalid(f"{at}.operator", value, ";".join(complaints)))
        elif operator == "Exists":
            if value:
                detail = "value must be empty when `operator` is 'Exists'"
                causes.append(faults.invalid(f"{at}.operator", value, detail))
        else:
            causes.append(faults.not_supported(f"{at}.operator", operator, ("Equal", "Exists")))
        if effect:
            causes += taint_effect(effect, f"{at}.effect")
    return causes


def spread_constraints(found: Sequence[Json], path: str) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[tuple[str, str]] = set()
    for index, constraint in enumerate(found):
        at = f"{path}[{index}]"
        skew, key = constraint.get("maxSkew", 0), constraint.get("topologyKey") or ""
        action = constraint.get("whenUnsatisfiable") or ""
        if skew <= 0:
            causes.append(faults.invalid(f"{at}.maxSkew", skew, "must be greater than zero"))
        if not key:
            causes.append(faults.required(f"{at}.topologyKey", "can not be empty"))
        else:
            causes += faults.each(f"{at}.topologyKey", key, formats.qualified_name(key))
        if action not in ("DoNotSchedule", "ScheduleAnyway"):
            causes.append(faults.not_supported(f"{at}.whenUnsatisfiable", action, ("DoNotSchedule", "ScheduleAnyway")))
        if (key, action) in seen:
            shown = f"{{{key}, {action}}}"
            causes.append(faults.duplicate(f"{path}[{index - 1}].{{topologyKey, whenUnsatisfiable}}", shown))
        seen.add((key, action))
        causes += _spread_details(constraint, at, action)
    return causes


def _spread_details(constraint: Json, path: str, action: str) -> list[Cause]:
    causes: list[Cause] = []
    domains = constraint.get("minDomains")
    if domains is not None and domains <= 0:
        causes.append(faults.invalid(f"{path}.minDomains", domains, "must be greater than zero"))
    if domains is not None and action != "DoNotSchedule":
        detail = f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"
        causes.append(faults.invalid(f"{path}.minDomains", domains, detail))
    for name in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
        causes += one_of(constraint.get(name), f"{path}.{name}", ("Honor", "Ignore"), required=False)
    if constraint.get("matchLabelKeys") and constraint.get("labelSelector") is None:
        detail = "must not be specified when labelSelector is not set"
        causes.append(faults.forbidden(f"{path}.matchLabelKeys", detail))
    return causes + label_selector(constraint.get("labelSelector"), f"{path}.labelSelector")
