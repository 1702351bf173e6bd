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
            ["spec"],
            id="another-resource",
        ),
    ],
)
def test_resize(before: dict[str, Any], after: dict[str, Any], fields: list[str]) -> None:
    found = rules(PODS).validate_update(pod(**after), pod(**before), "resize")
    assert [cause.field for cause in found] == fields
    if before != after:
        assert rules(PODS).validate_update(pod(**after), pod(**before)) != []


def resized(new: Object, old: Object) -> list[str]:
    return [f"{cause.field}: {cause.message}" for cause in rules(PODS).validate_update(new, old, "resize")]


def test_a_pod_is_resized_as_a_whole() -> None:
    old = pod(requests={"cpu": "1"})
    old["spec"]["resources"] = {"requests": {"cpu": "1", "memory": "1Gi"}}
    new = deepcopy(old)
    new["spec"]["resources"]["requests"]["cpu"] = "2"
    assert resized(new, old) == []
    del new["spec"]["resources"]["requests"]["memory"]
    removed = "spec.resources.requests: Forbidden: pod-level resource requests cannot be removed"
    assert resized(new, old) == [removed]
    del new["spec"]["resources"]
    assert "spec.resources: Forbidden: pod-level resources cannot be removed" in resized(new, old)


def test_containers_stay_where_they_are() -> None:
    old = pod(requests={"cpu": "1"})
    new = deepcopy(old)
    new["spec"]["containers"][0]["name"] = "other"
    told = "spec.containers[0].name: Forbidden: containers may not be renamed or reordered on resize"
    assert resized(new, old) == [told]
    new["spec"]["containers"] += deepcopy(old["spec"]["containers"])
    assert resized(new, old) == ["spec.containers: Forbidden: containers may not be added or removed on resize"]


def test_neither_static_pods_nor_those_of_an_old_node_are_resized() -> None:
    old = pod(requests={"cpu": "1"})
    new = deepcopy(old)
    old["status"]["containerStatuses"] = [{"name": "c", "state": {"running": {}}}]
    assert resized(new, old) == ["spec: Forbidden: Pod running on node without support for resize"]
    for each in (old, new):
        each["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "hash"}
    assert resized(new, old) == [": Forbidden: static pods cannot be resized"]


def test_an_init_container_that_is_no_sidecar_may_not_want_a_restart() -> None:
    old = pod(requests={"cpu": "1"})
    policy = [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]
    init = {"name": "i", "image": "i", "resources": {"requests": {"cpu": "1"}}, "resizePolicy": policy}
    old["spec"]["initContainers"] = [init]
    rules(PODS).default(old)
    new = deepcopy(old)
    assert resized(new, old) == []
    new["spec"]["initContainers"][0]["resources"]["requests"]["cpu"] = "2"
    told = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized"
    assert resized(new, old) == [f"spec.initContainers[0]: Forbidden: {told}"]


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
