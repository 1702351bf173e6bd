"""Values against the schema of a custom kind, as kube-apiserver v1.36 answered."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.api.structural import values
from orchestrator.api.structural.compiled import compiled

ALTERNATIVES = [{"required": ["x"]}, {"required": ["y"]}]
FIELDS: dict[str, Any] = {
    "quarter": {"type": "number", "multipleOf": 0.25},
    "half": {"type": "number", "multipleOf": 2.5},
    "three": {"type": "number", "multipleOf": 3},
    "tenth": {"type": "number", "multipleOf": 0.1},
    "i": {"type": "integer"},
    "i32": {"type": "integer", "format": "int32"},
    "i64": {"type": "integer", "format": "int64"},
    "im": {"type": "integer", "multipleOf": 3, "minimum": 2},
    "f": {"type": "number", "format": "float"},
    "low": {"type": "number", "minimum": 0.5},
    "high": {"type": "number", "maximum": 1.5},
    "below": {"type": "number", "maximum": 1.5, "exclusiveMaximum": True},
    "either": {"x-kubernetes-int-or-string": True, "minimum": 3},
    "one": {"type": "object", "oneOf": ALTERNATIVES},
    "any": {"type": "object", "anyOf": ALTERNATIVES},
    "not": {"type": "object", "not": {"required": ["x"]}},
    "all": {"type": "object", "allOf": ALTERNATIVES},
    "list": {"type": "array", "items": {"type": "object", "oneOf": ALTERNATIVES}},
}
SCHEMA = {"type": "object", "properties": {"s": {"type": "object", "properties": FIELDS}}}


@pytest.mark.parametrize(
    ("name", "value", "causes"),
    [
        ("quarter", 101, ["s.quarter: Invalid value: 0: factor MultipleOf declared for s.quarter must be positive: 0"]),
        ("quarter", 0.3, ["s.quarter: Invalid value: 0.3: s.quarter in body should be a multiple of 0.25"]),
        ("quarter", 0.5, []),
        ("half", 5, ["s.half: Invalid value: 5: s.half in body should be a multiple of 2"]),
        ("half", 4, []),
        ("half", 5.5, ["s.half: Invalid value: 5.5: s.half in body should be a multiple of 2.5"]),
        ("three", 4.5, ["s.three: Invalid value: 4.5: s.three in body should be a multiple of 3"]),
        ("three", 6.0, []),
        ("tenth", 0.3, []),
        ("tenth", 0.35, ["s.tenth: Invalid value: 0.35: s.tenth in body should be a multiple of 0.1"]),
        ("tenth", 1e300, ["s.tenth: Invalid value: 1e+300: s.tenth in body should be a multiple of 0.1"]),
        (
            "i",
            0.5,
            [
                's.i: Invalid value: "number": s.i in body must be of type integer: "number"',
                '<nil>: Invalid value: "": Checked value must be of type integer (default format) in s.i',
            ],
        ),
        ("i", 1.0, []),
        ("i", "x", ['s.i: Invalid value: "string": s.i in body must be of type integer: "string"']),
        (
            "i64",
            0.5,
            [
                's.i64: Invalid value: "float64": s.i64 in body must be of type int64: "float64"',
                '<nil>: Invalid value: "": Checked value must be of type integer with format int64 in s.i64',
            ],
        ),
        (
            "i32",
            2**31,
            ['<nil>: Invalid value: "": Checked value must be of type integer with format int32 in s.i32'],
        ),
        (
            "im",
            1.5,
            [
                's.im: Invalid value: "number": s.im in body must be of type integer: "number"',
                '<nil>: Invalid value: "": Checked value must be of type integer (default format) in s.im',
                "s.im: Invalid value: 1.5: s.im in body should be a multiple of 3",
                "s.im: Invalid value: 1.5: s.im in body should be greater than or equal to 2",
            ],
        ),
        ("f", 1e39, ['<nil>: Invalid value: "": Checked value must be of type number with format float in s.f']),
        ("low", 0, []),
        ("low", 0.4, ["s.low: Invalid value: 0.4: s.low in body should be greater than or equal to 0.5"]),
        ("high", 2, ["s.high: Invalid value: 2: s.high in body should be less than or equal to 1"]),
        ("high", 1.6, ["s.high: Invalid value: 1.6: s.high in body should be less than or equal to 1.5"]),
        ("below", 1, ["s.below: Invalid value: 1: s.below in body should be less than 1"]),
        ("high", 1000.0, ["s.high: Invalid value: 1000: s.high in body should be less than or equal to 1.5"]),
        ("below", 1.5, ["s.below: Invalid value: 1.5: s.below in body should be less than 1.5"]),
        ("either", "2", []),
        (
            "either",
            1.5,
            [
                's.either: Invalid value: "number": s.either in body must be of type integer,string: "number"',
                "s.either: Invalid value: 1.5: s.either in body should be greater than or equal to 3",
            ],
        ),
        (
            "one",
            {},
            [
                '<nil>: Invalid value: "": "s.one" must validate one and only one schema (oneOf). Found none valid',
                "s.one.x: Required value",
            ],
        ),
        (
            "one",
            {"x": 1, "y": 1},
            [
                '<nil>: Invalid value: "": "s.one" must validate one and only one schema (oneOf). '
                "Found 2 valid alternatives"
            ],
        ),
        (
            "any",
            {},
            [
                '<nil>: Invalid value: "": "s.any" must validate at least one schema (anyOf)',
                "s.any.x: Required value",
            ],
        ),
        ("not", {"x": 1}, ['<nil>: Invalid value: "": "s.not" must not validate the schema (not)']),
        (
            "all",
            {},
            [
                "s.all.x: Required value",
                "s.all.y: Required value",
                '<nil>: Invalid value: "": "s.all" must validate all the schemas (allOf). None validated',
            ],
        ),
        (
            "all",
            {"x": 1},
            [
                "s.all.y: Required value",
                '<nil>: Invalid value: "": "s.all" must validate all the schemas (allOf)',
            ],
        ),
        (
            "list",
            [{}],
            [
                '<nil>: Invalid value: "": "s.list[0]" must validate one and only one schema (oneOf). Found none valid',
                "s.list[0].x: Required value",
            ],
        ),
    ],
)
def test_what_does_not_hold(name: str, value: Any, causes: list[str]) -> None:
    found = values.faults({"s": {name: value}}, compiled(SCHEMA))
    assert [f"{cause.field}: {cause.message}" for cause in found] == causes
