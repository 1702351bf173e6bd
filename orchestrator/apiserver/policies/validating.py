"""ValidatingAdmissionPolicy: what must hold of a write, said in CEL.

Of each policy and binding that a request meets, each validation is evaluated with each parameter; one that is false
denies, warns or is noted for the audit, as the binding says. Source: KEP-3488; upstream plugin/policy/validating.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.api import meta
from orchestrator.api.cel import library
from orchestrator.api.cel.engine import EvaluationError
from orchestrator.api.kinds.policies import variables as names_of
from orchestrator.api.meta import Object
from orchestrator.api.resources import VALIDATINGADMISSIONPOLICIES, VALIDATINGADMISSIONPOLICYBINDINGS
from orchestrator.api.status import Cause, Forbidden, forbidden
from orchestrator.apiserver.admission.chain import name_of
from orchestrator.apiserver.policies import bindings
from orchestrator.apiserver.policies.policy import Misconfigured, Policies, conditions_hold, evaluated, with_variables
from orchestrator.apiserver.request import Attributes

_CODES = {"Forbidden": 403, "Unauthorized": 401, "RequestEntityTooLarge": 413, "Invalid": 422}


class Denied(Forbidden):
    """`… is forbidden: …`, with the reason and code of the validation that was not met."""

    def __init__(self, attributes: Attributes, message: str, reason: str) -> None:
        made = forbidden(attributes.group, attributes.resource, name_of(attributes), message)
        causes = [Cause("", "", message)]
        super().__init__(made.message, details=made.details, causes=causes, code=_CODES.get(reason, 422))
        self._reason = reason

    def to_status(self) -> dict[str, Any]:
        made = super().to_status()
        made["details"]["causes"] = [{"message": cause.message} for cause in self.causes]
        return {**made, "reason": self._reason}


@dataclass(frozen=True, slots=True)
class Decision:
    """One validation that does not hold."""

    message: str
    reason: str = "Invalid"


class ValidatingPolicies(Policies):
    policies = VALIDATINGADMISSIONPOLICIES
    bindings = VALIDATINGADMISSIONPOLICYBINDINGS

    async def validate(self, attributes: Attributes) -> None:
        denied: list[tuple[str, str]] = []
        with library.asking(bindings.questions(self._authorizer, attributes)):
            for matched in self._matched(attributes):
                values = self._bindings_for(matched, attributes)
                policy = meta.name(matched.policy)
                for binding in self._bound(matched.policy, attributes):
                    by = f"ValidatingAdmissionPolicy '{policy}' with binding '{meta.name(binding)}'"
                    actions = binding["spec"].get("validationActions") or ()
                    try:
                        params = self._params(matched.policy, binding, attributes)
                    except Misconfigured as error:
                        if matched.policy["spec"].get("failurePolicy") != "Ignore":
                            denied.append((f"{by} denied request: failed to configure binding: {error}", "Invalid"))
                        continue
                    for param in params:
                        for decision in _decisions(matched.policy["spec"], {**values, "params": param}):
                            if "Deny" in actions:
                                denied.append((f"{by} denied request: {decision.message}", decision.reason))
                            if "Warn" in actions:
                                attributes.warnings.append(f"Validation failed for {by}: {decision.message}")
        if denied:
            message, reason = denied[0]
            raise Denied(attributes, message, reason)


def _decisions(spec: Mapping[str, Any], values: Object) -> Iterator[Decision]:
    names, fails = names_of(spec), spec.get("failurePolicy") != "Ignore"
    holds, errors = conditions_hold(spec.get("matchConditions") or [], names, {**values, "variables": {}})
    if errors and fails:
        yield Decision(errors[0])
    if not holds:
        return
    values = with_variables(spec, values)
    for validation in spec.get("validations") or ():
        expression = validation["expression"].strip()
        try:
            if evaluated(validation["expression"], names, values) is True:
                continue
        except EvaluationError as error:
            if fails:
                yield Decision(f"expression '{expression}' resulted in error: {error}")
            continue
        yield Decision(_message(validation, names, values), validation.get("reason") or "Invalid")


def _message(validation: Mapping[str, Any], names: Mapping[str, str], values: Object) -> str:
    if text := validation.get("messageExpression"):
        try:
            said = evaluated(text, names, values)
        except EvaluationError:
            said = None
        if isinstance(said, str) and said.strip() and "\n" not in said:
            return said.strip()
    return (validation.get("message") or "").strip() or f"failed expression: {validation['expression'].strip()}"
