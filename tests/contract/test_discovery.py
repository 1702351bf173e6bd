"""What clients ask first: versions, groups, resources, the OpenAPI documents, health."""

from __future__ import annotations

import pytest

from orchestrator.api.wire import Request
from orchestrator.client.client import Client
from tests.contract.objects import call

pytestmark = pytest.mark.asyncio(loop_scope="session")
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


async def test_version(client: Client) -> None:
    code, version = await call(client, "GET", "/version")
    assert (code, version["major"]) == (200, "1")
    assert version["gitVersion"].startswith(f"v1.{version['minor'].rstrip('+')}.")


async def test_groups_and_their_resources(client: Client) -> None:
    _, core = await call(client, "GET", "/api")
    assert (core["kind"], core["versions"]) == ("APIVersions", ["v1"])
    _, groups = await call(client, "GET", "/apis")
    apps = next(group for group in groups["groups"] if group["name"] == "apps")
    assert apps["preferredVersion"] == {"groupVersion": "apps/v1", "version": "v1"}
    _, listed = await call(client, "GET", "/apis/apps/v1")
    rows = {row["name"]: row for row in listed["resources"]}
    assert rows["deployments"] == {
        "name": "deployments",
        "singularName": "deployment",
        "namespaced": True,
        "kind": "Deployment",
        "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
        "shortNames": ["deploy"],
        "categories": ["all"],
        "storageVersionHash": rows["deployments"]["storageVersionHash"],
    }
    assert (rows["deployments/scale"]["group"], rows["deployments/scale"]["kind"]) == ("autoscaling", "Scale")


async def test_aggregated_discovery_says_the_same(client: Client) -> None:
    code, found = await call(client, "GET", "/apis", accept=AGGREGATED)
    assert (code, found["kind"]) == (200, "APIGroupDiscoveryList")
    for group in found["items"]:
        for version in group["versions"]:
            path = f"/apis/{group['metadata']['name']}/{version['version']}"
            _, listed = await call(client, "GET", path)
            plain = {row["name"] for row in listed["resources"] if "/" not in row["name"]}
            assert {row["resource"] for row in version.get("resources", ())} == plain


async def test_every_listed_kind_can_be_listed(client: Client) -> None:
    for root in ("/api/v1", "/apis/apps/v1", "/apis/batch/v1", "/apis/networking.k8s.io/v1", "/apis/storage.k8s.io/v1"):
        _, listed = await call(client, "GET", root)
        for row in listed["resources"]:
            if "list" in row["verbs"] and "/" not in row["name"]:
                code, found = await call(client, "GET", f"{root}/{row['name']}?limit=1")
                assert code == 200
                assert found["kind"] == f"{row['kind']}List" or found["kind"] == "ComponentStatusList"


async def test_openapi(client: Client) -> None:
    _, index = await call(client, "GET", "/openapi/v3")
    entry = index["paths"]["apis/apps/v1"]
    assert "?hash=" in entry["serverRelativeURL"]
    code, document = await call(client, "GET", entry["serverRelativeURL"])
    assert (code, document["openapi"].split(".")[0]) == (200, "3")
    assert "/apis/apps/v1/namespaces/{namespace}/deployments/{name}" in document["paths"]
    assert "io.k8s.api.apps.v1.Deployment" in document["components"]["schemas"]
    code, whole = await call(client, "GET", "/openapi/v2")
    assert (code, whole["swagger"]) == (200, "2.0")
    assert "io.k8s.api.apps.v1.Deployment" in whole["definitions"]


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz"])
async def test_health(client: Client, path: str) -> None:
    answer = await client.request(Request("GET", path, [], {}, b""))
    assert (answer.status, answer.body) == (200, b"ok")
