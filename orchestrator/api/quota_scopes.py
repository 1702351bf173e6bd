"""The scopes of a ResourceQuota: which pods and claims it counts. One with scopes counts nothing else.

A scope is a fact about an object (Terminating, BestEffort), or a name that it has (its PriorityClass, the
VolumeAttributesClasses of a claim: wanted, held, and on the way), which a selector may ask for by value.
Source: Concepts, "Resource Quotas", "Quota scopes"; upstream pkg/quota/v1/evaluator/core.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field

from orchestrator.api.meta import Object

PRIORITY_CLASS, VOLUME_ATTRIBUTES_CLASS = "PriorityClass", "VolumeAttributesClass"
Json = Mapping[str, Any]


class Scopes(Struct, frozen=True):
    """Of one object: the facts that hold, and the names that it has, by scope."""

    facts: frozenset[str] = frozenset()
    names: Mapping[str, frozenset[str]] = field(default_factory=dict)


NONE = Scopes()


def of_pod(spec: Json, *, is_best_effort: bool) -> Scopes:
    facts = {
        "NotTerminating" if spec.get("activeDeadlineSeconds") is None else "Terminating",
        "BestEffort" if is_best_effort else "NotBestEffort",
    }
    if _has_foreign_affinity(spec):
        facts.add("CrossNamespacePodAffinity")
    return Scopes(frozenset(facts), {PRIORITY_CLASS: frozenset(filter(None, [spec.get("priorityClassName")]))})


def of_claim(claim: Object) -> Scopes:
    spec, status = claim.get("spec") or {}, claim.get("status") or {}
    named = (
        spec.get("volumeAttributesClassName"),
        status.get("currentVolumeAttributesClassName"),
        (status.get("modifyVolumeStatus") or {}).get("targetVolumeAttributesClassName"),
    )
    return Scopes(names={VOLUME_ATTRIBUTES_CLASS: frozenset(filter(None, named))})


def covers(quota_spec: Json, scopes: Scopes) -> bool:
    """Whether a quota counts an object of these scopes."""
    for scope in quota_spec.get("scopes") or ():
        if scope not in scopes.facts and not scopes.names.get(scope):
            return False
    terms = (quota_spec.get("scopeSelector") or {}).get("matchExpressions") or ()
    return all(_matches(term, scopes) for term in terms)


def _matches(term: Json, scopes: Scopes) -> bool:
    scope, values = term.get("scopeName") or "", term.get("values") or ()
    if scope in scopes.facts:
        return True  # it can only be asked whether it is there
    if scope not in scopes.names:
        return False
    names = scopes.names[scope]
    match term.get("operator"):
        case "In":
            return any(name in values for name in names)
        case "NotIn":
            return not names or any(name not in values for name in names)
        case "Exists":
            return bool(names)
    return not names


def _has_foreign_affinity(spec: Json) -> bool:
    affinity = spec.get("affinity") or {}
    for kind in ("podAffinity", "podAntiAffinity"):
        rules = affinity.get(kind) or {}
        preferred = rules.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
        terms = [
            *(rules.get("requiredDuringSchedulingIgnoredDuringExecution") or ()),
            *(each.get("podAffinityTerm") or {} for each in preferred),
        ]
        if any(term.get("namespaces") or term.get("namespaceSelector") is not None for term in terms):
            return True
    return False
