"""What a write of a pod's status leaves out because its writer does not know it."""

from __future__ import annotations

from typing import Any

from orchestrator.api.kinds.pod import on_status_update


def after(status: dict[str, Any]) -> Any:
    old = {"qosClass": "Burstable", "observedGeneration": 3, "conditions": [{"type": "Ready", "observedGeneration": 2}]}
    new = {"status": status}
    on_status_update(new, {"status": old})
    return new["status"]


def test_the_class_and_what_was_observed_stay() -> None:
    assert after({"phase": "Running", "conditions": [{"type": "Ready"}, {"type": "Initialized"}]}) == {
        "phase": "Running",
        "qosClass": "Burstable",
        "observedGeneration": 3,
        "conditions": [{"type": "Ready", "observedGeneration": 2}, {"type": "Initialized"}],
    }


def test_what_is_said_counts() -> None:
    found = after({"observedGeneration": 4, "conditions": [{"type": "Ready", "observedGeneration": 4}]})
    assert found["observedGeneration"] == 4
    assert found["conditions"][0]["observedGeneration"] == 4
