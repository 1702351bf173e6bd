"""What a write to a part of an object takes from the body, and whose record it keeps."""

from __future__ import annotations

from tests.apiserver_fixture import serving
from tests.unit.apiserver.rest import PODS, call, pod


async def test_an_applied_ephemeral_container_is_its_appliers() -> None:
    async with serving() as served:
        await call(served, "POST", PODS, pod("a"))
        debug = {"name": "debug", "image": "busybox:1"}
        wanted = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "a"},
            "spec": {"ephemeralContainers": [debug]},
        }
        url = f"{PODS}/a/ephemeralcontainers?fieldManager=debugger"
        code, found = await call(served, "PATCH", url, wanted, content_type="application/apply-patch+yaml")
        assert code == 200
        owners = {entry["manager"]: entry for entry in found["metadata"]["managedFields"]}
        assert owners["debugger"]["operation"] == "Apply"
        assert 'k:{"name":"debug"}' in owners["debugger"]["fieldsV1"]["f:spec"]["f:ephemeralContainers"]


async def test_finalizing_a_namespace_may_change_its_metadata() -> None:
    async with serving() as served:
        _, found = await call(served, "POST", "/api/v1/namespaces", {"metadata": {"name": "a"}})
        found["metadata"]["annotations"] = {"by": "me"}
        found["spec"]["finalizers"].append("example.com/mine")
        found["status"] = {"phase": "Terminating"}
        code, found = await call(served, "PUT", "/api/v1/namespaces/a/finalize", found)
        assert (code, found["metadata"].get("annotations")) == (200, {"by": "me"})
        assert found["spec"]["finalizers"] == ["kubernetes", "example.com/mine"]
        assert found["status"]["phase"] == "Active"
