"""Kinds kept in one version and served in two: what goes in through one comes out through the other, nothing lost."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.api.resources import EVENTS_V1, HORIZONTALPODAUTOSCALERS_V1
from orchestrator.apiserver.conversion import CONVERSIONS
from tests.apiserver_fixture import serving
from tests.unit.apiserver.rest import call

NEWER, OLDER = (f"/apis/autoscaling/{v}/namespaces/default/horizontalpodautoscalers" for v in ("v2", "v1"))
TARGET = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}


def resource(name: str, percentage: int) -> dict[str, Any]:
    target = {"type": "Utilization", "averageUtilization": percentage}
    return {"type": "Resource", "resource": {"name": name, "target": target}}


def test_an_autoscaler_survives_the_way_there_and_back() -> None:
    conversion = CONVERSIONS[HORIZONTALPODAUTOSCALERS_V1]
    stored = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "a", "annotations": {"mine": "x"}},
        "spec": {
            "scaleTargetRef": TARGET,
            "maxReplicas": 3,
            "metrics": [resource("cpu", 50), resource("memory", 60)],
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 5}},
        },
        "status": {"desiredReplicas": 1, "conditions": [{"type": "AbleToScale", "status": "True"}]},
    }
    served = conversion.to_served(stored)
    assert served["spec"] == {"scaleTargetRef": TARGET, "maxReplicas": 3, "targetCPUUtilizationPercentage": 50}
    assert conversion.to_stored(served) == stored


@pytest.mark.parametrize("text", ["{", "7", '["x"]', '[{"type": 3}]', '{"resource": {}}'])
async def test_annotations_that_could_not_be_metrics_are_dropped(text: str) -> None:
    kept = {f"autoscaling.alpha.kubernetes.io/{what}": text for what in ("metrics", "behavior", "conditions")}
    spec = {"scaleTargetRef": TARGET, "maxReplicas": 3, "targetCPUUtilizationPercentage": 50}
    async with serving() as server:
        older = {"metadata": {"name": "web", "annotations": {**kept, "mine": "x"}}, "spec": spec}
        status, _ = await call(server, "POST", OLDER, older)
        assert status == 201
        _, found = await call(server, "GET", f"{NEWER}/web")
    assert found["spec"]["metrics"] == [resource("cpu", 50)]
    assert found["metadata"]["annotations"] == {"mine": "x"}


def test_an_event_has_new_names_for_old_fields() -> None:
    conversion = CONVERSIONS[EVENTS_V1]
    stored = {"apiVersion": "v1", "kind": "Event", "involvedObject": {"name": "p"}, "message": "m", "count": 2}
    served = conversion.to_served(stored)
    assert served["regarding"] == {"name": "p"}
    assert (served["note"], served["deprecatedCount"]) == ("m", 2)
    assert conversion.to_stored(served) == stored


async def test_both_versions_of_the_autoscaler_are_one_object() -> None:
    async with serving() as served:
        body = {
            "metadata": {"name": "a"},
            "spec": {"scaleTargetRef": TARGET, "maxReplicas": 3, "targetCPUUtilizationPercentage": 70},
        }
        status, made = await call(served, "POST", OLDER, body)
        assert (status, made["apiVersion"]) == (201, "autoscaling/v1")
        _, newer = await call(served, "GET", f"{NEWER}/a")
        assert newer["spec"]["metrics"] == [resource("cpu", 70)]
        assert newer["metadata"]["uid"] == made["metadata"]["uid"]
        patch = {"spec": {"maxReplicas": 9}}
        kind = "application/merge-patch+json"
        _, patched = await call(served, "PATCH", f"{OLDER}/a", patch, content_type=kind)
        assert (patched["spec"]["maxReplicas"], patched["spec"]["targetCPUUtilizationPercentage"]) == (9, 70)
