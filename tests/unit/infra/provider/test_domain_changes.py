"""What the user is told of a change before it is made."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from infra.provider.domain_changes import LIVE, consequences
from infra.provider.domain_inputs import DomainInputs

RUNS = {"name": "a", "running": True}


@pytest.mark.parametrize(
    ("changed", "old", "new", "told"),
    [
        pytest.param({"memory"}, {"memory": 64}, {"memory": 80}, "memory (64 → 80)", id="plain"),
        pytest.param({"cpu"}, {"cpu": {}}, {"cpu": {"mode": "maximum"}}, "changes cpu only", id="an-object"),
        pytest.param(
            {"vcpu", "kernel"}, {"vcpu": 1}, {"vcpu": 2, "kernel": "/k"}, "kernel (None → /k), vcpu (1 → 2)", id="two"
        ),
        pytest.param({"disks"}, {}, {"disks": []}, "devices are changed while it runs", id="devices"),
    ],
)
def test_told(changed: set[str], old: dict[str, Any], new: dict[str, Any], told: str) -> None:
    (line,) = consequences(frozenset(changed), {**RUNS, **old}, {**RUNS, **new})
    assert line.startswith("domain a")
    assert told in line


@pytest.mark.parametrize("changed", ["autostart", "description", "metadata", "cloudinit"])
def test_nothing_to_tell(changed: str) -> None:
    assert consequences(frozenset({changed}), RUNS, {**RUNS, changed: "x"}) == []


def test_a_domain_that_is_off_is_not_restarted() -> None:
    assert consequences(frozenset({"memory"}), {"name": "a", "running": False}, {**RUNS, "memory": 80}) == []
    assert consequences(frozenset({"memory", "running"}), RUNS, {"name": "a", "running": False, "memory": 80}) == []


def test_every_other_property_restarts() -> None:
    top = {field.encode_name for field in msgspec.structs.fields(DomainInputs)}
    assert top >= LIVE
    for name in top - LIVE - {"name"}:
        (line,) = consequences(frozenset({name}), RUNS, RUNS)
        assert "is restarted" in line and name in line
