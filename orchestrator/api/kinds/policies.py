"""Admission policies and their bindings: defaults, validation with the expressions compiled, columns.

Source: admissionregistration.k8s.io/v1; KEP-3488, KEP-3962; upstream pkg/apis/admissionregistration, validation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from orchestrator.api import meta
from orchestrator.api.cel import objects
from orchestrator.api.cel.engine import TYPES, CompileError, compile_expression
from orchestrator.api.kinds import condition_faults, faults, formats
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
MUTATED_OPERATIONS = ("*", "CONNECT", "CREATE", "UPDATE")
# patchType → the field with its expression, and what that makes
PATCH_TYPES = {"ApplyConfiguration": ("applyConfiguration", "map"), "JSONPatch": ("jsonPatch", "list")}
# Names that the grammar of CEL keeps for itself, and so no identifiers.
RESERVED = frozenset(
    {
        "true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import",
        "let", "loop", "package", "namespace", "return", "var", "void", "while",
    }
)  # fmt: skip
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
    if not expression.strip():
        return [faults.required(path)]
    if causes := compiles(expression, names, path, has_variables=True):
        return causes
    program = compile_expression(objects.plain(expression), names)
    if program.result_type not in (wanted, "dyn"):
        meant = {"map": "Object", "list": "list(JSONPatch)"}[wanted]
        return [faults.invalid(path, expression, f"must evaluate to {meant} but got {program.type_text}")]
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


def _param_kind_faults(kind: Json, path: str) -> list[Cause]:
    causes: list[Cause] = []
    version, name = kind.get("apiVersion") or "", kind.get("kind") or ""
    group, _, bare = version.rpartition("/")
    place = f"{path}.apiVersion"
    if not version:
        causes.append(faults.required(place))
    elif version.count("/") > 1:
        causes.append(faults.invalid(place, version, f"unexpected GroupVersion string: {version}"))
    else:
        if group and (why := formats.dns_subdomain(group)):
            causes.append(faults.invalid(place, group, ",".join(why)))
        if not bare:
            causes.append(faults.invalid(place, version, "version must be specified"))
        elif why := formats.dns1035_label(bare):
            causes.append(faults.invalid(place, bare, ",".join(why)))
    if not name:
        causes.append(faults.required(f"{path}.kind"))
    elif why := formats.dns1035_label(name.lower()):
        detail = f"may have mixed case, but should otherwise match: {','.join(why)}"
        causes.append(faults.invalid(f"{path}.kind", name, detail))
    return causes


def _mutated_operations(found: Json, path: str) -> list[Cause]:
    """What is deleted is not mutated."""
    return [
        faults.not_supported(f"{path}.resourceRules.operations", operation, MUTATED_OPERATIONS)
        for rule in found.get("resourceRules") or ()
        for operation in rule.get("operations") or ()
        if operation not in MUTATED_OPERATIONS
    ]


def _common(spec: Json, *, has_variables: bool) -> tuple[list[Cause], dict[str, str]]:
    """Faults, and what the other expressions may name: each variable has the type of its expression, which may name
    those before it."""
    causes: list[Cause] = []
    if spec.get("failurePolicy") not in ("Fail", "Ignore"):
        causes.append(faults.not_supported("spec.failurePolicy", spec.get("failurePolicy"), ("Fail", "Ignore")))
    kind = spec.get("paramKind")
    if kind is not None:
        causes += _param_kind_faults(kind, "spec.paramKind")
    constraints = spec.get("matchConstraints")
    if constraints is None:
        causes.append(faults.required("spec.matchConstraints"))
    else:
        causes += _matching(constraints, "spec.matchConstraints", is_policy=True)
    names = _named(spec)
    causes += match_conditions(spec.get("matchConditions") or [], names, "spec.matchConditions")
    for index, variable in enumerate(spec.get("variables") or ()):
        path, name = f"spec.variables[{index}]", variable.get("name") or ""
        if not name.strip():
            causes.append(faults.required(f"{path}.name", "name is not specified"))
        elif formats.c_identifier(name) or name in RESERVED:
            causes.append(faults.invalid(f"{path}.name", name, "must be a valid CEL identifier"))
        expression = variable.get("expression") or ""
        causes += compiles(expression, names, f"{path}.expression", has_variables=has_variables)
        names[f"variables.{variable.get('name')}"] = _type_of(expression, names)
    return causes, names


def validating(obj: Object) -> list[Cause]:
    spec = _spec(obj)
    has_variables = bool(spec.get("variables"))
    causes, names = _common(spec, has_variables=has_variables)
    validations, annotations = spec.get("validations") or [], spec.get("auditAnnotations") or []
    if not validations and not annotations:
        detail = "validations or auditAnnotations must contain at least one item"
        causes += [faults.required("spec.validations", detail), faults.required("spec.auditAnnotations", detail)]
    for index, validation in enumerate(validations):
        path = f"spec.validations[{index}]"
        text = validation.get("expression") or ""
        causes += compiles(text, names, f"{path}.expression", ("bool",), has_variables=has_variables)
        message = validation.get("message") or ""
        if message and not message.strip():
            causes.append(faults.invalid(f"{path}.message", message, "must be non-empty if specified"))
        elif re.search(r"[\n\r]", message.strip()):
            causes.append(faults.invalid(f"{path}.message", message, "must not contain line breaks"))
        if text := validation.get("messageExpression"):
            others = {name: kind for name, kind in names.items() if name != "authorizer"}
            place = f"{path}.messageExpression"
            if not text.strip():
                causes.append(faults.invalid(place, text, "must be non-empty if specified"))
            else:
                causes += compiles(text, others, place, ("string",), has_variables=has_variables)
        if (reason := validation.get("reason")) and reason not in REASONS:
            causes.append(faults.not_supported(f"{path}.reason", reason, REASONS))
    if len(annotations) > ANNOTATIONS_MAX:
        causes.append(
            faults.invalid(
                "spec.auditAnnotations", annotations, f"must not have more than {ANNOTATIONS_MAX} auditAnnotations"
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
            wanted = ("string", "null_type")
            causes += compiles(text, names, f"{path}.valueExpression", wanted, has_variables=has_variables)
        if key in keys:
            causes.append(faults.duplicate(f"{path}.key", key))
        keys.append(key)
    return causes


def mutating(obj: Object) -> list[Cause]:
    spec = _spec(obj)
    causes, names = _common(spec, has_variables=True)
    causes += _mutated_operations(spec.get("matchConstraints") or {}, "spec.matchConstraints")
    if (policy := spec.get("reinvocationPolicy")) not in ("IfNeeded", "Never"):
        causes.append(faults.required("spec.reinvocationPolicy") if not policy else faults.not_supported(
            "spec.reinvocationPolicy", policy, ("IfNeeded", "Never")))  # fmt: skip
    mutations = spec.get("mutations") or []
    if not mutations:
        causes.append(faults.required("spec.mutations", "mutations must contain at least one item"))
    for index, mutation in enumerate(mutations):
        path, kind = f"spec.mutations[{index}]", mutation.get("patchType") or ""
        if kind not in PATCH_TYPES:
            supported = sorted(PATCH_TYPES)
            missing = faults.required(f"{path}.patchType")
            causes.append(faults.not_supported(f"{path}.patchType", kind, supported) if kind else missing)
            continue
        for other, (name, wanted) in PATCH_TYPES.items():
            given, place = mutation.get(name), f"{path}.{name}"
            if other != kind and given is not None:
                detail = f"must not be specified when patchType is {kind}"
                causes.append(faults.invalid(place, f"{{{name}}}", detail))
            elif other == kind and given is None:
                causes.append(faults.required(place, f"must be specified when patchType is {kind}"))
            elif other == kind:
                causes += _makes(given.get("expression") or "", names, f"{place}.expression", wanted)
    return causes


def _param_ref(ref: Json, path: str) -> list[Cause]:
    causes: list[Cause] = []
    name, selector = ref.get("name") or "", ref.get("selector")
    if name:
        causes += faults.each(f"{path}.name", name, formats.path_segment(name))
    causes += label_selector(selector, f"{path}.selector")
    if name and selector is not None:
        causes += [
            faults.forbidden(f"{path}.{field}", "name and selector are mutually exclusive")
            for field in ("name", "selector")
        ]
    if not name and selector is None:
        causes.append(faults.required(path, "one of name or selector must be specified"))
    action = ref.get("parameterNotFoundAction")
    if not action:
        causes.append(faults.required(f"{path}.parameterNotFoundAction"))
    elif action not in ("Deny", "Allow"):
        causes.append(faults.not_supported(f"{path}.parameterNotFoundAction", action, ("Deny", "Allow")))
    return causes


def binding(obj: Object) -> list[Cause]:
    spec, causes = _spec(obj), []
    name = spec.get("policyName") or ""
    if not name:
        causes.append(faults.required("spec.policyName"))
    else:
        causes += faults.each("spec.policyName", name, formats.dns_subdomain(name))
    if (ref := spec.get("paramRef")) is not None:
        causes += _param_ref(ref, "spec.paramRef")
    if (found := spec.get("matchResources")) is not None:
        causes += _matching(found, "spec.matchResources", is_policy=False)
        if obj.get("kind") == MUTATINGADMISSIONPOLICYBINDINGS.kind:
            causes += _mutated_operations(found, "spec.matchResources")
    return causes


def validating_binding(obj: Object) -> list[Cause]:
    causes, actions = binding(obj), _spec(obj).get("validationActions") or []
    path = "spec.validationActions"
    if not actions:
        causes.append(faults.required(path, "at least one validation action is required"))
    for index, action in enumerate(actions):
        if action not in ACTIONS:
            causes.append(faults.not_supported(f"{path}[{index}]", action, ACTIONS))
        if action in actions[:index]:
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


def checked(new: Object, old: Object) -> list[Cause]:
    """The status: what type checking found."""
    status, path = new.get("status") or {}, "status.typeChecking.expressionWarnings"
    causes: list[Cause] = []
    for index, warning in enumerate((status.get("typeChecking") or {}).get("expressionWarnings") or ()):
        missing = [name for name in ("warning", "fieldRef") if not warning.get(name)]
        causes += [faults.required(f"{path}[{index}].{name}") for name in missing]
    return causes + condition_faults.of(status.get("conditions") or (), "status.conditions")


RULES = (
    KindRules(
        resource=VALIDATINGADMISSIONPOLICIES, status_keeps_metadata=True,
        has_generation=True, default=default_policy, faults=validating, status_faults=checked,
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
