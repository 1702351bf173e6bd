"""Expressions of admission policies: what kube-apiserver v1.36.3 says of those that have the wrong type."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.api.kinds import policies

RULES = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}]
KEY = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)


def policy(**spec: Any) -> dict[str, Any]:
    constraints = {"resourceRules": RULES, "matchPolicy": "Equivalent"}
    return {"metadata": {"name": "p"}, "spec": {"failurePolicy": "Fail", "matchConstraints": constraints, **spec}}


def annotated(expression: str, key: str = "a") -> dict[str, Any]:
    return policy(auditAnnotations=[{"key": key, "valueExpression": expression}])


@pytest.mark.parametrize(
    ("obj", "message"),
    [
        (policy(validations=[{"expression": "object.spec.foo"}]),
         'spec.validations[0].expression: Invalid value: "object.spec.foo": must evaluate to bool but got dyn'),
        (policy(validations=[{"expression": "dyn(true)"}]),
         'spec.validations[0].expression: Invalid value: "dyn(true)": must evaluate to bool but got dyn'),
        (policy(validations=[{"expression": "true", "messageExpression": "object.metadata.name"}]),
         'spec.validations[0].messageExpression: Invalid value: "object.metadata.name": '
         "must evaluate to string but got dyn"),
        (policy(matchConditions=[{"name": "a", "expression": "object.spec.foo"}], validations=[{"expression": "true"}]),
         'spec.matchConditions[0].expression: Invalid value: "object.spec.foo": must evaluate to bool but got dyn'),
        (annotated("object.data.missing"),
         'spec.auditAnnotations[0].valueExpression: Invalid value: "object.data.missing": '
         "must evaluate to one of [string null_type] but got dyn"),
        (annotated("size(object.data)"),
         'spec.auditAnnotations[0].valueExpression: Invalid value: "size(object.data)": '
         "must evaluate to one of [string null_type] but got int"),
        (annotated("null", "a b"), f'spec.auditAnnotations[0].key: Invalid value: "p/a b": {KEY}'),
        (annotated(" "), "spec.auditAnnotations[0].valueExpression: Required value: valueExpression is not specified"),
        (policy(auditAnnotations=[{"key": "a", "valueExpression": "null"}] * 2),
         'spec.auditAnnotations[1].key: Duplicate value: "a"'),
    ],
)  # fmt: skip
def test_faults(obj: dict[str, Any], message: str) -> None:
    assert [f"{cause.field}: {cause.message}" for cause in policies.validating(obj)] == [message]


def test_an_empty_key_has_two_faults() -> None:
    found = [cause.message for cause in policies.validating(annotated("null", ""))]
    assert found == ['Invalid value: "p/": name part must be non-empty', f'Invalid value: "p/": {KEY}']


@pytest.mark.parametrize("expression", ["null", "'x'", "'x' + object.metadata.name", "has(object.a) ? 'x' : ''"])
def test_sound_annotations(expression: str) -> None:
    assert policies.validating(annotated(expression)) == []


def test_a_variable_has_the_type_of_its_expression() -> None:
    odd = {"name": "odd", "expression": "object.spec.replicas % 2 == 1"}
    also = {"name": "also", "expression": "variables.odd"}
    of_any = {"name": "any", "expression": "object.spec.replicas"}
    assert policies.validating(policy(variables=[odd, also], validations=[{"expression": "variables.also"}])) == []
    (cause,) = policies.validating(policy(variables=[of_any], validations=[{"expression": "variables.any"}]))
    assert cause.message == 'Invalid value: "variables.any": must evaluate to bool but got dyn'


@pytest.mark.parametrize("variables", [[], [{"name": "later", "expression": "variables.absent"}]])
def test_a_variable_that_is_not_declared_before_is_refused(variables: list[dict[str, str]]) -> None:
    obj = policy(variables=variables, validations=[{"expression": "variables.absent"}])
    causes = policies.validating(obj)
    assert len(causes) == 1 + len(variables)
    told = "undefined field 'absent'" if variables else "undeclared reference to 'variables' (in container '')"
    assert all(told in cause.message for cause in causes)
