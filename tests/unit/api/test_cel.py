"""CEL: expressions and their values, rules of schemas and what they refuse, rules that a definition may not have."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.api.cel import engine, estimate
from orchestrator.api.cel.engine import CompileError, EvaluationError
from orchestrator.api.cel.rules import ABSENT, RuleSet, rule_faults
from orchestrator.api.structural.compiled import compiled

SELF = {"replicas": 3, "name": "abc", "list": [1, 2, 3], "m": {"a": 1}, "items": [{"k": "a"}, {"k": "b"}]}
TRUE = [
    "self.replicas + 1 == 4 && self.name.startsWith('a')",
    "self.list.all(x, x > 0) && self.items.exists(i, i.k == 'b')",
    "self.list.map(x, x * 2).sum() == 12 && self.list.isSorted() && self.list.max() == 3",
    "self.list.indexOf(2) == 1 && 'abca'.lastIndexOf('a') == 3",
    "has(self.name) && !has(self.foo) && self.?foo.orValue('x') == 'x'",
    "quantity('1Gi').isGreaterThan(quantity('100Mi')) && !isQuantity('1x')",
    "quantity('1').add(quantity('500m')).compareTo(quantity('1500m')) == 0",
    "url('https://a.b:80/x?y=1').getHost() == 'a.b:80' && url('https://a/x').getEscapedPath() == '/x'",
    "!isURL('foo') && ip('10.0.0.1').family() == 4 && ip('::1').isLoopback()",
    "cidr('10.0.0.0/8').containsIP('10.1.1.1') && !cidr('10.0.0.0/8').containsIP(ip('11.1.1.1'))",
    "semver('1.2.3').isLessThan(semver('1.10.0')) && semver('1.0.0-rc.1').isLessThan(semver('1.0.0'))",
    "'abc123'.find('[0-9]+') == '123' && 'a1b2'.findAll('[0-9]') == ['1', '2']",
    "'a,b'.split(',') == ['a', 'b'] && ['a', 'b'].join('-') == 'a-b' && 'Ab'.lowerAscii() == 'ab'",
    "'%s is %d, %.2f'.format(['a', 3, 1.5]) == 'a is 3, 1.50'",
    "sets.contains([1, 2], [1]) && sets.equivalent([1, 2], [2, 1])",
    "format.dns1123Label().validate('Foo') != []",
    "duration('1h') > duration('30m') && timestamp('2020-01-01T00:00:00Z').getFullYear() == 2020",
]


@pytest.mark.parametrize("expression", TRUE)
def test_values(expression: str) -> None:
    assert engine.compile_expression(expression, {"self": "dyn"}).eval({"self": SELF}) is True


@pytest.mark.parametrize(
    ("expression", "error"),
    [
        ("self.foo == 1", "no such key: foo"),
        ("self.list[7] == 1", "index out of bounds: 7"),
        ("self.name + 1 == 2", "no such overload"),
        ("1 / (self.replicas - 3) == 1", "division by zero"),
        ("[].max() == 1", "max called on empty list"),
    ],
)
def test_what_has_no_value(expression: str, error: str) -> None:
    program = engine.compile_expression(expression, {"self": "dyn"})
    with pytest.raises(EvaluationError) as failed:
        program.eval({"self": SELF})
    assert str(failed.value) == error


@pytest.mark.parametrize(
    ("expression", "error"),
    [
        ("self.replicas >", "ERROR: <input>:1:16: Syntax error: mismatched input '<EOF>'"),
        ("other == 1", "undeclared reference to 'other'"),
        ("1 + 'a' == 2", "found no matching overload for '_+_' applied to '(int, string)'"),
    ],
)
def test_what_does_not_compile(expression: str, error: str) -> None:
    with pytest.raises(CompileError) as failed:
        engine.compile_expression(expression, {"self": "dyn"})
    assert error in str(failed.value)


# -- rules of a schema -------------------------------------------------------------------------------------------------


def schema(**spec: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"spec": {"type": "object", **spec}}}


SPEC = {
    "properties": {
        "min": {"type": "integer"},
        "max": {"type": "integer"},
        "name": {"type": "string", "maxLength": 10},
        "since": {"type": "string", "format": "date-time"},
        "list-of": {"type": "array", "maxItems": 5, "items": {"type": "string", "maxLength": 5}},
    },
}


def judged(rules: list[dict[str, Any]], spec: Any, old: Any = ABSENT) -> list[tuple[str, str]]:
    rule_set = RuleSet(compiled(schema(**SPEC, **{"x-kubernetes-validations": rules}), is_root=True))
    before = {"spec": old} if old is not ABSENT else ABSENT
    return [(cause.field, cause.message) for cause in rule_set.faults({"spec": spec}, before)]


def test_a_rule_refuses_in_its_own_words() -> None:
    rule = {"rule": "self.min <= self.max", "message": "min first"}
    assert judged([rule], {"min": 1, "max": 2}) == []
    assert judged([rule], {"min": 3, "max": 2}) == [("spec", 'Invalid value: "object": min first')]
    assert judged([{"rule": "self.min <= self.max"}], {"min": 3, "max": 2}) == [
        ("spec", 'Invalid value: "object": failed rule: self.min <= self.max')
    ]
    told = {**rule, "messageExpression": "'min is ' + string(self.min)", "fieldPath": ".min"}
    assert judged([told], {"min": 3, "max": 2}) == [("spec.min", 'Invalid value: "object": min is 3')]
    forbidden = {**rule, "reason": "FieldValueForbidden"}
    assert judged([forbidden], {"min": 3, "max": 2}) == [("spec", "Forbidden: min first")]


def test_what_cannot_be_evaluated_is_refused() -> None:
    assert judged([{"rule": "self.min <= self.max"}], {"min": 3}) == [
        ("spec", 'Invalid value: "object": no such key: max evaluating rule: self.min <= self.max')
    ]


def test_changes_are_judged_where_there_is_an_old_value() -> None:
    rule = {"rule": "self.name == oldSelf.name", "message": "name stays"}
    assert judged([rule], {"name": "a"}) == []
    assert judged([rule], {"name": "b"}, {"name": "a"}) == [("spec", 'Invalid value: "object": name stays')]
    optional = {"rule": "oldSelf.hasValue() || self.name == 'first'", "optionalOldSelf": True, "message": "first"}
    assert judged([optional], {"name": "a"}) == [("spec", 'Invalid value: "object": first')]
    assert judged([optional], {"name": "b"}, {"name": "a"}) == []


def test_what_did_not_change_is_not_held_against_an_update() -> None:
    rule = {"rule": "self.min <= self.max"}
    assert judged([rule], {"min": 3, "max": 2}, {"min": 3, "max": 2}) == []


def test_names_are_escaped_and_times_are_times() -> None:
    assert judged([{"rule": "self.list__dash__of.all(x, x != 'bad')"}], {"list-of": ["bad"]}) != []
    assert judged([{"rule": "self.since < timestamp('2030-01-01T00:00:00Z')"}], {"since": "2026-01-01T00:00:00Z"}) == []
    assert estimate.escaped("namespace") == "__namespace__"
    assert estimate.escaped("a.b-c/d__e") == "a__dot__b__dash__c__slash__d__underscores__e"


@pytest.mark.parametrize(
    ("rules", "properties", "part"),
    [
        ([{"rule": "self.z > 1"}], {}, "undefined field 'z'"),
        ([{"rule": "self.min.x > 1"}], {}, "type 'int' does not support field selection"),
        ([{"rule": "self.min >"}], {}, "Syntax error"),
        ([{"rule": "self.min + 1"}], {}, "cel expression must evaluate to a bool"),
        ([{"rule": " "}], {}, "rule is not specified"),
        (
            [{"rule": "self.deep.all(x, x.all(y, y.all(z, z == 'a')))"}],
            {"deep": {"type": "array", "items": {"type": "array", "items": {
                "type": "array", "items": {"type": "string"}}}}},
            "estimated rule cost exceeds budget by factor of more than 100x",
        ),
        ([{"rule": "self.min > 1", "optionalOldSelf": True}], {}, "may not be set if oldSelf is not used in rule"),
        ([{"rule": "self.min > 1", "messageExpression": "1 + 1"}], {}, "messageExpression must evaluate to a string"),
    ],
)  # fmt: skip
def test_rules_that_a_definition_may_not_have(rules: Any, properties: Any, part: str) -> None:
    made = {**SPEC, "properties": {**SPEC["properties"], **properties}, "x-kubernetes-validations": rules}
    found = rule_faults(compiled(schema(**made), is_root=True), "s")
    assert found
    assert part in found[0].message


def test_bounded_rules_are_within_the_budget() -> None:
    rules = [{"rule": "self.list__dash__of.all(x, self.list__dash__of.exists(y, x == y)) && self.name.matches('^a+$')"}]
    assert rule_faults(compiled(schema(**SPEC, **{"x-kubernetes-validations": rules}), is_root=True), "s") == []


def test_old_values_need_items_that_can_be_found_again() -> None:
    item = {"type": "string", "maxLength": 5, "x-kubernetes-validations": [{"rule": "self == oldSelf"}]}
    raw = {"type": "object", "properties": {"l": {"type": "array", "maxItems": 3, "items": item}}}
    (found,) = rule_faults(compiled(raw, is_root=True), "s")
    assert "oldSelf cannot be used on the uncorrelatable portion of the schema within s.properties[l]" in found.message


def test_what_takes_too_long_is_given_up() -> None:
    rule = "self.list.all(a, self.list.all(b, self.list.all(c, self.list.all(d, a + b + c + d >= 0))))"
    node = {"type": "object", "properties": {"list": {"type": "array", "items": {"type": "integer"}}}}
    rule_set = RuleSet(compiled({**node, "x-kubernetes-validations": [{"rule": rule}]}, is_root=True))
    (cause,) = rule_set.faults({"list": list(range(200))}, ABSENT)
    assert "operation cancelled: actual cost limit exceeded': call cost exceeds limit for rule:" in cause.message
