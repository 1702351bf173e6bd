"""MutatingAdmissionPolicy: what a write is made to be, said in CEL, as an apply configuration or a JSON patch.

Policies are carried out in the order of their names, each on what those before it made; one with reinvocationPolicy
IfNeeded is evaluated again where a later one changed the object. Source: KEP-3962; upstream plugin/policy/mutating.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.api import decoding, meta, schema
from orchestrator.api.cel import library
from orchestrator.api.cel.engine import EvaluationError
from orchestrator.api.kinds import registry
from orchestrator.api.kinds.policies import variables as names_of
from orchestrator.api.meta import Object
from orchestrator.api.patch import json_patch, structured
from orchestrator.api.resources import MUTATINGADMISSIONPOLICIES, MUTATINGADMISSIONPOLICYBINDINGS
from orchestrator.apiserver.policies import bindings
from orchestrator.apiserver.policies.policy import (
    Matched,
    Misconfigured,
    Policies,
    conditions_hold,
    evaluated,
    with_variables,
)
from orchestrator.apiserver.policies.validating import Denied
from orchestrator.apiserver.request import Attributes


class MutatingPolicies(Policies):
    policies = MUTATINGADMISSIONPOLICIES
    bindings = MUTATINGADMISSIONPOLICYBINDINGS
    operations: tuple[str, ...] = ("CREATE", "UPDATE", "CONNECT")

    async def mutate(self, attributes: Attributes) -> None:
        if attributes.object is None:
            return
        with library.asking(bindings.questions(self._authorizer, attributes)):
            again: list[Matched] = []
            repeat: list[Matched] = []
            for matched in list(self._matched(attributes)):
                if self._carry_out(matched, attributes):
                    repeat = list(again)
                if matched.policy["spec"].get("reinvocationPolicy") == "IfNeeded":
                    again.append(matched)
            for matched in repeat:
                self._carry_out(matched, attributes)

    def _carry_out(self, matched: Matched, attributes: Attributes) -> bool:
        """Whether the policy changed the object."""
        assert attributes.object is not None
        before = meta.copied(attributes.object)
        spec, fails = matched.policy["spec"], matched.policy["spec"].get("failurePolicy") != "Ignore"
        for binding in self._bound(matched.policy, attributes):
            by = f"policy '{meta.name(matched.policy)}' with binding '{meta.name(binding)}' denied request"
            try:
                for param in self._params(matched.policy, binding, attributes):
                    self._mutate_with(spec, matched, attributes, param)
            except Misconfigured as error:
                if fails:
                    raise Denied(attributes, f"{by}: failed to configure binding: {error}", "Invalid") from error
            except (EvaluationError, ValueError, json_patch.JsonPatchError) as error:
                if fails:
                    raise Denied(attributes, f"{by}: {error}", "Invalid") from error
        return attributes.object != before

    def _mutate_with(
        self, spec: Mapping[str, Any], matched: Matched, attributes: Attributes, param: Object | None
    ) -> None:
        names = names_of(spec)
        values = {**self._bindings_for(matched, attributes), "params": param}
        holds, errors = conditions_hold(spec.get("matchConditions") or [], names, {**values, "variables": {}})
        if errors:
            raise EvaluationError(errors[0])
        if not holds:
            return
        for mutation in spec.get("mutations") or ():
            values = with_variables(spec, {**self._bindings_for(matched, attributes), "params": param})
            self._store(_mutated(mutation, names, values, matched), matched, attributes)

    def _store(self, made: Object, matched: Matched, attributes: Attributes) -> None:
        """The new object as the server keeps it, in place of the one before."""
        assert attributes.object is not None and attributes.row is not None
        if attributes.subresource in ("", "status"):
            decoding.decode_as(made, matched.row)
            conversion = self._conversions.of(matched.row)
            made = conversion.to_stored(made) if conversion is not None else made
            registry.rules(attributes.row).default(made)
        attributes.object.clear()
        attributes.object.update(made)


def _mutated(mutation: Mapping[str, Any], names: Mapping[str, str], values: Object, matched: Matched) -> Object:
    current: Object = values["object"]
    if mutation.get("patchType") == "JSONPatch":
        operations = evaluated(mutation["jsonPatch"]["expression"], names, values)
        if not isinstance(operations, list):
            raise ValueError("the expression of a JSONPatch must evaluate to a list")
        made: Object = meta.copied(json_patch.apply(meta.copied(current), meta.copied(operations)))
        return made
    applied = evaluated(mutation["applyConfiguration"]["expression"], names, values)
    kind = schema.type_of(matched.row)
    if not isinstance(applied, dict) or kind is None:
        raise ValueError("the expression of an applyConfiguration must evaluate to an object")
    applied = meta.copied(applied)
    try:
        structured.check(applied, kind)
    except structured.StructureError as error:
        raise ValueError(f"invalid ApplyConfiguration: {error}") from error
    merged: Object = meta.copied(structured.merge(current, applied, kind))
    return merged
