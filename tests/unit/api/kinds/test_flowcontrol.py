"""FlowSchemas and PriorityLevelConfigurations: the fixed ones stay fixed, and what cannot work is refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from orchestrator.api.kinds import flowcontrol
from orchestrator.api.kinds.flowcontrol_bootstrap import (
    MANDATORY_LEVELS,
    MANDATORY_SCHEMAS,
    SUGGESTED_LEVELS,
    SUGGESTED_SCHEMAS,
)
from orchestrator.api.meta import Object

LEVELS = {one["metadata"]["name"]: one for one in (*MANDATORY_LEVELS, *SUGGESTED_LEVELS)}
SCHEMAS = {one["metadata"]["name"]: one for one in (*MANDATORY_SCHEMAS, *SUGGESTED_SCHEMAS)}


def test_those_of_every_cluster_are_valid_and_have_all_defaults() -> None:
    for given in LEVELS.values():
        found = copy.deepcopy(given)
        flowcontrol.default_level(found)
        assert (found, flowcontrol.level(found)) == ({**given, "status": {}}, [])
    for given in SCHEMAS.values():
        found = copy.deepcopy(given)
        flowcontrol.default_schema(found)
        assert (found, flowcontrol.flow_schema(found)) == ({**given, "status": {}}, [])


def level(name: str, path: str, value: Any) -> Object:
    found = copy.deepcopy(LEVELS[name])
    place: Any = found["spec"]
    *parents, last = path.split(".")
    for parent in parents:
        place = place[parent]
    place[last] = value
    return found


@pytest.mark.parametrize(
    ("obj", "field", "message"),
    [
        (
            level("catch-all", "limited.nominalConcurrencyShares", 6),
            "spec",
            "spec of 'catch-all' must equal the fixed value",
        ),
        (
            level("exempt", "limited", {"limitResponse": {"type": "Reject"}}),
            "spec",
            "spec of 'exempt' except the 'spec.exempt' field must equal the fixed value",
        ),
        (
            level("exempt", "exempt.lendablePercent", 101),
            "spec.exempt.lendablePercent",
            "must be between 0 and 100, inclusive",
        ),
        (
            level("system", "limited.borrowingLimitPercent", -1),
            "spec.limited.borrowingLimitPercent",
            "if specified, must be a non-negative integer",
        ),
        (
            level("system", "limited.limitResponse.queuing.handSize", 11),
            "spec.limited.limitResponse.queuing.handSize",
            "required entropy bits of deckSize 64 and handSize 11 should not be greater than 60",
        ),
    ],
)
def test_faulty_levels(obj: Object, field: str, message: str) -> None:
    causes = flowcontrol.level(obj)
    assert any(cause.field == field and cause.message.endswith(message) for cause in causes), causes


@pytest.mark.parametrize(
    "obj",
    [
        level("exempt", "exempt.nominalConcurrencyShares", 7),
        level("system", "limited.borrowingLimitPercent", 0),
        level("system", "limited.limitResponse.queuing.handSize", 10),
    ],
)
def test_sound_levels(obj: Object) -> None:
    assert flowcontrol.level(obj) == []


@pytest.mark.parametrize("name", ["exempt", "catch-all"])
def test_mandatory_schemas_are_fixed(name: str) -> None:
    found = copy.deepcopy(SCHEMAS[name])
    found["spec"]["priorityLevelConfiguration"]["name"] = "system"
    message = f"spec of '{name}' must equal the fixed value"
    assert any(cause.field == "spec" and cause.message.endswith(message) for cause in flowcontrol.flow_schema(found))
