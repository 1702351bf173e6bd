"""Refresh: what of the state's inputs is not as libvirt has it."""

from __future__ import annotations

from typing import Any

import pytest

from infra.provider.refresh import drifted, observable, without_none


@pytest.mark.parametrize(
    ("inputs", "seen", "now"),
    [
        pytest.param({"a": 1}, {"a": 1}, {"a": 1}, id="as-asked"),
        pytest.param({"a": 1}, {"a": 2}, {"a": 2}, id="changed"),
        pytest.param({"a": 1}, {"a": None}, {}, id="not-set-any-more"),
        pytest.param({"a": 1}, {}, {"a": 1}, id="cannot-be-seen"),
        pytest.param({"a": 1}, {"a": 1, "b": 2}, {"a": 1}, id="what-others-added"),
        pytest.param({"a": {"b": 1, "c": 2}}, {"a": {"b": 3, "d": 4}}, {"a": {"b": 3, "c": 2}}, id="within"),
        pytest.param({"a": [1, 2]}, {"a": [2, 3]}, {"a": [2]}, id="of-a-list-what-is-there"),
        pytest.param({"a": [{"b": 1}]}, {"a": [{"b": 1, "c": 2}]}, {"a": [{"b": 1}]}, id="an-element-with-more"),
        pytest.param({"a": [{"b": 1}]}, {"a": None}, {}, id="a-list-that-is-gone"),
    ],
)
def test_drift(inputs: dict[str, Any], seen: dict[str, Any], now: dict[str, Any]) -> None:
    assert drifted(inputs, seen) == now


def test_a_transformed_definition_is_not_compared() -> None:
    seen = {"memory": 5, "running": False}
    assert observable({"xml": {"xslt": "<x/>"}}, seen) == {"running": False}
    assert observable({}, seen) == seen


def test_an_import_takes_what_is_set() -> None:
    assert without_none({"a": None, "b": {"c": None, "d": 1}, "e": [{"f": None}]}) == {"b": {"d": 1}, "e": [{}]}
