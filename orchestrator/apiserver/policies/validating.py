"""ValidatingAdmissionPolicy: what must hold of a write, said in CEL.

Of each policy and binding that a request meets, each validation is evaluated with each parameter; one that is false
denies, warns or is noted for the audit, as the binding says. A policy may have more said in the audit event.
Source: KEP-3488; upstream plugin/policy/validating.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import orjson
from msgspec import Struct, field

from orchestrator.api import meta
from orchestrator.api.cel import library
from orchestrator.api.cel.engine import EvaluationError
from orchestrator.api.kinds.policies import variables as names_of
from orchestrator.api.meta import Object
from orchestrator.api.resources import (
    VALIDATINGADMISSIONPOLICIES,
    VALIDATINGADMISSIONPOLICYBINDINGS,
    ResourceTable,
)
from orchestrator.api.status import Cause, Forbidden, forbidden
from orchestrator.apiserver.admission.chain import name_of
from orchestrator.apiserver.admission.timing import Timing
from orchestrator.apiserver.lookup import Lookup
from orchestrator.apiserver.policies import bindings
from orchestrator.apiserver.policies.policy import Misconfigured, Policies, conditions_hold, evaluated, with_variables
from orchestrator.apiserver.request import Attributes, Authorizer
from orchestrator.apiserver.webhooks.conversion import Conversions

FAILURE = "validation.policy.admission.k8s.io/validation_failure"
NO_ERROR, INVALID_ERROR, COMPILE_ERROR = "no_error", "invalid_error", "compile_error"
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
    """One validation that does not hold, by its place in the policy; `fault` is upstream's name for why it could not be
    evaluated."""

    index: int
    message: str
    reason: str = "Invalid"
    fault: str = NO_ERROR
    took_s: float = 0.0


class Outcome(Struct):
    """What one evaluation of a policy came to. `annotations` are for the audit event, in the order of the policy;
    `unsaid` are those that could not be worked out and count as a denial; what failed and counts as nothing is
    `passed_over`."""

    decisions: list[Decision] = field(default_factory=list)
    annotations: list[tuple[str, str]] = field(default_factory=list)
    unsaid: list[Decision] = field(default_factory=list)
    passed_over: list[Decision] = field(default_factory=list)


class ValidatingPolicies(Policies):
    policies = VALIDATINGADMISSIONPOLICIES
    bindings = VALIDATINGADMISSIONPOLICYBINDINGS

    def __init__(
        self,
        lookup: Lookup,
        table: ResourceTable,
        authorizer: Authorizer,
        conversions: Conversions,
        timing: Timing | None = None,
    ) -> None:
        super().__init__(lookup, table, authorizer, conversions)
        self._timing = timing or Timing()

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
                for action in actions:
                    self._observe(action.lower(), decision, policy, binding)
            for decision in outcome.passed_over:
                self._observe("allow", decision, policy, binding)
            for key, text in outcome.annotations:
                said.setdefault(key, {})[text[:ANNOTATION_MAX]] = None
            for decision in outcome.unsaid:
                self._observe("deny", decision, policy, binding)
                yield f"{by} denied request: {decision.message}", "Invalid"

    def _observe(self, action: str, decision: Decision, policy: Object, binding: Object) -> None:
        checked = (action, decision.fault, meta.name(policy), meta.name(binding))
        self._timing.check(checked).observe(decision.took_s)


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
        outcome.decisions.append(Decision(0, errors[0], fault=INVALID_ERROR))
    if not holds:
        return outcome
    values = with_variables(spec, values)
    for index, validation in enumerate(spec.get("validations") or ()):
        began = time.perf_counter()
        try:
            if evaluated(validation["expression"], names, values) is True:
                continue
        except EvaluationError as error:
            decision = _failed(index, validation["expression"], error, began)
            (outcome.decisions if fails else outcome.passed_over).append(decision)
            continue
        message, reason = _message(validation, names, values), validation.get("reason") or "Invalid"
        outcome.decisions.append(Decision(index, message, reason, took_s=time.perf_counter() - began))
    for annotation in spec.get("auditAnnotations") or ():
        _annotate(annotation, names, values, outcome, fails=fails)
    return outcome


def _failed(index: int, expression: str, error: EvaluationError, began: float) -> Decision:
    fault = COMPILE_ERROR if str(error).startswith("compilation failed") else INVALID_ERROR
    message = f"expression '{expression.strip()}' resulted in error: {error}"
    return Decision(index, message, fault=fault, took_s=time.perf_counter() - began)


def _annotate(
    annotation: Mapping[str, Any], names: Mapping[str, str], values: Object, outcome: Outcome, *, fails: bool
) -> None:
    expression, began = annotation["valueExpression"], time.perf_counter()
    try:
        value = evaluated(expression, names, values)
    except EvaluationError as error:
        if fails:
            outcome.unsaid.append(_failed(0, expression, error, began))
        return
    if isinstance(value, str):
        if text := value.strip():
            outcome.annotations.append((annotation["key"], text))
    elif value is not None:
        message = (
            f"valueExpression '{expression}' resulted in unsupported return type: {type(value).__name__}. "
            "Return type must be either string or null."
        )
        outcome.unsaid.append(Decision(0, message, fault=INVALID_ERROR, took_s=time.perf_counter() - began))


def _message(validation: Mapping[str, Any], names: Mapping[str, str], values: Object) -> str:
    if text := validation.get("messageExpression"):
        try:
            said = evaluated(text, names, values)
        except EvaluationError:
            said = None
        if isinstance(said, str) and said.strip() and "\n" not in said:
            return said.strip()
    return (validation.get("message") or "").strip() or f"failed expression: {validation['expression'].strip()}"
