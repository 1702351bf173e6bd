"""Merge patch: laws."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.api.patch import merge_patch

scalars = st.booleans() | st.integers(-3, 3) | st.text("ab", max_size=2)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text("xyz", max_size=1), inner, max_size=3)
)
objects = st.dictionaries(st.text("xyz", max_size=1), values, max_size=3)


@given(objects, objects)
def test_a_diff_leads_from_old_to_new(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert merge_patch.merge(old, merge_patch.diff(old, new)) == new


@given(objects)
def test_no_difference_is_an_empty_patch(obj: dict[str, Any]) -> None:
    assert merge_patch.diff(obj, obj) == {}


@given(objects, objects)
def test_a_patch_twice_is_a_patch_once(obj: dict[str, Any], patch: dict[str, Any]) -> None:
    once = merge_patch.merge(obj, patch)
    assert merge_patch.merge(once, patch) == once


def test_null_deletes_and_lists_replace() -> None:
    assert merge_patch.merge({"a": 1, "b": [1, 2], "c": {"d": 1}}, {"a": None, "b": [3], "c": {"e": None}}) == {
        "b": [3],
        "c": {"d": 1},
    }
