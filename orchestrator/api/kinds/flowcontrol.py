"""FlowSchema and PriorityLevelConfiguration: who shares the server with whom, and how much of it each may have.

Source: flowcontrol.apiserver.k8s.io/v1; KEP-1040; upstream pkg/apis/flowcontrol, validation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from orchestrator.api import meta
from orchestrator.api.kinds import faults, formats
from orchestrator.api.kinds.flowcontrol_bootstrap import EXEMPT, MANDATORY_LEVELS, MANDATORY_SCHEMAS
from orchestrator.api.kinds.rules import KindRules
from orchestrator.api.kinds.table import AGE, NAME, Cells, Column, age, integer
from orchestrator.api.meta import Object
from orchestrator.api.resources import FLOWSCHEMAS, PRIORITYLEVELCONFIGURATIONS
from orchestrator.api.status import Cause

Json = Mapping[str, Any]
PRECEDENCE_MAX, PRECEDENCE_DEFAULT = 10_000, 1000
HASH_BITS_MAX = 60  # that dealing a hand of queues may take of a flow's hash
QUEUES_MAX = 10_000_000
_FIXED = {(one["kind"], meta.name(one)): one["spec"] for one in (*MANDATORY_LEVELS, *MANDATORY_SCHEMAS)}
_VERBS = ("*", "get", "list", "create", "update", "delete", "deletecollection", "patch", "watch", "proxy")


VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch")  # that are known


def _spec(obj: Json) -> dict[str, Any]:
    return obj.get("spec") or {}


def default_schema(obj: Object) -> None:
    obj.setdefault("status", {})
    spec = obj.get("spec")
    if spec is not None:
        spec["matchingPrecedence"] = spec.get("matchingPrecedence") or PRECEDENCE_DEFAULT


def flow_schema(obj: Object) -> list[Cause]:
    spec, causes = _spec(obj), []
    precedence = spec.get("matchingPrecedence", PRECEDENCE_DEFAULT)
    path = "spec.matchingPrecedence"
    if precedence <= 0:
        causes.append(faults.invalid(path, precedence, "must be a positive value"))
    if precedence > PRECEDENCE_MAX:
        causes.append(faults.invalid(path, precedence, f"must not be greater than {PRECEDENCE_MAX}"))
    if precedence == 1 and meta.name(obj) != "exempt":
        causes.append(faults.invalid(path, precedence, "only the schema named 'exempt' may have matchingPrecedence 1"))
    name = (spec.get("priorityLevelConfiguration") or {}).get("name") or ""
    path = "spec.priorityLevelConfiguration.name"
    if not name:
        causes.append(faults.required(path, "must reference a priority level"))
    elif found := formats.dns_subdomain(name):
        causes += faults.each(path, name, found)
    method = spec.get("distinguisherMethod")
    if method is not None and method.get("type") not in ("ByNamespace", "ByUser"):
        shown = {"Type": method.get("type") or ""}  # the Go struct
        causes.append(faults.not_supported("spec.distinguisherMethod.type", shown, ("ByNamespace", "ByUser")))
    for index, rule in enumerate(spec.get("rules") or ()):
        causes += _rule(rule, f"spec.rules[{index}]")
    fixed = _FIXED.get((FLOWSCHEMAS.kind, meta.name(obj)))
    if fixed is not None and spec != fixed:
        causes.append(faults.invalid("spec", spec, f"spec of '{meta.name(obj)}' must equal the fixed value"))
    return causes


def _rule(rule: Json, path: str) -> list[Cause]:
    causes: list[Cause] = []
    subjects = rule.get("subjects") or []
    if not subjects:
        causes.append(faults.required(f"{path}.subjects", "subjects must contain at least one value"))
    for index, subject in enumerate(subjects):
        causes += _subject(subject, f"{path}.subjects[{index}]")
    resources, others = rule.get("resourceRules") or [], rule.get("nonResourceRules") or []
    if not resources and not others:
        detail = "at least one of resourceRules and nonResourceRules has to be non-empty"
        causes.append(faults.required(path, detail))
    for index, one in enumerate(resources):
        causes += _resource_rule(one, f"{path}.resourceRules[{index}]")
    for index, one in enumerate(others):
        place = f"{path}.nonResourceRules[{index}]"
        causes += _verbs(one.get("verbs") or [], f"{place}.verbs")
        if not one.get("nonResourceURLs"):
            detail = "nonResourceURLs must contain at least one value"
            causes.append(faults.required(f"{place}.nonResourceURLs", detail))
        causes += _urls(one.get("nonResourceURLs") or [], f"{place}.nonResourceURLs")
    return causes


def _urls(urls: list[str], path: str) -> list[Cause]:
    if "*" in urls:
        detail = "if '*' is present, must not specify other non-resource URLs"
        return [faults.invalid(path, urls, detail)] if len(urls) > 1 else []
    found = ((index, url, _url_fault(url)) for index, url in enumerate(urls))
    return [faults.invalid(f"{path}[{index}]", url, detail) for index, url, detail in found if detail]


def _url_fault(url: str) -> str:
    if not url:
        return "must not be empty"
    if url == "/":
        return ""
    if not url.startswith("/"):
        return "must start with slash"
    if " " in url:
        return "must not contain white-space"
    if "//" in url:
        return "must not contain double slash"
    if url.count("*") > 1 or ("*" in url and not url.endswith("/*")):
        return "wildcard can only do suffix matching"
    return ""


def _subject(subject: Json, path: str) -> list[Cause]:
    kind = subject.get("kind") or ""
    fields = {"User": "user", "Group": "group", "ServiceAccount": "serviceAccount"}
    if kind not in fields:
        return [faults.not_supported(f"{path}.kind", kind, sorted(fields))]
    causes: list[Cause] = []
    for other, name in fields.items():
        given = subject.get(name)
        if other == kind and given is None:
            causes.append(faults.required(f"{path}.{name}", f"{name} is required when subject kind is '{kind}'"))
        elif other != kind and given is not None:
            causes.append(faults.forbidden(f"{path}.{name}", f"{name} is forbidden when subject kind is not '{other}'"))
        elif other == kind and given is not None and not given.get("name"):
            causes.append(faults.required(f"{path}.{name}.name"))
    if kind == "ServiceAccount" and (account := subject.get("serviceAccount")) is not None:
        causes += _service_account(account, f"{path}.serviceAccount")
    return causes


def _service_account(account: Json, path: str) -> list[Cause]:
    causes: list[Cause] = []
    name, namespace = account.get("name") or "", account.get("namespace") or ""
    if name not in ("", "*"):
        causes += faults.each(f"{path}.name", name, formats.dns_subdomain(name))
    if not namespace:
        return [*causes, faults.required(f"{path}.namespace", "must specify namespace for service account")]
    return causes + faults.each(f"{path}.namespace", namespace, formats.dns_label(namespace))


def _verbs(verbs: list[str], path: str) -> list[Cause]:
    if not verbs:
        return [faults.required(path, "verbs must contain at least one value")]
    if "*" in verbs and len(verbs) > 1:
        return [faults.invalid(path, verbs, "if '*' is present, must not specify other verbs")]
    if "*" not in verbs and not set(verbs) <= set(VERBS):
        return [faults.not_supported(path, verbs, VERBS)]
    return []


def _resource_rule(rule: Json, path: str) -> list[Cause]:
    causes = _verbs(rule.get("verbs") or [], f"{path}.verbs")
    for name, what, one in (("apiGroups", "api groups", "api group"), ("resources", "resources", "resource")):
        given = rule.get(name) or []
        if not given:
            causes.append(faults.required(f"{path}.{name}", f"resource rules must supply at least one {one}"))
        elif "*" in given and len(given) > 1:
            detail = f"if '*' is present, must not specify other {what}"
            causes.append(faults.invalid(f"{path}.{name}", given, detail))
    if not rule.get("namespaces") and not rule.get("clusterScope"):
        detail = "resource rules that are not cluster scoped must supply at least one namespace"
        causes.append(faults.required(f"{path}.namespaces", detail))
    return causes + _namespaces(rule.get("namespaces") or [], f"{path}.namespaces")


def _namespaces(names: list[str], path: str) -> list[Cause]:
    if "*" in names:
        detail = "if '*' is present, must not specify other namespaces"
        return [faults.invalid(path, names, detail)] if len(names) > 1 else []
    rule = "each member of this list must be '*' or a DNS-1123 label"
    return [
        faults.invalid(f"{path}[{index}]", name, f"{rule}; {complaint}")
        for index, name in enumerate(names)
        for complaint in formats.dns_label(name)
    ]


def default_level(obj: Object) -> None:
    obj.setdefault("status", {})
    spec = obj.get("spec") or {}
    if spec.get("type") == "Exempt" or spec.get("exempt") is not None:
        exempt = spec.setdefault("exempt", {})
        exempt.setdefault("nominalConcurrencyShares", 0)
        exempt.setdefault("lendablePercent", 0)
    limited = spec.get("limited")
    if limited is not None:
        limited.setdefault("nominalConcurrencyShares", 30)
        limited.setdefault("lendablePercent", 0)
        queuing = (limited.get("limitResponse") or {}).get("queuing")
        if queuing is not None:
            for name, value in (("queues", 64), ("handSize", 8), ("queueLengthLimit", 50)):
                queuing[name] = queuing.get(name) or value


def level(obj: Object) -> list[Cause]:
    return _level(obj) + _fixed_level(obj)


def _fixed_level(obj: Object) -> list[Cause]:
    """The mandatory levels are as they are, but for the shares and lending of `exempt`."""
    spec, name = _spec(obj), meta.name(obj)
    fixed = _FIXED.get((PRIORITYLEVELCONFIGURATIONS.kind, name))
    if fixed is None:
        return []
    if name == EXEMPT:
        if {**spec, "exempt": fixed["exempt"]} == fixed:
            return []
        detail = f"spec of '{name}' except the 'spec.exempt' field must equal the fixed value"
    elif spec == fixed:
        return []
    else:
        detail = f"spec of '{name}' must equal the fixed value"
    return [faults.invalid("spec", spec, detail)]


def _level(obj: Object) -> list[Cause]:
    spec, causes = _spec(obj), []
    kind, limited, exempt = spec.get("type") or "", spec.get("limited"), spec.get("exempt")
    if (meta.name(obj) == "exempt") is not (kind == "Exempt"):
        detail = "must be 'Exempt' if and only if `name` is 'exempt'"
        causes.append(faults.invalid("spec.type", kind, detail))
    if not kind:
        return [*causes, faults.required("spec.type")]
    if kind not in ("Exempt", "Limited"):
        return [*causes, faults.not_supported("spec.type", kind, ("Exempt", "Limited"))]
    if kind == "Exempt":
        if limited is not None:
            causes.append(faults.forbidden("spec.limited", "must be nil if the type is not Limited"))
        return causes + _shares(exempt or {}, "spec.exempt") + _lending(exempt or {}, "spec.exempt")
    if exempt is not None:
        causes.append(faults.forbidden("spec.exempt", "must be nil if the type is Limited"))
    if limited is None:
        return [*causes, faults.required("spec.limited", "must not be empty when type is Limited")]
    return causes + _limited(limited)


def _limited(limited: Json) -> list[Cause]:
    path = "spec.limited"
    causes = _shares(limited, path)
    response = limited.get("limitResponse") or {}
    kind, queuing, place = response.get("type") or "", response.get("queuing"), f"{path}.limitResponse"
    if kind == "Reject":
        if queuing is not None:
            causes.append(
                faults.forbidden(f"{place}.queuing", "must be nil if limited.limitResponse.type is not Limited")
            )
    elif kind == "Queue":
        if queuing is None:
            detail = "must not be empty if limited.limitResponse.type is Limited"
            causes.append(faults.required(f"{place}.queuing", detail))
        else:
            causes += _queuing(queuing, f"{place}.queuing")
    elif kind:
        causes.append(faults.not_supported(f"{place}.type", kind, ("Queue", "Reject")))
    else:
        causes.append(faults.required(f"{place}.type"))
    causes += _lending(limited, path)
    borrowing = limited.get("borrowingLimitPercent")
    if borrowing is not None and borrowing < 0:
        detail = "if specified, must be a non-negative integer"
        causes.append(faults.invalid(f"{path}.borrowingLimitPercent", borrowing, detail))
    return causes


def _shares(given: Json, path: str) -> list[Cause]:
    shares = given.get("nominalConcurrencyShares", 0)
    if shares >= 0:
        return []
    return [faults.invalid(f"{path}.nominalConcurrencyShares", shares, "must be a non-negative integer")]


def _lending(given: Json, path: str) -> list[Cause]:
    percent = given.get("lendablePercent", 0)
    if 0 <= percent <= 100:
        return []
    return [faults.invalid(f"{path}.lendablePercent", percent, "must be between 0 and 100, inclusive")]


def _queuing(queuing: Json, path: str) -> list[Cause]:
    causes = []
    length, queues, hand = (queuing.get(name, 1) for name in ("queueLengthLimit", "queues", "handSize"))
    if length <= 0:
        causes.append(faults.invalid(f"{path}.queueLengthLimit", length, "must be positive"))
    if queues <= 0:
        causes.append(faults.invalid(f"{path}.queues", queues, "must be positive"))
    elif queues > QUEUES_MAX:
        causes.append(faults.invalid(f"{path}.queues", queues, f"must not be greater than {QUEUES_MAX}"))
    if hand <= 0:
        causes.append(faults.invalid(f"{path}.handSize", hand, "must be positive"))
    elif hand > queues:
        causes.append(faults.invalid(f"{path}.handSize", hand, f"should not be greater than queues ({queues})"))
    elif math.ceil(math.log2(queues) * hand) > HASH_BITS_MAX:
        sizes = f"deckSize {queues} and handSize {hand}"
        detail = f"required entropy bits of {sizes} should not be greater than {HASH_BITS_MAX}"
        causes.append(faults.invalid(f"{path}.handSize", hand, detail))
    return causes


def _status_faults(new: Object, old: Object) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, condition in enumerate((new.get("status") or {}).get("conditions") or ()):
        path, kind = f"status.conditions[{index}].type", condition.get("type") or ""
        if kind in seen:
            causes.append(faults.duplicate(path, kind))
        seen.add(kind)
        if not kind:
            causes.append(faults.required(path))
    return causes


def _schema_cells(obj: Object, now: float) -> Cells:
    spec = _spec(obj)
    method = (spec.get("distinguisherMethod") or {}).get("type") or "<none>"
    dangling = next(
        (c.get("status") for c in (obj.get("status") or {}).get("conditions") or () if c.get("type") == "Dangling"), "?"
    )
    level_name = (spec.get("priorityLevelConfiguration") or {}).get("name") or ""
    return [meta.name(obj), level_name, spec.get("matchingPrecedence", 0), method, age(obj, now), dangling]


def _level_cells(obj: Object, now: float) -> Cells:
    spec = _spec(obj)
    limited = spec.get("limited") or {}
    queuing = (limited.get("limitResponse") or {}).get("queuing") or {}
    shown = [
        value if value is not None else "<none>"
        for value in (
            (limited or spec.get("exempt") or {}).get("nominalConcurrencyShares"),
            queuing.get("queues"), queuing.get("handSize"), queuing.get("queueLengthLimit"),
        )
    ]  # fmt: skip
    return [meta.name(obj), spec.get("type") or "", *shown, age(obj, now)]


RULES = (
    KindRules(
        resource=FLOWSCHEMAS, status_keeps_metadata=True,
        has_generation=True,
        default=default_schema,
        faults=flow_schema,
        update_faults=lambda new, old: flow_schema(new),
        status_faults=_status_faults,
        columns=(
            NAME, Column("PriorityLevel"), integer("MatchingPrecedence"), Column("DistinguisherMethod"), AGE,
            Column("MissingPL"),
        ),
        cells=_schema_cells,
    ),
    KindRules(
        resource=PRIORITYLEVELCONFIGURATIONS, status_keeps_metadata=True,
        has_generation=True,
        default=default_level,
        faults=level,
        update_faults=lambda new, old: level(new),
        status_faults=_status_faults,
        columns=(
            NAME, Column("Type"), Column("NominalConcurrencyShares"), Column("Queues"), Column("HandSize"),
            Column("QueueLengthLimit"), AGE,
        ),
        cells=_level_cells,
    ),
)  # fmt: skip
