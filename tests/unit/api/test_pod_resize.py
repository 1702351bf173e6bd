"""What the subresources of a pod may change."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from orchestrator.api.kinds.registry import rules
from orchestrator.api.meta import Object
from orchestrator.api.resources import CERTIFICATESIGNINGREQUESTS, PODS


def pod(**resources: Any) -> Object:
    obj: Object = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "namespace": "d", "uid": "u", "resourceVersion": "1"},
        "spec": {"containers": [{"name": "c", "image": "i", "resources": resources}]},
        "status": {"phase": "Running"},
    }
    rules(PODS).default(obj)
    return obj


@pytest.mark.parametrize(
    ("before", "after", "fields"),
    [
        pytest.param({"requests": {"cpu": "1"}}, {"requests": {"cpu": "2"}}, [], id="more"),
        pytest.param(
            {"requests": {"cpu": "1", "memory": "1Gi"}},
            {"requests": {"cpu": "1"}},
            ["spec.containers[0].resources.requests"],
            id="taken-away",
        ),
        pytest.param({"requests": {"cpu": "1"}}, {}, ["spec", "spec.containers[0].resources.requests"], id="class"),
        pytest.param(
            {"requests": {"cpu": "1"}},
            {"requests": {"cpu": "1", "ephemeral-storage": "1Gi"}},
            ["spec.containers[0].resources.requests"],
            id="another-resource",
        ),
    ],
)
def test_resize(before: dict[str, Any], after: dict[str, Any], fields: list[str]) -> None:
    found = rules(PODS).validate_update(pod(**after), pod(**before), "resize")
    assert [cause.field for cause in found] == fields
    if before != after:
        assert rules(PODS).validate_update(pod(**after), pod(**before)) != []


def test_an_ephemeral_container_may_be_added_and_not_changed() -> None:
    old = pod()
    new = deepcopy(old)
    container = {"name": "debug", "image": "busybox", "terminationMessagePolicy": "File", "imagePullPolicy": "Always"}
    new["spec"]["ephemeralContainers"] = [container]
    assert rules(PODS).validate_update(new, old, "ephemeralcontainers") == []
    changed = deepcopy(new)
    changed["spec"]["ephemeralContainers"][0]["image"] = "other"
    assert rules(PODS).validate_update(changed, new, "ephemeralcontainers") != []


def test_an_approval_changes_the_status_alone() -> None:
    old: Object = {"metadata": {"name": "r"}, "spec": {"signerName": "a/b"}, "status": {}}
    approved = {"conditions": [{"type": "Approved"}]}
    new: Object = {"metadata": {"name": "r"}, "spec": {"signerName": "c/d"}, "status": approved}
    rules(CERTIFICATESIGNINGREQUESTS).prepare_update(new, old, "approval")
    assert new["spec"] == {"signerName": "a/b"}
    assert new["status"]["conditions"] == [{"type": "Approved"}]
