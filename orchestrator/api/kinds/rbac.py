"""Roles and bindings. What a user may grant is decided by the API server's authorizer, not here.

A rule is about resources or about URLs, never both; a binding's role cannot be exchanged.
Source: rbac.authorization.k8s.io/v1 API reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.api import meta
from orchestrator.api.kinds import faults, formats, table
from orchestrator.api.kinds.rules import KindRules
from orchestrator.api.kinds.table import AGE, CREATED_AT, NAME, Cells, age, wide
from orchestrator.api.kinds.values import label_selector
from orchestrator.api.meta import Object
from orchestrator.api.resources import CLUSTERROLEBINDINGS, CLUSTERROLES, ROLEBINDINGS, ROLES
from orchestrator.api.status import Cause

Json = Mapping[str, Any]

GROUP = "rbac.authorization.k8s.io"


def role(obj: Object) -> list[Cause]:
    return _rules(obj, namespaced=True)


def cluster_role(obj: Object) -> list[Cause]:
    causes = _rules(obj, namespaced=False)
    aggregation = obj.get("aggregationRule")
    if aggregation is not None:
        selectors = aggregation.get("clusterRoleSelectors") or ()
        path = "aggregationRule.clusterRoleSelectors"
        if not selectors:
            detail = "at least one clusterRoleSelector required if aggregationRule is non-nil"
            causes.append(faults.required(path, detail))
        for index, selector in enumerate(selectors):
            causes += label_selector(selector, f"{path}[{index}]")
    return causes


def _rules(obj: Object, *, namespaced: bool) -> list[Cause]:
    causes: list[Cause] = []
    for index, rule in enumerate(obj.get("rules") or ()):
        causes += _rule(rule, f"rules[{index}]", namespaced=namespaced)
    return causes


def _rule(rule: Json, path: str, *, namespaced: bool) -> list[Cause]:
    causes: list[Cause] = []
    if not rule.get("verbs"):
        causes.append(faults.required(f"{path}.verbs", "verbs must contain at least one value"))
    urls = rule.get("nonResourceURLs") or []
    if urls:
        at = f"{path}.nonResourceURLs"
        if namespaced:
            causes.append(faults.invalid(at, urls, "namespaced rules cannot apply to non-resource URLs"))
        if rule.get("apiGroups") or rule.get("resources") or rule.get("resourceNames"):
            detail = "rules cannot apply to both regular resources and non-resource URLs"
            causes.append(faults.invalid(at, urls, detail))
        return causes
    if not rule.get("apiGroups"):
        causes.append(faults.required(f"{path}.apiGroups", "resource rules must supply at least one api group"))
    if not rule.get("resources"):
        causes.append(faults.required(f"{path}.resources", "resource rules must supply at least one resource"))
    return causes


def default_binding(obj: Object) -> None:
    reference = obj.setdefault("roleRef", {})
    if not reference.get("apiGroup"):
        reference["apiGroup"] = GROUP
    for subject in obj.get("subjects") or ():
        if subject.get("kind") in ("User", "Group") and not subject.get("apiGroup"):
            subject["apiGroup"] = GROUP


def role_binding(obj: Object) -> list[Cause]:
    return _binding(obj, ("Role", "ClusterRole"), namespaced=True)


def cluster_role_binding(obj: Object) -> list[Cause]:
    return _binding(obj, ("ClusterRole",), namespaced=False)


def _binding(obj: Object, kinds: tuple[str, ...], *, namespaced: bool) -> list[Cause]:
    reference = obj.get("roleRef") or {}
    causes: list[Cause] = []
    if reference.get("apiGroup") != GROUP:
        causes.append(faults.not_supported("roleRef.apiGroup", reference.get("apiGroup") or "", (GROUP,)))
    if reference.get("kind") not in kinds:
        causes.append(faults.not_supported("roleRef.kind", reference.get("kind") or "", kinds))
    name = reference.get("name") or ""
    if name:
        causes += faults.each("roleRef.name", name, formats.path_segment(name))
    else:
        causes.append(faults.required("roleRef.name"))
    for index, subject in enumerate(obj.get("subjects") or ()):
        causes += _subject(subject, f"subjects[{index}]", namespaced=namespaced)
    return causes


def _subject(subject: Json, path: str, *, namespaced: bool) -> list[Cause]:
    name, group = subject.get("name") or "", subject.get("apiGroup") or ""
    causes = [] if name else [faults.required(f"{path}.name")]
    kind = subject.get("kind") or ""
    if kind == "ServiceAccount":
        if name:
            causes += faults.each(f"{path}.name", name, formats.dns_subdomain(name))
        if group:
            causes.append(faults.not_supported(f"{path}.apiGroup", group, ("",)))
        if not namespaced and not subject.get("namespace"):
            causes.append(faults.required(f"{path}.namespace"))
    elif kind in ("User", "Group"):
        if group != GROUP:
            causes.append(faults.not_supported(f"{path}.apiGroup", group, (GROUP,)))
    else:
        causes.append(faults.not_supported(f"{path}.kind", kind, ("ServiceAccount", "User", "Group")))
    return causes


def _same_role(new: Object, old: Object) -> list[Cause]:
    same = new.get("roleRef") == old.get("roleRef")
    return [] if same else [faults.invalid("roleRef", _go_order(new.get("roleRef") or {}), "cannot change roleRef")]


def _go_order(reference: Json) -> dict[str, Any]:
    """Upstream shows its own struct, field by field."""
    return {name.title() if name != "apiGroup" else "APIGroup": reference.get(name) for name in reference}


def _role_cells(obj: Object, now: float) -> Cells:
    return [meta.name(obj), meta.metadata(obj).get("creationTimestamp")]


def _binding_cells(obj: Object, now: float) -> Cells:
    reference = obj.get("roleRef") or {}
    named: dict[str, list[str]] = {"User": [], "Group": [], "ServiceAccount": []}
    for subject in obj.get("subjects") or ():
        namespace = subject.get("namespace") or ""
        name = f"{namespace}/{subject.get('name')}" if subject.get("kind") == "ServiceAccount" else subject.get("name")
        named.setdefault(subject.get("kind") or "", []).append(name or "")
    role_text = f"{reference.get('kind')}/{reference.get('name')}"
    return [meta.name(obj), role_text, age(obj, now), *(", ".join(found) for found in list(named.values())[:3])]


ROLE_COLUMNS = (NAME, CREATED_AT)
BINDING_COLUMNS = (NAME, *table.texts("Role"), AGE, *map(wide, ("Users", "Groups", "ServiceAccounts")))

RULES = (
    KindRules(
        resource=ROLES,
        name_format=formats.path_segment,
        faults=role,
        update_faults=lambda new, old: role(new),
        columns=ROLE_COLUMNS,
        cells=_role_cells,
    ),
    KindRules(
        resource=CLUSTERROLES,
        name_format=formats.path_segment,
        faults=cluster_role,
        update_faults=lambda new, old: cluster_role(new),
        columns=ROLE_COLUMNS,
        cells=_role_cells,
    ),
    KindRules(
        resource=ROLEBINDINGS,
        name_format=formats.path_segment,
        default=default_binding,
        faults=role_binding,
        update_faults=lambda new, old: role_binding(new) + _same_role(new, old),
        columns=BINDING_COLUMNS,
        cells=_binding_cells,
    ),
    KindRules(
        resource=CLUSTERROLEBINDINGS,
        name_format=formats.path_segment,
        default=default_binding,
        faults=cluster_role_binding,
        update_faults=lambda new, old: cluster_role_binding(new) + _same_role(new, old),
        columns=BINDING_COLUMNS,
        cells=_binding_cells,
    ),
)
