"""Field sets: the algebra's laws, and fieldsV1 there and back."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.api.patch import field_sets
from orchestrator.api.patch.field_sets import FieldSet

elements = st.sampled_from(["f:a", "f:b", 'k:{"name":"x"}', 'v:"y"'])
paths = st.lists(elements, min_size=1, max_size=3).map(tuple)


def of(found: set[Any]) -> FieldSet:
    fields = FieldSet()
    for path in found:
        fields.add(*path)
    return fields


sets = st.sets(paths, max_size=6)


@given(sets, sets)
def test_algebra_is_that_of_sets_of_paths(left: set[Any], right: set[Any]) -> None:
    assert set(of(left).union(of(right)).paths()) == left | right
    assert set(of(left).intersection(of(right)).paths()) == left & right
    assert set(of(left).difference(of(right)).paths()) == left - right


@given(sets, sets)
def test_without_drops_whole_subtrees(left: set[Any], right: set[Any]) -> None:
    def below(path: tuple[str, ...]) -> bool:
        return any(path[: len(root)] == root for root in right)

    assert set(of(left).without(of(right)).paths()) == {path for path in left if not below(path)}


@given(sets)
def test_fields_v1_there_and_back(found: set[Any]) -> None:
    assert set(field_sets.decode(field_sets.encode(of(found))).paths()) == found


def test_encoding() -> None:
    fields = FieldSet().add("f:spec", "f:replicas").add("f:metadata", "f:labels").add("f:metadata", "f:labels", "f:a")
    assert field_sets.encode(fields) == {
        "f:metadata": {"f:labels": {".": {}, "f:a": {}}},
        "f:spec": {"f:replicas": {}},
    }


@pytest.mark.parametrize("fields", [{"x": {}}, {"f:a": 1}])
def test_malformed(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        field_sets.decode(fields)


def test_paths_are_shown_as_messages_show_them() -> None:
    path = ("f:spec", "f:ports", field_sets.key({"protocol": "TCP", "port": 80}), "f:name")
    assert field_sets.show(path) == '.spec.ports[port=80,protocol="TCP"].name'
    assert field_sets.show(("f:finalizers", field_sets.value("a/b"))) == '.finalizers[="a/b"]'
