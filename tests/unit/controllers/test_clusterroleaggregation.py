"""The rules of aggregated roles are those of the roles that they select."""

from __future__ import annotations

from typing import Any

from orchestrator.api.meta import Object
from orchestrator.controllers.clusterroleaggregation import aggregated

LABEL = "rbac.example.com/aggregate-to-monitoring"


def role(name: str, *rules: dict[str, Any], labels: dict[str, str] | None = None) -> Object:
    return {"metadata": {"name": name, "labels": labels or {}}, "rules": list(rules)}


def rule(resource: str) -> dict[str, Any]:
    return {"apiGroups": [""], "resources": [resource], "verbs": ["get"]}


def test_selected_rules_in_order_each_once() -> None:
    monitoring = {
        **role("monitoring", rule("old"), labels={LABEL: "true"}),
        "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {LABEL: "true"}}, {"matchLabels": {"a": "b"}}]},
    }
    roles = [
        monitoring,
        role("z", rule("pods"), rule("services"), labels={LABEL: "true"}),
        role("c", rule("services"), labels={"a": "b"}),
        role("d", rule("secrets")),
    ]
    assert aggregated(monitoring, roles) == [rule("services"), rule("pods")]
    assert aggregated({**monitoring, "aggregationRule": {}}, roles) == []
