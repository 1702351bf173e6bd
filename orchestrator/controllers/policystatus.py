"""Type checking of validating admission policies: warnings in their status about what can never hold.

Each expression is checked against each kind that the policy's rules name (without wildcards, at most ten), as the
published schemas or the server's OpenAPI document describe it. A warning says kind, place and what is wrong; it changes
nothing of what the policy does. Once for each generation of a policy.
Source: Reference, "Validating Admission Policy", "Type checking"; upstream validatingadmissionpolicystatus.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from orchestrator.api import meta, schema
from orchestrator.api.cel import typecheck, types
from orchestrator.api.cel.engine import CompileError, compile_expression
from orchestrator.api.cel.types import DYN, Type
from orchestrator.api.meta import Object
from orchestrator.api.resources import VALIDATINGADMISSIONPOLICIES, Resource
from orchestrator.client.discovery import described, served
from orchestrator.client.loop import Loop
from orchestrator.controllers.context import Context

Json = Mapping[str, Any]
MANAGER = "validatingadmissionpolicy-status"
KINDS_MAX = 10
NAMES = dict.fromkeys(
    ("object", "oldObject", "request", "namespaceObject", "authorizer", "params", "variables"), "dyn"
)  # as the expressions are compiled before their types are looked at


class Checked(Struct, frozen=True):
    """A kind that a policy is about: what it is called in a warning, and what its objects are."""

    title: str
    type: Type


def resources_of(policy: Object) -> list[tuple[str, str, str]]:
    """(group, version, plural) of what a policy's rules name, but for wildcards and subresources, in order."""
    found = []
    for rule in ((policy.get("spec") or {}).get("matchConstraints") or {}).get("resourceRules") or ():
        groups, versions = sorted(rule.get("apiGroups") or ()), sorted(rule.get("apiVersions") or ())
        plurals = sorted(name for name in rule.get("resources") or () if "*" not in name and "/" not in name)
        if any("*" in name for name in (*groups, *versions)):
            continue
        found += [(group, version, plural) for group in groups for version in versions for plural in plurals]
    return found


def warnings(policy: Object, kinds: Iterable[Checked], params: Type) -> list[dict[str, str]]:
    """The warnings of a policy's validations, each with the path of its expression. Its other expressions are checked
    where a validation names them."""
    spec = policy.get("spec") or {}
    kinds = list(kinds)
    found = []
    for index, validation in enumerate(spec.get("validations") or ()):
        for name in ("expression", "messageExpression"):
            told = [_told(validation.get(name) or "", spec, kind, params) for kind in kinds]
            if text := "\n".join(filter(None, told)):
                found.append({"fieldRef": f"spec.validations[{index}].{name}", "warning": text})
    return found


def _told(expression: str, spec: Json, kind: Checked, params: Type) -> str:
    names: dict[str, Type] = {
        "object": kind.type,
        "oldObject": kind.type,
        "request": types.REQUEST,
        "namespaceObject": types.NAMESPACE,
        "params": params,
    }
    for variable in spec.get("variables") or ():
        issues, made = _checked(variable.get("expression") or "", names)
        names[f"variables.{variable.get('name')}"] = DYN if issues else _of_variable(made)
    issues, _ = _checked(expression, names)
    return f"{kind.title}: {typecheck.told(expression, issues)}\n" if issues else ""


def _checked(expression: str, names: Mapping[str, Type]) -> tuple[list[typecheck.Issue], Type]:
    try:
        program = compile_expression(expression, NAMES)
    except CompileError:  # which was refused when it was written, or says nothing about types
        return [], DYN
    return typecheck.issues(program.tree, names)


def _of_variable(kind: Type) -> Type:
    """A struct is not known for one by the time that a variable is named."""
    match kind:
        case types.List(item):
            return types.List(_of_variable(item))
        case types.Map(key, value):
            return types.Map(_of_variable(key), _of_variable(value))
        case types.Fields():
            return DYN
    return kind


class PolicyStatusController:
    """Writes the warnings."""

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self.loop = Loop("validatingadmissionpolicy-status", self.reconcile)
        self._policies = context.informers.informer(VALIDATINGADMISSIONPOLICIES)
        self._policies.add_handler(self._changed)

    async def run(self) -> None:
        await self.loop.run()

    def _changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None and _is_new(new):
            self.loop.queue.add(meta.name(new))

    async def reconcile(self, key: str) -> None:
        policy = self._policies.cache.get(key)
        if policy is None or not _is_new(policy):
            return
        found = warnings(policy, await self._kinds(policy), await self._params(policy))
        checked: Object = {"expressionWarnings": found} if found else {}
        status = {"observedGeneration": meta.generation(policy), "typeChecking": checked}
        applied = {
            "apiVersion": VALIDATINGADMISSIONPOLICIES.api_version,
            "kind": VALIDATINGADMISSIONPOLICIES.kind,
            "metadata": {"name": key},
            "status": status,
        }
        row = VALIDATINGADMISSIONPOLICIES
        await self._client.patch(
            row, key, "", applied, "apply", subresource="status", field_manager=MANAGER, force=True
        )

    async def _kinds(self, policy: Object) -> list[Checked]:
        rows: dict[tuple[str, str, str], Resource] = {}
        for group, version, plural in resources_of(policy):
            for row in await served(self._client, group, version):
                if row.plural == plural and len(rows) < KINDS_MAX:
                    rows[row.group, row.version, row.kind] = row
        found = []
        for group, version, kind in sorted(rows):
            made = await self._type(group, version, kind)
            if made is not None:
                found.append(Checked(f"{group}/{version}, Kind={kind}", made))
        return found

    async def _params(self, policy: Object) -> Type:
        asked = (policy.get("spec") or {}).get("paramKind")
        if asked is None:
            return DYN
        group, _, version = (asked.get("apiVersion") or "").rpartition("/")
        return await self._type(group, version, asked.get("kind") or "") or DYN

    async def _type(self, group: str, version: str, kind: str) -> Type | None:
        """What objects of a kind are; None where nobody says."""
        known = schema.definitions()
        if (name := schema.definition_name(group, version, kind)) in known:
            return types.of_schema(known.read(name), kind, lambda last: known.read(last) if last in known else None)
        document = await described(self._client, group, version)
        schemas: Json = (document.get("components") or {}).get("schemas") or {}
        for one in schemas.values():
            wanted = {"group": group, "version": version, "kind": kind}
            if wanted in (one.get("x-kubernetes-group-version-kind") or ()):
                return types.of_schema(one, kind, schemas.get)
        return None


def _is_new(policy: Object) -> bool:
    return meta.generation(policy) > ((policy.get("status") or {}).get("observedGeneration") or 0)
