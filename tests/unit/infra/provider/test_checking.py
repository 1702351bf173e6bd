"""Check: shapes, rules, defaults, names, and the words of a refusal."""

from __future__ import annotations

from typing import Any

import pytest

from infra.provider.checking import check, value_at
from infra.provider.properties import UNKNOWN
from tests.unit.infra.provider.simple import SIMPLE

SEED = bytes(16)


def failures(inputs: dict[str, Any], secret: frozenset[str] = frozenset()) -> dict[str, str]:
    return {failure.path: failure.reason for failure in check(SIMPLE, {}, inputs, "it", SEED, secret)[1]}


def test_defaults_and_spelling() -> None:
    inputs, refused = check(SIMPLE, {}, {"name": "a", "size": 1, "source": None}, "it", SEED)
    assert (inputs, refused) == ({"kind": "usual", "name": "a", "size": 1}, [])
    assert check(SIMPLE, {}, {"kind": "LOUD", "name": "a", "size": 1}, "it", SEED)[0]["kind"] == "loud"


def test_a_name_of_its_own_is_kept() -> None:
    first, _ = check(SIMPLE, {}, {"size": 1}, "it", SEED)
    assert first["name"].startswith("it-")
    assert check(SIMPLE, {}, {"size": 1}, "it", b"another seed")[0]["name"] != first["name"]
    assert check(SIMPLE, first, {"size": 2}, "it", b"another seed")[0]["name"] == first["name"]


@pytest.mark.parametrize(
    ("inputs", "path", "words"),
    [
        pytest.param({"name": "a", "sise": 1}, "sise", "simple a: sise = 1: no such property", id="misspelt"),
        pytest.param({"name": "a", "size": 0}, "size", "simple a: size = 0: Expected `int` >= 1", id="too-small"),
        pytest.param(
            {"name": "a", "size": "big"},
            "size",
            'simple a: size = "big": Expected `int | null`, got `str`',
            id="no-number",
        ),
        pytest.param(
            {"name": "a", "parts": [{}, {"longname": ""}]},
            "parts[1].longname",
            'simple a: parts[1].longname = "": no such property',
            id="misspelt-within",
        ),
        pytest.param({"name": "a"}, "size", "simple a: size: is required without a source", id="missing"),
        pytest.param(
            {"name": "a", "size": 1, "word": "bad"},
            "word",
            'simple a: word = "bad": must not be bad',
            id="against-a-rule",
        ),
    ],
)
def test_a_refusal_names_resource_property_value_and_rule(inputs: dict[str, Any], path: str, words: str) -> None:
    assert failures(inputs) == {path: words}


def test_a_secret_value_is_not_told() -> None:
    assert failures({"name": "a", "size": 1, "word": "bad"}, frozenset({"word"})) == {
        "word": "simple a: word = [secret]: must not be bad"
    }


@pytest.mark.parametrize(
    "inputs",
    [
        pytest.param({"size": UNKNOWN}, id="the-value-itself"),
        pytest.param({"source": UNKNOWN}, id="one-that-would-do-instead"),
        pytest.param({"size": 1, "kind": UNKNOWN}, id="a-required-one"),
        pytest.param({"size": 1, "parts": UNKNOWN}, id="a-whole-list"),
        pytest.param({"size": 1, "parts": [UNKNOWN, {"longName": UNKNOWN}]}, id="within-a-list"),
    ],
)
def test_what_is_unknown_is_checked_by_the_update(inputs: dict[str, Any]) -> None:
    assert failures(inputs) == {}


def test_a_value_at_a_path() -> None:
    assert value_at({"a": [{"b": 1}]}, "a[0].b") == 1
    assert value_at({"a": [{"b": 1}]}, "a[1].b") is None
    assert value_at({"a": 1}, "a.b") is None
