"""Writes of `/scale`, by every verb: the number, and who owns it in the object, as kube-apiserver v1.36.3 answered."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from orchestrator.api.custom import CustomKind, ScalePaths
from orchestrator.api.meta import Object
from orchestrator.api.patch import managed_fields
from orchestrator.api.patch.scale_fields import path_of, to_parent, to_scale
from orchestrator.api.resources import Resource
from orchestrator.api.status import BadRequest, InternalError
from orchestrator.apiserver.scale import replicas_paths, rescaled, scale_of
from tests.apiserver_fixture import Served, serving
from tests.unit.apiserver.rest import call

DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
APPLY, MERGE = "application/apply-patch+yaml", "application/merge-patch+json"
TEMPLATE = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}}


def deployment(replicas: int) -> dict[str, Any]:
    spec = {"replicas": replicas, "selector": {"matchLabels": {"a": "b"}}, "template": TEMPLATE}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}


def scale(**more: Any) -> dict[str, Any]:
    return {"apiVersion": "autoscaling/v1", "kind": "Scale", **more}


async def apply(served: Served, manager: str, body: Any, query: str = "", what: str = "/scale") -> tuple[int, Any]:
    url = f"{DEPLOYMENTS}/web{what}?fieldManager={manager}{query}"
    return await call(served, "PATCH", url, body, content_type=APPLY)


async def owners(served: Served) -> list[tuple[str, str, str, str, bool, bool]]:
    """(manager, operation, version, subresource, owns replicas, has a time) of each entry."""
    _, found = await call(served, "GET", f"{DEPLOYMENTS}/web")
    return [
        (
            entry["manager"], entry["operation"], entry["apiVersion"], entry.get("subresource", ""),
            "f:replicas" in entry["fieldsV1"].get("f:spec", {}), "time" in entry,
        )
        for entry in found["metadata"]["managedFields"]
    ]  # fmt: skip


def conflict(whom: str) -> str:
    return f"Apply failed with 1 conflict: conflict with {whom}: .spec.replicas"


async def test_the_number_changes_hands() -> None:
    async with serving() as served:
        assert (await apply(served, "owner", deployment(3), what=""))[0] == 201
        owner = ("owner", "Apply", "apps/v1", "", True, True)
        assert await owners(served) == [owner]

        status, answer = await apply(served, "scaler", scale(spec={"replicas": 5}))
        assert (status, answer["message"]) == (409, conflict('"owner"'))
        assert await owners(served) == [owner]

        status, answer = await apply(served, "scaler", scale(spec={"replicas": 5}), "&force=true")
        assert (status, answer["kind"], answer["spec"]) == (200, "Scale", {"replicas": 5})
        assert answer["status"] == {"replicas": 0, "selector": "a=b"}
        assert "managedFields" not in answer["metadata"]
        owner = ("owner", "Apply", "apps/v1", "", False, True)
        scaler = ("scaler", "Apply", "apps/v1", "scale", True, False)
        assert await owners(served) == [scaler, owner]

        again, same = await apply(served, "scaler", scale(spec={"replicas": 5}))
        assert (again, same["metadata"]["resourceVersion"]) == (200, answer["metadata"]["resourceVersion"])

        same["spec"]["replicas"] = 6
        assert (await call(served, "PUT", f"{DEPLOYMENTS}/web/scale?fieldManager=putter", same))[0] == 200
        assert await owners(served) == [owner, ("putter", "Update", "apps/v1", "scale", True, False)]

        status, answer = await apply(served, "scaler", scale(spec={"replicas": 5}))
        whom = '"putter" with subresource "scale" using autoscaling/v1'
        assert (status, answer["message"]) == (409, conflict(whom))

        for replicas in (7, 8):
            patch, url = {"spec": {"replicas": replicas}}, f"{DEPLOYMENTS}/web/scale?fieldManager=merger"
            assert (await call(served, "PATCH", url, patch, content_type=MERGE))[1]["spec"] == patch["spec"]
            assert await owners(served) == [owner, ("merger", "Update", "apps/v1", "scale", True, False)]

        status, answer = await apply(served, "owner", deployment(3), what="")
        assert (status, answer["message"]) == (409, conflict('"merger" with subresource "scale" using apps/v1'))


async def test_who_no_longer_says_a_number_gives_it_up() -> None:
    async with serving() as served:
        await apply(served, "owner", deployment(3), what="")
        await apply(served, "scaler", scale(spec={"replicas": 5}), "&force=true")
        status, answer = await apply(served, "scaler", scale())
        assert (status, answer["spec"]) == (200, {})  # a number of 0 is left out
        assert await owners(served) == [("owner", "Apply", "apps/v1", "", False, True)]


async def test_nothing_but_the_number_is_taken() -> None:
    async with serving() as served:
        await apply(served, "owner", deployment(3), what="")
        more = scale(metadata={"labels": {"x": "y"}}, spec={"replicas": 5}, status={"replicas": 9})
        status, answer = await apply(served, "scaler", more, "&force=true")
        assert (status, answer["status"]["replicas"]) == (200, 0)
        assert "labels" not in answer["metadata"]
        assert (await owners(served))[0] == ("scaler", "Apply", "apps/v1", "scale", True, False)
        _, found = await call(served, "GET", f"{DEPLOYMENTS}/web")
        assert "labels" not in found["metadata"] and found["spec"]["replicas"] == 5
        assert found["metadata"]["managedFields"][0]["fieldsV1"] == {"f:spec": {"f:replicas": {}}}


@pytest.mark.parametrize(
    ("body", "query", "status", "message"),
    [
        (
            scale(spec={"replicas": -1}), "?fieldManager=x&force=true", 422,
            'Scale.autoscaling "web" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0',
        ),
        (
            scale(spec={"replicas": 1}), "", 422,
            'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch',
        ),
        (
            {"apiVersion": "apps/v1", "kind": "Deployment"}, "?fieldManager=x", 400,
            "invalid object type: apps/v1, Kind=Deployment",
        ),
        (
            scale(metadata={"resourceVersion": "1"}, spec={"replicas": 1}), "?fieldManager=x&force=true", 409,
            'Operation cannot be fulfilled on deployments.apps "web": the object has been modified; please apply your '
            "changes to the latest version and try again",
        ),
    ],
)  # fmt: skip
async def test_faults(body: Any, query: str, status: int, message: str) -> None:
    async with serving() as served:
        await apply(served, "owner", deployment(3), what="")
        found = await call(served, "PATCH", f"{DEPLOYMENTS}/web/scale{query}", body, content_type=APPLY)
        assert (found[0], found[1]["message"]) == (status, message)


async def test_there_is_no_scale_of_nothing() -> None:
    async with serving() as served:
        status, answer = await apply(served, "x", scale(spec={"replicas": 1}), "&force=true")
        assert (status, answer["message"]) == (404, 'deployments.apps "web" not found')


def test_a_custom_object_without_a_number_must_be_given_one() -> None:
    custom = CustomKind("Thing", {}, scale=ScalePaths(".spec.size", ".status.size"))
    row = Resource("example.com", "v1", "things", "Thing", custom=custom)
    parent: Object = {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "t"}, "spec": {}}
    with pytest.raises(InternalError, match=r'the spec replicas field ".spec.size" does not exist'):
        scale_of(parent, custom.scale)
    with pytest.raises(BadRequest, match=r'the spec replicas field ".spec.size" cannot be empty'):
        rescaled(parent, row, replicas_paths([row]), lambda found: found)
    made = rescaled(parent, row, replicas_paths([row]), lambda found: {**found, "spec": {"replicas": 4}})
    assert made["spec"] == {"size": 4}


def entry(manager: str, api_version: str, fields: Any, **more: Any) -> dict[str, Any]:
    named = {"manager": manager, "operation": "Update", "apiVersion": api_version, "fieldsType": "FieldsV1"}
    return {**named, "time": "2026-01-01T00:00:00Z", "fieldsV1": fields, **more}


def test_each_version_has_its_own_path() -> None:
    paths = {
        "example.com/v1": path_of(".spec.size"),
        "example.com/v2": path_of(".spec.a.count"),
        "example.com/v3": None,
    }
    entries = [
        entry("one", "example.com/v1", {"f:spec": {"f:size": {}, "f:other": {}}}),
        entry("two", "example.com/v2", {"f:spec": {"f:a": {"f:count": {}}}}),
        entry("three", "example.com/v3", {"f:spec": {"f:size": {}}}),
        entry("gone", "example.com/v0", {"f:spec": {"f:size": {}}}),
    ]
    parent = managed_fields.decode(entries)
    scaled = to_scale(parent, paths)
    assert sorted(manager.name for manager in scaled) == ["one", "two"]
    kept = to_parent(parent, scaled, paths, "example.com/v2")
    assert sorted(manager.name for manager in kept) == ["one", "three", "two"]
    writer = managed_fields.Writer("four", "autoscaling/v1", "2026-01-02T00:00:00Z", "scale")
    mine = managed_fields.Manager("four", "Apply", "", "scale")
    taken = {mine: managed_fields.Owned(next(iter(scaled.values())).fields, writer.api_version, writer.now)}
    left = managed_fields.encode(to_parent(parent, taken, paths, "example.com/v2"))
    assert [(one["manager"], one["apiVersion"], orjson.dumps(one["fieldsV1"]).decode()) for one in left] == [
        ("four", "example.com/v2", '{"f:spec":{"f:a":{"f:count":{}}}}'),
        ("one", "example.com/v1", '{"f:spec":{"f:other":{}}}'),
        ("three", "example.com/v3", '{"f:spec":{"f:size":{}}}'),
    ]
