"""Admission policies and their bindings: defaults, validation with the expressions compiled, columns.

Source: admissionregistration.k8s.io/v1; KEP-3488, KEP-3962; upstream pkg/apis/admissionregistration, validation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.api import meta
from orchestrator.api.cel import objects
from orchestrator.api.cel.engine import TYPES, CompileError, compile_expression
from orchestrator.api.kinds import faults, formats
from orchestrator.api.kinds.expressions import BASE, compiles, match_conditions
from orchestrator.api.kinds.rules import KindRules
from orchestrator.api.kinds.table import AGE, NAME, Cells, age, integer, texts
from orchestrator.api.kinds.values import label_selector
from orchestrator.api.kinds.webhooks import rule_faults
from orchestrator.api.meta import Object
from orchestrator.api.resources import (
    MUTATINGADMISSIONPOLICIES,
    MUTATINGADMISSIONPOLICYBINDINGS,
    VALIDATINGADMISSIONPOLICIES,
    VALIDATINGADMISSIONPOLICYBINDINGS,
)
from orchestrator.api.status import Cause

Json = Mapping[str, Any]
ACTIONS = ("Audit", "Deny", "Warn")
REASONS = ("Forbidden", "Invalid", "RequestEntityTooLarge")
ANNOTATIONS_MAX = 20
ANNOTATION_BYTES_MAX = 5 * 1024


def variables(spec: Json) -> dict[str, str]:
    """What the expressions of a policy may name when they run."""
    return {**_named(spec), "variables": "dyn"}


def _named(spec: Json) -> dict[str, str]:
    return {**BASE, "params": "dyn"} if spec.get("paramKind") else dict(BASE)


def _type_of(expression: str, names: Mapping[str, str]) -> str:
    """What a variable of that expression is declared as."""
    try:
        kind = compile_expression(objects.plain(expression), names).result_type
    except CompileError:  # told where the variable is
        return "dyn"
    return kind if kind in TYPES else "dyn"


def _spec(obj: Json) -> dict[str, Any]:
    return obj.get("spec") or {}


def _default_matching(found: dict[str, Any] | None) -> None:
    if found is None:
        return
    found.setdefault("matchPolicy", "Equivalent")
    found.setdefault("namespaceSelector", {})
    found.setdefault("objectSelector", {})
    for name in ("resourceRules", "excludeResourceRules"):
        for rule in found.get(name) or ():
            rule.setdefault("scope", "*")


def default_policy(obj: Object) -> None:
    spec = obj.get("spec")
    if spec is not None:
        spec.setdefault("failurePolicy", "Fail")
        _default_matching(spec.get("matchConstraints"))


def default_binding(obj: Object) -> None:
    _default_matching(_spec(obj).get("matchResources"))


# -- faults ------------------------------------------------------------------------------------------------------------


def _makes(expression: str, names: Mapping[str, str], path: str, wanted: str) -> list[Cause]:
    """The expression of a mutation: a map or a list, of whatever; what is dynamic is judged when it runs."""
    if causes := compiles(expression, names, path):
        return causes
    if compile_expression(objects.plain(expression), names).result_type not in (wanted, "dyn"):
        return [faults.invalid(path, expression, f"must evaluate to {wanted}")]
    return []


def _matching(found: Json, path: str, *, is_policy: bool) -> list[Cause]:
    causes: list[Cause] = []
    policy = found.get("matchPolicy")
    if policy is not None and policy not in ("Equivalent", "Exact"):
        causes.append(faults.not_supported(f"{path}.matchPolicy", policy, ("Equivalent", "Exact")))
    causes += label_selector(found.get("namespaceSelector"), f"{path}.namespaceSelector")
    causes += label_selector(found.get("objectSelector"), f"{path}.objectSelector")
    for name in ("resourceRules", "excludeResourceRules"):
        for index, rule in enumerate(found.get(name) or ()):
            causes += rule_faults(rule, f"{path}.{name}[{index}]")
    if is_policy and not found.get("resourceRules"):
        causes.append(faults.required(f"{path}.resourceRules"))
    return causes


def _common(spec: Json) -> tuple[list[Cause], dict[str, str]]:
    """Faults, and what the other expressions may name: each variable has the type of its expression, which may name
    those before it."""
    causes: list[Cause] = []
    if spec.get("failurePolicy") not in ("Fail", "Ignore"):
        causes.append(faults.not_supported("spec.failurePolicy", spec.get("failurePolicy"), ("Fail", "Ignore")))
    kind = spec.get("paramKind")
    if kind is not None:
        for name in ("apiVersion", "kind"):
            if not kind.get(name):
                causes.append(faults.required(f"spec.paramKind.{name}"))
    constraints = spec.get("matchConstraints")
    if constraints is None:
        causes.append(faults.required("spec.matchConstraints"))
    else:
        causes += _matching(constraints, "spec.matchConstraints", is_policy=True)
    names = _named(spec)
    causes += match_conditions(spec.get("matchConditions") or [], names, "spec.matchConditions")
    seen: list[str] = []
    for index, variable in enumerate(spec.get("variables") or ()):
        path, name = f"spec.variables[{index}]", variable.get("name") or ""
        if not name:
            causes.append(faults.required(f"{path}.name", "name is not specified"))
        elif formats.c_identifier(name):
            causes.append(faults.invalid(f"{path}.name", name, "name is not a valid CEL identifier"))
        elif name in seen:
            causes.append(faults.duplicate(f"{path}.name", name))
        seen.append(name)
        expression = variable.get("expression") or ""
        causes += compiles(expression, names, f"{path}.expression")
        names[f"variables.{variable.get('name')}"] = _type_of(expression, names)
    return causes, names


def validating(obj: Object) -> list[Cause]:
    spec = _spec(obj)
    causes, names = _common(spec)
    validations, annotations = spec.get("validations") or [], spec.get("auditAnnotations") or []
    if not validations and not annotations:
        detail = "validations or auditAnnotations must be non-empty"
        causes += [faults.required("spec.validations", detail), faults.required("spec.auditAnnotations", detail)]
    for index, validation in enumerate(validations):
        path = f"spec.validations[{index}]"
        causes += compiles(validation.get("expression") or "", names, f"{path}.expression", ("bool",))
        message = validation.get("message") or ""
        if message and not message.strip():
            causes.append(faults.invalid(f"{path}.message", message, "message must be non-empty if specified"))
        elif "\n" in message:
            causes.append(faults.invalid(f"{path}.message", message, "message must not contain line breaks"))
        elif "\n" in (validation.get("expression") or "").strip() and not message:
            detail = "message must be specified if expression contains line breaks"
            causes.append(faults.required(f"{path}.message", detail))
        if text := validation.get("messageExpression"):
            others = {name: kind for name, kind in names.items() if name != "authorizer"}
            causes += compiles(text, others, f"{path}.messageExpression", ("string",))
        if (reason := validation.get("reason")) and reason not in REASONS:
            causes.append(faults.not_supported(f"{path}.reason", reason, REASONS))
    if len(annotations) > ANNOTATIONS_MAX:
        causes.append(
            faults.invalid(
                "spec.auditAnnotations", len(annotations), f"must not have more than {ANNOTATIONS_MAX} auditAnnotations"
            )
        )
    keys: list[str] = []
    for index, annotation in enumerate(annotations):
        path, key = f"spec.auditAnnotations[{index}]", annotation.get("key") or ""
        if name := meta.name(obj):
            causes += faults.each(f"{path}.key", f"{name}/{key}", formats.qualified_name(f"{name}/{key}"))
        else:
            causes.append(faults.invalid(f"{path}.key", key, "requires metadata.name be non-empty"))
        text = annotation.get("valueExpression") or ""
        if len(text.strip().encode()) > ANNOTATION_BYTES_MAX:
            detail = f"must not exceed {ANNOTATION_BYTES_MAX} bytes in length"
            causes.append(faults.required(f"{path}.valueExpression", detail))
        else:
            causes += compiles(text, names, f"{path}.valueExpression", ("string", "null_type"))
        if key in keys:
            causes.append(faults.duplicate(f"{path}.key", key))
        keys.append(key)
    return causes


def mutating(obj: Object) -> list[Cause]:
    spec = _spec(obj)
    causes, names = _common(spec)
    if (policy := spec.get("reinvocationPolicy")) not in ("IfNeeded", "Never"):
        causes.append(faults.required("spec.reinvocationPolicy") if not policy else faults.not_supported(
            "spec.reinvocationPolicy", policy, ("IfNeeded", "Never")))  # fmt: skip
    mutations = spec.get("mutations") or []
    if not mutations:
        causes.append(faults.required("spec.mutations", "mutations must contain at least one item"))
    for index, mutation in enumerate(mutations):
        path, kind = f"spec.mutations[{index}]", mutation.get("patchType") or ""
        if kind == "ApplyConfiguration":
            text = (mutation.get("applyConfiguration") or {}).get("expression") or ""
            causes += _makes(text, names, f"{path}.applyConfiguration.expression", "map")
        elif kind == "JSONPatch":
            text = (mutation.get("jsonPatch") or {}).get("expression") or ""
            causes += _makes(text, names, f"{path}.jsonPatch.expression", "list")
        elif not kind:
            causes.append(faults.required(f"{path}.patchType"))
        else:
            causes.append(faults.not_supported(f"{path}.patchType", kind, ("ApplyConfiguration", "JSONPatch")))
    return causes


def binding(obj: Object) -> list[Cause]:
    spec, causes = _spec(obj), []
    name = spec.get("policyName") or ""
    if not name:
        causes.append(faults.required("spec.policyName"))
    else:
        causes += faults.each("spec.policyName", name, formats.dns_subdomain(name))
    if (ref := spec.get("paramRef")) is not None:
        path = "spec.paramRef"
        if bool(ref.get("name")) is (ref.get("selector") is not None):
            detail = (
                "name and selector are mutually exclusive"
                if ref.get("name")
                else "one of name or selector must be specified"
            )
            maker = faults.forbidden if ref.get("name") else faults.required
            causes.append(maker(f"{path}.name" if ref.get("name") else path, detail))
        if ref.get("parameterNotFoundAction") is None:
            causes.append(faults.required(f"{path}.parameterNotFoundAction"))
        elif ref["parameterNotFoundAction"] not in ("Allow", "Deny"):
            found = ref["parameterNotFoundAction"]
            causes.append(faults.not_supported(f"{path}.parameterNotFoundAction", found, ("Allow", "Deny")))
    if (found := spec.get("matchResources")) is not None:
        causes += _matching(found, "spec.matchResources", is_policy=False)
    return causes


def validating_binding(obj: Object) -> list[Cause]:
    causes, actions = binding(obj), _spec(obj).get("validationActions") or []
    path = "spec.validationActions"
    if not actions:
        causes.append(faults.required(path, "at least one validation action is required"))
    for index, action in enumerate(actions):
        if action not in ACTIONS:
            causes.append(faults.not_supported(f"{path}[{index}]", action, ACTIONS))
        elif action in actions[:index]:
            causes.append(faults.duplicate(f"{path}[{index}]", action))
    if {"Deny", "Warn"} <= set(actions):
        detail = (
            "must not contain both Deny and Warn (repeating the same validation failure information in the API "
            "response and headers serves no purpose)"
        )
        causes.append(faults.invalid(path, actions, detail))
    return causes


# -- columns -----------------------------------------------------------------------------------------------------------


def _param_kind(obj: Object) -> str:
    kind = _spec(obj).get("paramKind")
    return f"{kind.get('apiVersion')}/{kind.get('kind')}" if kind else "<unset>"


def _validating_cells(obj: Object, now: float) -> Cells:
    return [meta.name(obj), len(_spec(obj).get("validations") or ()), _param_kind(obj), age(obj, now)]


def _mutating_cells(obj: Object, now: float) -> Cells:
    return [meta.name(obj), len(_spec(obj).get("mutations") or ()), _param_kind(obj), age(obj, now)]


def _binding_cells(obj: Object, now: float) -> Cells:
    spec = _spec(obj)
    ref = spec.get("paramRef") or {}
    shown = "/".join(part for part in (ref.get("namespace"), ref.get("name")) if part) or "<unset>"
    return [meta.name(obj), spec.get("policyName") or "", shown, age(obj, now)]


RULES = (
    KindRules(
        resource=VALIDATINGADMISSIONPOLICIES, status_keeps_metadata=True,
        has_generation=True, default=default_policy, faults=validating,
        update_faults=lambda new, old: validating(new),
        columns=(NAME, integer("Validations"), *texts("ParamKind"), AGE), cells=_validating_cells,
    ),
    KindRules(
        resource=VALIDATINGADMISSIONPOLICYBINDINGS, has_generation=True, default=default_binding,
        faults=validating_binding, update_faults=lambda new, old: validating_binding(new),
        columns=(NAME, *texts("PolicyName", "ParamRef"), AGE), cells=_binding_cells,
    ),
    KindRules(
        resource=MUTATINGADMISSIONPOLICIES, has_generation=True, default=default_policy, faults=mutating,
        update_faults=lambda new, old: mutating(new),
        columns=(NAME, integer("Mutations"), *texts("ParamKind"), AGE), cells=_mutating_cells,
    ),
    KindRules(
        resource=MUTATINGADMISSIONPOLICYBINDINGS, has_generation=True, default=default_binding, faults=binding,
        update_faults=lambda new, old: binding(new),
        columns=(NAME, *texts("PolicyName", "ParamRef"), AGE), cells=_binding_cells,
    ),
)  # fmt: skip
