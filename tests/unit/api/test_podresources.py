"""What a pod is charged for while it is resized in place."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.api.meta import Object
from orchestrator.api.podresources import in_force
from orchestrator.api.quota_usage import usage
from orchestrator.scheduler.pod import Demands, parse_pod


def pod(asked: str, promised: str, actual: str, reason: str = "") -> Object:
    told = {"name": "c", "allocatedResources": {"cpu": promised}, "resources": amounts(actual)}
    return {
        "metadata": {"name": "web", "namespace": "default", "uid": "u"},
        "spec": {"containers": [{"name": "c", "image": "i", "resources": amounts(asked)}]},
        "status": {
            "phase": "Running",
            "containerStatuses": [told],
            "conditions": [{"type": "PodResizePending", "status": "True", "reason": reason}] if reason else [],
        },
    }


def amounts(cpu: str) -> dict[str, Any]:
    return {"requests": {"cpu": cpu}, "limits": {"cpu": cpu}}


@pytest.mark.parametrize(
    ("obj", "requests", "limits"),
    [
        pytest.param(pod("1", "1", "1"), 1000, 1000, id="as-it-is"),
        pytest.param(pod("2", "1", "1", "Deferred"), 2000, 2000, id="more-is-asked"),
        pytest.param(pod("9", "1", "1", "Infeasible"), 1000, 1000, id="what-can-never-be-is-not-counted"),
        pytest.param(pod("1", "1", "2"), 2000, 2000, id="less-is-asked-and-not-yet-set"),
        pytest.param(pod("1", "3", "1"), 3000, 1000, id="promised"),
    ],
)
def test_the_most_that_anybody_says_counts(obj: Object, requests: int, limits: int) -> None:
    assert dict(parse_pod(obj, Demands()).demand.requests) == {"cpu": requests}
    charged = usage("pods", obj, 0.0).amounts
    assert (charged["requests.cpu"] * 1000, charged["limits.cpu"] * 1000) == (requests, limits)


def test_of_init_containers_sidecars_alone_are_resized() -> None:
    obj = pod("1", "1", "1")
    told = obj["status"]["containerStatuses"][0]
    obj["spec"]["initContainers"] = [
        {"name": "first", "resources": amounts("3")},
        {"name": "beside", "resources": amounts("1"), "restartPolicy": "Always"},
    ]
    obj["status"]["initContainerStatuses"] = [
        {**told, "name": name, "resources": amounts("4")} for name in ("first", "beside")
    ]
    first, beside = in_force(obj)["initContainers"]
    assert (first["resources"]["requests"]["cpu"], beside["resources"]["requests"]["cpu"]) == ("3", "4")


def test_a_pod_whose_containers_tell_nothing_is_charged_for_its_spec() -> None:
    obj = pod("1", "1", "1")
    del obj["status"]["containerStatuses"]
    assert in_force(obj) is obj["spec"]


def test_resources_of_the_pod_as_a_whole_count_the_same_way() -> None:
    obj = pod("1", "1", "1")
    obj["spec"]["resources"] = amounts("2")
    obj["status"] |= {"resources": amounts("4"), "allocatedResources": {"cpu": "3"}}
    assert in_force(obj)["resources"]["requests"] == {"cpu": "4"}
