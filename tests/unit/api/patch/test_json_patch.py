"""JSON Patch: the RFC's operations, and the leniencies that Kubernetes has."""

from typing import Any

import pytest

from orchestrator.api.patch import json_patch

DOCUMENT = {"a": {"b": [1, 2, 3]}, "c~/d": "x", "n": None}


@pytest.mark.parametrize(
    ("operation", "result"),
    [
        ({"op": "add", "path": "/z", "value": 1}, {**DOCUMENT, "z": 1}),
        ({"op": "add", "path": "/a/b/1", "value": 9}, {**DOCUMENT, "a": {"b": [1, 9, 2, 3]}}),
        ({"op": "add", "path": "/a/b/-", "value": 9}, {**DOCUMENT, "a": {"b": [1, 2, 3, 9]}}),
        ({"op": "add", "path": "/a/b/3", "value": 9}, {**DOCUMENT, "a": {"b": [1, 2, 3, 9]}}),
        ({"op": "remove", "path": "/a/b/0"}, {**DOCUMENT, "a": {"b": [2, 3]}}),
        ({"op": "replace", "path": "/c~0~1d", "value": "y"}, {**DOCUMENT, "c~/d": "y"}),
        ({"op": "replace", "path": "/absent", "value": "y"}, {**DOCUMENT, "absent": "y"}),
        ({"op": "move", "from": "/n", "path": "/m"}, {"a": DOCUMENT["a"], "c~/d": "x", "m": None}),
        ({"op": "copy", "from": "/a/b", "path": "/e"}, {**DOCUMENT, "e": [1, 2, 3]}),
        ({"op": "test", "path": "/a", "value": {"b": [1, 2, 3]}}, DOCUMENT),
        ({"op": "test", "path": "/absent", "value": None}, DOCUMENT),
        ({"op": "replace", "path": "", "value": {}}, {}),
    ],
)
def test_operation(operation: dict[str, Any], result: Any) -> None:
    assert json_patch.apply(DOCUMENT, [operation]) == result


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "remove", "path": "/absent"},
        {"op": "add", "path": "/absent/x", "value": 1},
        {"op": "add", "path": "/a/b/4", "value": 1},
        {"op": "remove", "path": "/a/b/x"},
        {"op": "test", "path": "/a/b/0", "value": True},
        {"op": "fold", "path": "/a"},
        {"op": "add"},
    ],
)
def test_refused(operation: dict[str, Any]) -> None:
    with pytest.raises(json_patch.JsonPatchError):
        json_patch.apply(DOCUMENT, [operation])


def test_the_document_is_not_changed() -> None:
    document = {"a": [1]}
    json_patch.apply(document, [{"op": "add", "path": "/a/-", "value": 2}])
    assert document == {"a": [1]}
