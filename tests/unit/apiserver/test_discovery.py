"""Discovery, OpenAPI, version and health: documents computed from the table."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from orchestrator.api.clock import FixedClock
from orchestrator.api.resources import DEPLOYMENTS, PODS, ResourceTable
from orchestrator.api.status import NotFound
from orchestrator.api.wire import Request, Response
from orchestrator.apiserver.discovery import Discovery
from orchestrator.apiserver.encoding import JSON, PROTOBUF
from orchestrator.apiserver.health import Health
from orchestrator.apiserver.openapi.documents import document_v2, document_v3
from orchestrator.apiserver.openapi.serving import OpenApi
from orchestrator.apiserver.protobuf import openapi_v3
from orchestrator.apiserver.protobuf.decoding import decode
from orchestrator.apiserver.version import info

TABLE = ResourceTable()
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"


def read(answer: Response) -> Any:
    assert isinstance(answer.body, bytes)
    return orjson.loads(answer.body)


async def test_the_levels() -> None:
    discovery = Discovery(TABLE)
    assert read(await discovery.core(Request("GET", "/api")))["versions"] == ["v1"]
    groups = {group["name"]: group for group in read(await discovery.groups(Request("GET", "/apis")))["groups"]}
    assert groups["autoscaling"]["preferredVersion"] == {"groupVersion": "autoscaling/v2", "version": "v2"}
    assert len(groups["autoscaling"]["versions"]) == 2
    listed = read(await discovery.core(Request("GET", "/api/v1")))
    by_name = {resource["name"]: resource for resource in listed["resources"]}
    assert by_name["pods"]["shortNames"] == ["po"]
    assert by_name["pods/eviction"] == {
        "name": "pods/eviction", "singularName": "", "namespaced": True, "kind": "Eviction", "verbs": ["create"],
        "group": "policy", "version": "v1",
    }  # fmt: skip
    with pytest.raises(NotFound):
        await discovery.groups(Request("GET", "/apis/apps/v1/x"))
    for path in ("/apis/nothing", "/apis/apps/v9", "/apis/apps/v9/x"):
        missing = await discovery.groups(Request("GET", path))
        assert (missing.status, missing.body) == (404, b"404 page not found\n")


async def test_all_at_once_where_the_client_takes_it() -> None:
    answer = await Discovery(TABLE).groups(Request("GET", "/apis", headers={"accept": AGGREGATED}))
    assert answer.headers["content-type"] == "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    (apps,) = [item for item in read(answer)["items"] if item["metadata"]["name"] == "apps"]
    (version,) = apps["versions"]
    (found,) = [one for one in version["resources"] if one["resource"] == "deployments"]
    assert (found["scope"], found["responseKind"]["kind"]) == ("Namespaced", "Deployment")
    assert {sub["subresource"] for sub in found["subresources"]} == {"status", "scale"}


async def test_in_protobuf() -> None:
    discovery = Discovery(TABLE)
    wanted = AGGREGATED.replace("application/json", PROTOBUF)
    kind = f"{PROTOBUF};g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    for path, accept, media_type in (
        ("/api", PROTOBUF, PROTOBUF),
        ("/api/v1", PROTOBUF, PROTOBUF),
        ("/apis", PROTOBUF, PROTOBUF),
        ("/apis/apps/v1", PROTOBUF, PROTOBUF),
        ("/apis", wanted, kind),
        ("/apis", f"{JSON},{wanted}", kind),
    ):
        ask = discovery.core if path.split("/")[1] == "api" else discovery.groups
        answer = await ask(Request("GET", path, headers={"accept": accept}))
        assert answer.headers["content-type"] == media_type
        assert isinstance(answer.body, bytes)
        told = read(await ask(Request("GET", path, headers={"accept": AGGREGATED if media_type == kind else JSON})))
        assert without_empty(decode(answer.body)) == without_empty(told)


def without_empty(value: Any) -> Any:
    if isinstance(value, list):
        return [without_empty(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    return {key: without_empty(inner) for key, inner in value.items() if inner not in ([], {}, "")}


async def test_what_the_client_has_is_not_sent_again() -> None:
    discovery = Discovery(TABLE)
    etag = (await discovery.core(Request("GET", "/api/v1"))).headers["etag"]
    again = await discovery.core(Request("GET", "/api/v1", headers={"if-none-match": etag}))
    assert (again.status, again.body) == (304, b"")


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        found = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return found.union(*map(references, value.values()))
    return set().union(*map(references, value)) if isinstance(value, list) else set()


def test_openapi_documents_hold_all_that_they_refer_to() -> None:
    three, two = document_v3([PODS, DEPLOYMENTS]), document_v2([PODS, DEPLOYMENTS])
    schemas = {f"#/components/schemas/{name}" for name in three["components"]["schemas"]}
    assert references(three) <= schemas
    assert references(two) <= {f"#/definitions/{name}" for name in two["definitions"]}
    patch = three["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"]
    assert patch["x-kubernetes-group-version-kind"] == {"group": "apps", "version": "v1", "kind": "Deployment"}
    assert "fieldValidation" in {parameter["name"] for parameter in patch["parameters"]}
    containers = three["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"]
    assert (containers["type"], containers["x-kubernetes-patch-merge-key"]) == ("array", "name")


async def test_openapi_lists_its_documents_by_hash() -> None:
    openapi = OpenApi(TABLE, FixedClock())
    paths = read(await openapi.v3(Request("GET", "/openapi/v3")))["paths"]
    url = paths["apis/apps/v1"]["serverRelativeURL"]
    path, _, query = url.partition("?hash=")
    answer = await openapi.v3(Request("GET", path, [("hash", query)]))
    assert "immutable" in answer.headers["cache-control"]
    assert read(answer)["openapi"] == "3.0.0"
    assert answer.headers["etag"] == f'"{query}"'
    assert answer.headers["expires"] == "Wed, 13 Nov 2024 22:13:20 GMT"
    with pytest.raises(NotFound):
        await openapi.v3(Request("GET", "/openapi/v3/apis/none/v1"))
    old = await openapi.v3(Request("GET", path, [("hash", "0AB1")]))
    assert (old.status, old.headers["location"]) == (301, url)


async def test_what_is_no_resource_has_documents_too() -> None:
    """Paths, operations and definitions as kube-apiserver v1.36 has them."""
    openapi = OpenApi(TABLE, FixedClock())
    paths = read(await openapi.v3(Request("GET", "/openapi/v3")))["paths"]
    assert list(paths)[:4] == [".well-known/openid-configuration", "api", "api/v1", "apis"]
    assert {"apis/apps", "apis/apps/v1", "apis/rbac.authorization.k8s.io"} <= paths.keys()
    assert list(paths)[-2:] == ["openid/v1/jwks", "version"]
    found = read(await openapi.v3(Request("GET", "/openapi/v3/apis/apps")))
    operation = found["paths"]["/apis/apps/"]["get"]
    assert (operation["operationId"], operation["tags"]) == ("getAppsAPIGroup", ["apps"])
    meta = "io.k8s.apimachinery.pkg.apis.meta.v1."
    assert sorted(found["components"]["schemas"]) == [
        f"{meta}{kind}" for kind in ("APIGroup", "GroupVersionForDiscovery", "ServerAddressByClientCIDR")
    ]
    for path in ("api", "version", "openid/v1/jwks", ".well-known/openid-configuration"):
        found = read(await openapi.v3(Request("GET", f"/openapi/v3/{path}")))
        assert list(found["paths"]) == [f"/{path}/"]
    resources = read(await openapi.v3(Request("GET", "/openapi/v3/apis/apps/v1")))["paths"]["/apis/apps/v1/"]["get"]
    assert resources["operationId"] == "getAppsV1APIResources"
    older = document_v2([PODS], ())
    assert older["paths"]["/api/v1/"]["get"]["tags"] == ["core_v1"]


BINARY = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf"


@pytest.mark.parametrize("accept", [BINARY, "application/com.github.proto-openapi.spec.v3@v1.0+protobuf"])
async def test_version_3_is_also_served_in_protobuf(accept: str) -> None:
    openapi = OpenApi(TABLE, FixedClock())
    answer = await openapi.v3(Request("GET", "/openapi/v3/apis/apps/v1", headers={"accept": accept}))
    assert answer.headers["content-type"] == BINARY
    plain = await openapi.v3(Request("GET", "/openapi/v3/apis/apps/v1"))
    assert answer.headers["etag"] == plain.headers["etag"]
    assert answer.body == openapi_v3.document(read(plain))
    again = await openapi.v3(
        Request("GET", "/openapi/v3/apis/apps/v1", headers={"accept": accept, "if-none-match": answer.headers["etag"]})
    )
    assert (again.status, again.body) == (304, b"")


def test_version_is_semver_of_v1_36() -> None:
    assert (info()["major"], info()["minor"]) == ("1", "36")
    assert info()["gitVersion"].startswith("v1.36.0")


async def test_health() -> None:
    health = Health(live={"ping": lambda: None}, ready={"start": lambda: "not yet"})
    assert (await health.livez(Request("GET", "/livez"))).body == b"ok"
    answer = await health.readyz(Request("GET", "/readyz"))
    assert (answer.status, answer.body) == (
        500,
        b"[+]ping ok\n[-]start failed: reason withheld\nreadyz check failed\n",
    )
    assert (await health.readyz(Request("GET", "/readyz", [("exclude", "start")]))).status == 200
    assert (await health.readyz(Request("GET", "/readyz/ping"))).status == 200
    assert (await health.readyz(Request("GET", "/readyz/other"))).status == 404
    failed = await health.readyz(Request("GET", "/readyz/start"))
    assert (failed.status, failed.body) == (500, b"internal server error: not yet\n")
    unknown = await health.livez(Request("GET", "/livez", [("verbose", ""), ("exclude", "other")]))
    assert b'warn: some health checks cannot be excluded: no matches for "other"\n' in bytes(unknown.body)
    verbose = await health.livez(Request("GET", "/livez", [("verbose", "")]))
    assert verbose.body == b"[+]ping ok\nlivez check passed\n"
