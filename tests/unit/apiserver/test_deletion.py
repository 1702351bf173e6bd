"""Deletion: the plan as a table, then the whole way through the server."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.api.clock import FixedClock
from orchestrator.apiserver.deletion import finalizers_for, plan
from orchestrator.apiserver.options import DeleteOptions
from tests.apiserver_fixture import serving
from tests.unit.apiserver.rest import CONFIGMAPS, PODS, call, configmap, pod

NOW = 1_700_000_000.0


def stored(spec: dict[str, Any] | None = None, phase: str = "Running", **metadata: Any) -> dict[str, Any]:
    named = {"name": "p", "namespace": "default", "uid": "u", "resourceVersion": "5", **metadata}
    return {"kind": "Pod", "metadata": named, "spec": spec or {}, "status": {"phase": phase}}


ON_NODE = {"nodeName": "n", "terminationGracePeriodSeconds": 30}
MARKED = {"deletionTimestamp": "2023-11-14T22:13:50Z", "deletionGracePeriodSeconds": 30}
GRACE = [
    pytest.param(stored({}), None, (True, None), id="an-unscheduled-pod-goes-at-once"),
    pytest.param(stored(ON_NODE), None, (False, 30), id="a-running-pod-has-its-grace-period"),
    pytest.param(stored(ON_NODE), 5, (False, 5), id="or-the-one-asked-for"),
    pytest.param(stored(ON_NODE), 0, (True, None), id="grace-0-takes-it-at-once"),
    pytest.param(stored(ON_NODE, "Succeeded"), None, (True, None), id="a-finished-pod-goes-at-once"),
    pytest.param(stored(ON_NODE, **MARKED), 10, (False, 10), id="grace-can-be-shortened"),
    pytest.param(stored(ON_NODE, **MARKED), 60, (False, 30), id="but-not-lengthened"),
    pytest.param(stored(ON_NODE, **MARKED), 0, (True, None), id="the-kubelet-is-done"),
    pytest.param(stored(ON_NODE, finalizers=["a/b"]), 0, (False, 0), id="a-finalizer-holds-it"),
]


@pytest.mark.parametrize(("old", "grace_s", "wanted"), GRACE)
def test_grace(old: dict[str, Any], grace_s: int | None, wanted: tuple[bool, int | None]) -> None:
    planned = plan(old, "pods", DeleteOptions(grace_period_s=grace_s), NOW)
    is_removed, left_s = wanted
    assert planned.is_removed == is_removed
    if left_s is not None:
        assert planned.obj["metadata"]["deletionGracePeriodSeconds"] == left_s


def test_deleting_again_changes_nothing() -> None:
    first = plan(stored(ON_NODE), "pods", DeleteOptions(), NOW).obj
    assert plan(first, "pods", DeleteOptions(), NOW + 5).is_unchanged


FINALIZERS = [
    (["x/y"], "deployments.apps", None, ["x/y"]),
    (["x/y"], "deployments.apps", "Foreground", ["x/y", "foregroundDeletion"]),
    (["foregroundDeletion"], "deployments.apps", "Orphan", ["orphan"]),
    (["orphan"], "deployments.apps", "Background", []),
    (["orphan"], "deployments.apps", None, ["orphan"]),
    ([], "jobs.batch", None, ["orphan"]),
    ([], "jobs.batch", "Background", []),
]


@pytest.mark.parametrize(("present", "kind", "policy", "wanted"), FINALIZERS)
def test_a_propagation_policy_is_a_finalizer(
    present: list[str], kind: str, policy: str | None, wanted: list[str]
) -> None:
    assert finalizers_for(present, kind, policy) == wanted


async def test_delete_answers_with_a_status_and_a_watcher_sees_the_last_state() -> None:
    async with serving() as served:
        _, made = await call(served, "POST", CONFIGMAPS, configmap("a", x="1"))
        status, answer = await call(served, "DELETE", f"{CONFIGMAPS}/a")
        assert (status, answer["status"]) == (200, "Success")
        assert answer["details"] == {"name": "a", "kind": "configmaps", "uid": made["metadata"]["uid"]}
        assert (await call(served, "GET", f"{CONFIGMAPS}/a"))[0] == 404


async def test_finalizers_hold_an_object_until_the_last_is_gone() -> None:
    async with serving(clock=FixedClock()) as served:
        body = configmap("a")
        body["metadata"]["finalizers"] = ["x.io/hold"]
        await call(served, "POST", CONFIGMAPS, body)
        status, held = await call(served, "DELETE", f"{CONFIGMAPS}/a")
        assert (status, held["metadata"]["deletionTimestamp"]) == (200, "2023-11-14T22:13:20Z")
        held["metadata"]["finalizers"].append("x.io/more")
        assert (await call(served, "PUT", f"{CONFIGMAPS}/a", held))[0] == 422
        held["metadata"]["finalizers"] = []
        assert (await call(served, "PUT", f"{CONFIGMAPS}/a", held))[0] == 200
        assert (await call(served, "GET", f"{CONFIGMAPS}/a"))[0] == 404


async def test_preconditions() -> None:
    async with serving() as served:
        _, made = await call(served, "POST", CONFIGMAPS, configmap("a"))
        uid = made["metadata"]["uid"]
        status, answer = await call(served, "DELETE", f"{CONFIGMAPS}/a", {"preconditions": {"uid": "other"}})
        assert (status, answer["reason"]) == (409, "Conflict")
        assert f"the UID in the precondition (other) does not match the UID in record ({uid})" in answer["message"]
        body = {"preconditions": {"uid": uid, "resourceVersion": "99"}}
        assert (await call(served, "DELETE", f"{CONFIGMAPS}/a", body))[0] == 409
        assert (await call(served, "DELETE", f"{CONFIGMAPS}/a", {"preconditions": {"uid": uid}}))[0] == 200


async def test_a_namespace_waits_for_its_own_finalizers() -> None:
    async with serving() as served:
        await call(served, "POST", "/api/v1/namespaces", {"metadata": {"name": "x"}})
        status, deleting = await call(served, "DELETE", "/api/v1/namespaces/x")
        assert (status, deleting["status"]["phase"]) == (200, "Terminating")
        deleting["spec"]["finalizers"] = []
        assert (await call(served, "PUT", "/api/v1/namespaces/x/finalize", deleting))[0] == 200
        assert (await call(served, "GET", "/api/v1/namespaces/x"))[0] == 404


async def test_deletecollection_takes_what_is_selected() -> None:
    async with serving() as served:
        for number in range(10):
            body = pod(f"p{number}")
            body["metadata"]["labels"] = {"odd": str(number % 2)}
            await call(served, "POST", PODS, body)
        status, answer = await call(served, "DELETE", f"{PODS}?labelSelector=odd%3D1")
        assert (status, answer["kind"], len(answer["items"])) == (200, "PodList", 5)
        _, left = await call(served, "GET", PODS)
        assert [item["metadata"]["name"] for item in left["items"]] == ["p0", "p2", "p4", "p6", "p8"]
        assert (await call(served, "DELETE", "/api/v1/pods"))[0] == 405
