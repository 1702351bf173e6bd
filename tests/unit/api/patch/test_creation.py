"""What a creator owns, written in one pass, is what comparing with an empty object says it owns."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.api import schema
from orchestrator.api.patch import creation, field_sets, nulls, structured
from orchestrator.api.patch.field_sets import FieldSet
from orchestrator.api.schema import ANY, BOOL, INTEGER, LIST, MAP, NUMBER, STRUCT, Type

KINDS = [
    ("", "v1", "Pod"), ("", "v1", "Service"), ("", "v1", "ConfigMap"), ("", "v1", "Secret"), ("", "v1", "LimitRange"),
    ("", "v1", "PersistentVolumeClaim"), ("", "v1", "Endpoints"), ("", "v1", "Event"), ("", "v1", "Binding"),
    ("apps", "v1", "Deployment"), ("apps", "v1", "StatefulSet"), ("batch", "v1", "CronJob"),
    ("networking.k8s.io", "v1", "Ingress"), ("networking.k8s.io", "v1", "NetworkPolicy"),
    ("rbac.authorization.k8s.io", "v1", "ClusterRole"), ("autoscaling", "v2", "HorizontalPodAutoscaler"),
    ("apiextensions.k8s.io", "v1", "CustomResourceDefinition"), ("discovery.k8s.io", "v1", "EndpointSlice"),
    ("admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicy"), ("resource.k8s.io", "v1", "ResourceClaim"),
]  # fmt: skip
IGNORED = [
    FieldSet(),
    FieldSet().add("f:status"),
    FieldSet().add("f:spec").add("f:metadata", "f:labels"),
    FieldSet().add("f:metadata").add("f:spec", "f:containers"),
]
TEXT = st.sampled_from(["", "a", "b", "web"])
SCALARS = {BOOL: st.booleans(), INTEGER: st.integers(0, 3), NUMBER: st.sampled_from([0, 1, 1.5])}
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2) | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)


def values(kind: Type, depth: int = 7) -> st.SearchStrategy[Any]:
    """Values of a kind, some with what is empty, null or said twice."""
    if depth == 0 or kind.kind == ANY:
        return ANYTHING if kind.kind == ANY else st.none()
    if kind.kind == STRUCT:
        if not kind.fields:
            return st.just({})
        names = st.lists(st.sampled_from(sorted(kind.fields)), max_size=5, unique=True)
        return names.flatmap(
            lambda chosen: st.fixed_dictionaries({name: values(kind.fields[name].type, depth - 1) for name in chosen})
        )
    if kind.kind in (LIST, MAP):
        item = st.deferred(lambda: values(kind.item or schema.ANY_TYPE, depth - 1))
        return st.lists(item, max_size=3) if kind.kind == LIST else st.dictionaries(TEXT, item, max_size=3)
    return SCALARS.get(kind.kind, TEXT)


def compared(new: Any, kind: Type, ignored: FieldSet) -> Any:
    start = nulls.shown(structured.unset(kind), kind)
    changed = structured.compare(start, new, kind).changed().without(ignored)
    return field_sets.encode(changed.difference(field_sets.IDENTITY))


def result(function: Any, *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except structured.StructureError as error:
        return str(error)


@pytest.mark.parametrize(("group", "version", "name"), KINDS)
@settings(max_examples=25)
@given(data=st.data())
def test_a_creator_owns_what_a_comparison_with_nothing_finds(group: str, version: str, name: str, data: Any) -> None:
    kind = schema.type_of_kind(group, version, name)
    assert kind is not None
    new = nulls.shown({"apiVersion": "v1", "kind": name, **data.draw(values(kind))}, kind)
    ignored = data.draw(st.sampled_from(IGNORED))
    assert result(creation.owned, new, kind, ignored) == result(compared, new, kind, ignored)


@pytest.mark.parametrize(
    "new",
    [
        {"metadata": {"labels": ["a"]}},
        {"spec": ["a"]},
        {"spec": {"containers": {"a": {"b": 1}}}},
        {"spec": {"containers": [["a"]]}},
        {"spec": {"containers": [{"name": "a", "resources": [1]}]}},
        {"spec": {"dnsConfig": [{"name": "a"}]}},
    ],
)
def test_what_is_not_of_its_type_cannot_be_told_apart(new: Any) -> None:
    """A custom object is recorded before it is validated."""
    kind = schema.type_of_kind("", "v1", "Pod")
    assert kind is not None
    for find in (creation.owned, compared):
        with pytest.raises(structured.StructureError):
            find(new, kind, FieldSet())


def test_the_order_is_that_of_the_names() -> None:
    kind = schema.type_of_kind("", "v1", "ConfigMap")
    assert kind is not None
    new = {"data": {"b": "1", "a": "2"}, "metadata": {"name": "c", "labels": {"y": "", "x": ""}}}
    found = creation.owned(new, kind, FieldSet())
    labels = {".": {}, "f:x": {}, "f:y": {}}
    assert found == {"f:data": {".": {}, "f:a": {}, "f:b": {}}, "f:metadata": {"f:labels": labels}}
    assert list(found["f:data"]) == [".", "f:a", "f:b"]
    assert creation.owned(new, kind, FieldSet()) == found  # what is shared was not changed
