"""Diff: what changes, what is made anew, and what a preview shows."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.provider.difference import Change, changes, overlay
from infra.provider.properties import UNKNOWN
from tests.unit.infra.provider.simple import SIMPLE

values = st.dictionaries(
    st.sampled_from(["kind", "size", "source", "word"]), st.none() | st.integers(0, 3) | st.text(max_size=3), max_size=4
)


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        pytest.param({"size": 1}, {"size": 2}, [Change("size", "update")], id="changed"),
        pytest.param({}, {"size": 2}, [Change("size", "add")], id="added"),
        pytest.param({"size": 1}, {}, [Change("size", "delete")], id="taken-away"),
        pytest.param({"name": "a"}, {"name": "b"}, [Change("name", "update", True)], id="made-anew"),
        pytest.param({}, {"source": "", "parts": [], "kind": None}, [], id="nothing-is-nothing"),
        pytest.param({"flag": True}, {"flag": False}, [Change("flag", "update")], id="false-is-a-value"),
        pytest.param(
            {"parts": [{"longName": "a"}]},
            {"parts": [{"longName": "b"}]},
            [Change("parts[0].longName", "update", True)],
            id="made-anew-within",
        ),
        pytest.param({}, {"box": {"lid": 1}}, [Change("box.lid", "add")], id="an-object-that-comes-is-its-members"),
        pytest.param({"box": {"lid": 1}}, {}, [Change("box.lid", "delete")], id="an-object-that-goes-is-its-members"),
        pytest.param({"parts": []}, {"parts": [{"id": "x"}]}, [Change("parts[0]", "add")], id="the-first-element"),
        pytest.param(
            {"parts": [{"id": "x"}]}, {"parts": [{"id": "x"}, {"id": "y"}]}, [Change("parts[1]", "add")], id="one-more"
        ),
        pytest.param({"source": "a"}, {"source": UNKNOWN}, [Change("source", "update", True)], id="unknown-source"),
        pytest.param({"source": "a"}, {"source": "b"}, [Change("source", "update")], id="known-source"),
        pytest.param({}, {"source": UNKNOWN}, [Change("source", "add")], id="unknown-and-new"),
    ],
)
def test_changes(old: dict[str, Any], new: dict[str, Any], found: list[Change]) -> None:
    assert changes(SIMPLE, old, new) == found


@given(values)
def test_nothing_differs_from_itself(value: dict[str, Any]) -> None:
    assert changes(SIMPLE, value, value) == []


@given(values, values)
def test_there_and_back(old: dict[str, Any], new: dict[str, Any]) -> None:
    opposite = {"add": "delete", "delete": "add", "update": "update"}
    there = {change.path: change.kind for change in changes(SIMPLE, old, new)}
    assert {change.path: opposite[change.kind] for change in changes(SIMPLE, new, old)} == there


def test_a_preview_of_a_creation_knows_what_it_does_not_know() -> None:
    shown = overlay(None, {"kind": "a", "parts": [{"longName": "b"}]}, SIMPLE.computed)
    assert shown == {"kind": "a", "size": UNKNOWN, "parts": [{"longName": "b", "id": UNKNOWN}]}


def test_a_preview_of_an_update_keeps_what_was_chosen() -> None:
    old = {"kind": "a", "size": 7, "parts": [{"longName": "b", "id": "x"}]}
    shown = overlay(old, {"kind": "c", "parts": [{"longName": "b"}, {"longName": "d"}]}, SIMPLE.computed)
    assert shown == {
        "kind": "c",
        "size": 7,
        "parts": [{"longName": "b", "id": "x"}, {"longName": "d", "id": UNKNOWN}],
    }
