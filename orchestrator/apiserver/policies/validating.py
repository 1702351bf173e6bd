"""ValidatingAdmissionPolicy: what must hold of a write, said in CEL.

Of each policy and binding that a request meets, each validation is evaluated with each parameter; one that is false
denies, warns or is noted for the audit, as the binding says. A policy may have more said in the audit event.
Source: KEP-3488; upstream plugin/policy/validating.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson
from msgspec import Struct, field

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

FAILURE = "validation.policy.admission.k8s.io/validation_failure"
ANNOTATION_MAX = 10 * 1024  # characters of one value
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


class Decision(Struct, frozen=True):
    """One validation that does not hold, by its place in the policy."""

    index: int
    message: str
    reason: str = "Invalid"


class Outcome(Struct):
    """What one evaluation of a policy came to. `annotations` are for the audit event, in the order of the policy;
    `unsaid` are those that could not be worked out and count as a denial."""

    decisions: list[Decision] = field(default_factory=list)
    annotations: list[tuple[str, str]] = field(default_factory=list)
    unsaid: list[str] = field(default_factory=list)


class ValidatingPolicies(Policies):
    policies = VALIDATINGADMISSIONPOLICIES
    bindings = VALIDATINGADMISSIONPOLICYBINDINGS

    async def validate(self, attributes: Attributes) -> None:
        denied: list[tuple[str, str]] = []
        with library.asking(bindings.questions(self._authorizer, attributes)):
            for matched in self._matched(attributes):
                values = self._bindings_for(matched, attributes)
                said: dict[str, dict[str, None]] = {}  # key → the different values, in order
                for binding in self._bound(matched.policy, attributes):
                    denied += self._denials(matched.policy, binding, values, attributes, said)
                for key, texts in said.items():
                    attributes.annotations.setdefault(f"{meta.name(matched.policy)}/{key}", ", ".join(texts))
        if denied:
            message, reason = denied[0]
            raise Denied(attributes, message, reason)

    def _denials(
        self, policy: Object, binding: Object, values: Object, attributes: Attributes, said: dict[str, dict[str, None]]
    ) -> Iterator[tuple[str, str]]:
        """(message, reason) of each denial; warnings and annotations are noted on the way."""
        by = f"ValidatingAdmissionPolicy '{meta.name(policy)}' with binding '{meta.name(binding)}'"
        actions = binding["spec"].get("validationActions") or ()
        try:
            params = self._params(policy, binding, attributes)
        except Misconfigured as error:
            if policy["spec"].get("failurePolicy") != "Ignore":
                yield f"{by} denied request: failed to configure binding: {error}", "Invalid"
            return
        for param in params:
            outcome = _outcome(policy["spec"], {**values, "params": param})
            for decision in outcome.decisions:
                if "Deny" in actions:
                    yield f"{by} denied request: {decision.message}", decision.reason
                if "Audit" in actions:
                    attributes.annotations.setdefault(FAILURE, _failure(binding, decision))
                if "Warn" in actions:
                    attributes.warnings.append(f"Validation failed for {by}: {decision.message}")
            for key, text in outcome.annotations:
                said.setdefault(key, {})[text[:ANNOTATION_MAX]] = None
            for message in outcome.unsaid:
                yield f"{by} denied request: {message}", "Invalid"


def _failure(binding: Object, decision: Decision) -> str:
    """A list, since there may be more than one some day."""
    failure = {
        "message": decision.message,
        "policy": binding["spec"]["policyName"],
        "binding": meta.name(binding),
        "expressionIndex": decision.index,
        "validationActions": binding["spec"].get("validationActions") or [],
    }
    return orjson.dumps([failure]).decode()


def _outcome(spec: Mapping[str, Any], values: Object) -> Outcome:
    outcome = Outcome()
    names, fails = names_of(spec), spec.get("failurePolicy") != "Ignore"
    holds, errors = conditions_hold(spec.get("matchConditions") or [], names, {**values, "variables": {}})
    if errors and fails:
        outcome.decisions.append(Decision(0, errors[0]))
    if not holds:
        return outcome
    values = with_variables(spec, values)
    for index, validation in enumerate(spec.get("validations") or ()):
        expression = validation["expression"].strip()
        try:
            if evaluated(validation["expression"], names, values) is True:
                continue
        except EvaluationError as error:
            if fails:
                outcome.decisions.append(Decision(index, f"expression '{expression}' resulted in error: {error}"))
            continue
        message = _message(validation, names, values)
        outcome.decisions.append(Decision(index, message, validation.get("reason") or "Invalid"))
    for annotation in spec.get("auditAnnotations") or ():
        _annotate(annotation, names, values, outcome, fails=fails)
    return outcome


def _annotate(
    annotation: Mapping[str, Any], names: Mapping[str, str], values: Object, outcome: Outcome, *, fails: bool
) -> None:
    expression = annotation["valueExpression"]
    try:
        value = evaluated(expression, names, values)
    except EvaluationError as error:
        if fails:
            outcome.unsaid.append(f"expression '{expression.strip()}' resulted in error: {error}")
        return
    if isinstance(value, str):
        if text := value.strip():
            outcome.annotations.append((annotation["key"], text))
    elif value is not None:
        outcome.unsaid.append(
            f"valueExpression '{expression}' resulted in unsupported return type: {type(value).__name__}. "
            "Return type must be either string or null."
        )


def _message(validation: Mapping[str, Any], names: Mapping[str, str], values: Object) -> str:
    if text := validation.get("messageExpression"):
        try:
            said = evaluated(text, names, values)
        except EvaluationError:
            said = None
        if isinstance(said, str) and said.strip() and "\n" not in said:
            return said.strip()
    return (validation.get("message") or "").strip() or f"failed expression: {validation['expression'].strip()}"
