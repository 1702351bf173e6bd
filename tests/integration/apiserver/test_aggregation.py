"""Aggregated API servers: a real HTTPS server of the test's, which believes the front proxy's certificate alone."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import aiohttp
import pytest
from aiohttp import web

from infra import pki
from infra.topology import Topology
from orchestrator.api import conditions
from orchestrator.api.resources import (
    APISERVICES,
    CONFIGMAPS,
    CUSTOMRESOURCEDEFINITIONS,
    ENDPOINTSLICES,
    SERVICES,
    Resource,
)
from orchestrator.api.status import Invalid
from orchestrator.api.wire import Request
from tests.whole_server import WholeServer, free_port, whole_server

Json = dict[str, Any]
FLUNDERS = Resource("wardle.example.com", "v1alpha1", "flunders", "Flunder")
ROOT = "/apis/wardle.example.com/v1alpha1"
ENTRIES = [
    {"name": "flunders", "singularName": "flunder", "namespaced": True, "kind": "Flunder", "verbs": ["get", "list"]},
    {"name": "flunders/status", "singularName": "", "namespaced": True, "kind": "Flunder", "verbs": ["get"]},
]
FLUNDER = {"apiVersion": "wardle.example.com/v1alpha1", "kind": "Flunder", "metadata": {"name": "one"}}
OF_PODS = "io.k8s.api.core.v1.Pod"
OLDER = {
    "swagger": "2.0",
    "info": {"title": "wardle", "version": "1"},
    "paths": {
        f"{ROOT}/flunders": {
            "get": {
                "produces": ["application/json"],
                "parameters": [{"name": "limit", "in": "query", "type": "integer"}],
                "responses": {"200": {"description": "OK", "schema": {"$ref": f"#/definitions/{OF_PODS}"}}},
            }
        },
        "/apis/other.example.com/v1/": {
            "get": {"responses": {"200": {"description": "OK", "schema": {"$ref": "#/definitions/Other"}}}}
        },
    },
    "definitions": {OF_PODS: {"type": "object", "description": "another"}, "Other": {"type": "object"}},
}


class Extension:
    """An aggregated server. `seen` has (method, path and query, headers, body) of every request below its resources."""

    def __init__(self, port: int) -> None:
        self.port, self.is_well = port, True
        self.is_old, self.hash = False, "1"  # of OpenAPI: version 2 alone; the hash of its document
        self.asked_by: list[str] = []
        self.seen: list[tuple[str, str, dict[str, list[str]], bytes]] = []
        self.more = asyncio.Event()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        tls = request.transport.get_extra_info("peercert") if request.transport is not None else None
        if not tls:
            return web.Response(status=401)
        if request.path == ROOT:
            body = {"kind": "APIResourceList", "groupVersion": ROOT.removeprefix("/apis/"), "resources": ENTRIES}
            return web.json_response(body) if self.is_well else web.Response(status=500)
        if request.path.startswith("/openapi/"):
            return self.published(request)
        headers = {name.lower(): request.headers.getall(name) for name in request.headers}
        self.seen.append((request.method, request.path_qs, headers, await request.read()))
        if request.headers.get("upgrade"):
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            async for message in socket:
                await socket.send_str(f"echo {message.data}")
            return socket
        if request.query.get("watch"):
            stream = web.StreamResponse(headers={"content-type": "application/json"})
            await stream.prepare(request)
            await stream.write(json.dumps({"type": "ADDED", "object": FLUNDER}).encode() + b"\n")
            await self.more.wait()
            await stream.write(json.dumps({"type": "DELETED", "object": FLUNDER}).encode() + b"\n")
            return stream
        return web.json_response(FLUNDER, status=201 if request.method == "POST" else 200)

    def published(self, request: web.Request) -> web.Response:
        """What it serves, and something that is not its own; a definition has a name that ours have, and is another."""
        if request.path == "/openapi/v2":
            if request.headers.get("if-none-match") == '"two"':
                return web.Response(status=304)
            return web.json_response(OLDER, headers={"etag": '"two"'})
        if self.is_old:
            return web.Response(status=404)
        if request.path == "/openapi/v3":
            url = f"/openapi/v3{ROOT}"
            return web.json_response({"paths": {ROOT.strip("/"): {"serverRelativeURL": f"{url}?hash={self.hash}"}}})
        self.asked_by.append(request.headers.get("x-remote-user", ""))
        paths = {f"{ROOT}/namespaces/{{namespace}}/flunders": {}}
        return web.json_response({"openapi": "3.0.0", "paths": paths, "x-accept": request.headers.get("accept")})


@asynccontextmanager
async def extension_server(keys: Path) -> AsyncIterator[Extension]:
    extension = Extension(free_port())
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", extension.serve)
    runner = web.AppRunner(app)
    await runner.setup()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(keys / "front-proxy-ca.crt"))
    tls.verify_mode = ssl.CERT_OPTIONAL
    tls.load_cert_chain(str(keys / "apiserver.crt"), str(keys / "apiserver.key"))
    await web.TCPSite(runner, "127.0.0.1", extension.port, ssl_context=tls).start()
    try:
        yield extension
    finally:
        extension.more.set()
        await runner.cleanup()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[WholeServer]:
    async with whole_server(tmp_path) as made:
        yield made


@pytest.fixture
async def extension(tmp_path: Path) -> AsyncIterator[Extension]:
    pki.ensure(tmp_path / "pki", Topology(name="test", workers=0))
    async with extension_server(tmp_path / "pki") as made:
        yield made


def api_service(port: int, **spec: Any) -> Json:
    """Its Service is an external name, which needs no proxy: `localhost` is in the server's certificate."""
    return {
        "metadata": {"name": "v1alpha1.wardle.example.com"},
        "spec": {
            "group": "wardle.example.com", "version": "v1alpha1", "groupPriorityMinimum": 2000, "versionPriority": 200,
            "service": {"name": "wardle", "namespace": "default", "port": port}, "insecureSkipTLSVerify": True, **spec,
        },
    }  # fmt: skip


def service(**spec: Any) -> Json:
    wanted = {"type": "ExternalName", "externalName": "localhost", **spec}
    return {"metadata": {"name": "wardle", "namespace": "default"}, "spec": wanted}


async def until_available(server: WholeServer, status: str, reason: str) -> Json:
    async with asyncio.timeout(20):
        while True:
            found = await server.admin.get(APISERVICES, "v1alpha1.wardle.example.com")
            shown = conditions.find((found.get("status") or {}).get("conditions"), "Available") or {}
            if (shown.get("status"), shown.get("reason")) == (status, reason):
                return shown
            await asyncio.sleep(0.02)


async def registered(server: WholeServer, extension: Extension, **spec: Any) -> None:
    await server.admin.create(SERVICES, service())
    await server.admin.create(APISERVICES, api_service(extension.port, **spec))
    await until_available(server, "True", "Passed")


async def get(server: WholeServer, path: str, accept: str = "application/json") -> Any:
    path, _, query = path.partition("?")
    answer = await server.admin.request(Request("GET", path, parse_qsl(query), headers={"accept": accept}))
    body = answer.body if isinstance(answer.body, bytes) else b"".join([chunk async for chunk in answer.body])
    assert answer.status == 200, body
    return json.loads(body)


async def test_what_the_server_serves_itself_is_registered(server: WholeServer) -> None:
    async with asyncio.timeout(10):
        while len(found := (await server.admin.list(APISERVICES)).items) < 20:
            await asyncio.sleep(0.01)
    by_name = {one["metadata"]["name"]: one for one in found}
    core = by_name["v1."]
    assert core["metadata"]["labels"] == {"kube-aggregator.kubernetes.io/automanaged": "onstart"}
    assert core["spec"] == {"version": "v1", "groupPriorityMinimum": 18000, "versionPriority": 1}
    assert core["status"]["conditions"][0] | {"lastTransitionTime": ""} == {
        "type": "Available", "status": "True", "reason": "Local", "lastTransitionTime": "",
        "message": "Local APIServices are always available",
    }  # fmt: skip
    assert by_name["v2.autoscaling"]["spec"]["versionPriority"] == 30
    assert "v1.apiregistration.k8s.io" not in by_name


async def test_those_of_custom_resources_come_and_go_with_them(server: WholeServer) -> None:
    schema = {"openAPIV3Schema": {"type": "object"}}
    definition = {
        "metadata": {"name": "boats.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "boats", "kind": "Boat"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }  # fmt: skip
    await server.admin.create(CUSTOMRESOURCEDEFINITIONS, definition)

    async def names() -> list[str]:
        return [one["metadata"]["name"] for one in (await server.admin.list(APISERVICES)).items]

    async with asyncio.timeout(10):
        while "v1.example.com" not in await names():
            await asyncio.sleep(0.01)
        found = await server.admin.get(APISERVICES, "v1.example.com")
        assert found["metadata"]["labels"] == {"kube-aggregator.kubernetes.io/automanaged": "true"}
        await server.admin.delete(APISERVICES, "v1.example.com")  # by mistake: it is wanted
        while "v1.example.com" not in await names():
            await asyncio.sleep(0.01)
        await server.admin.delete(CUSTOMRESOURCEDEFINITIONS, "boats.example.com")
        while "v1.example.com" in await names():
            await asyncio.sleep(0.01)


async def test_requests_go_there_with_the_name_of_who_asks(server: WholeServer, extension: Extension) -> None:
    await registered(server, extension)
    path = f"{ROOT}/namespaces/default/flunders"
    headers = {"content-type": "application/json", "x-remote-user": "somebody-else", "authorization": "Bearer secret"}
    answer = await server.admin.request(
        Request("POST", path, [("dryRun", "All")], headers, json.dumps(FLUNDER).encode())
    )
    assert answer.status == 201
    method, where, seen, body = extension.seen[-1]
    assert (method, where, json.loads(body)) == ("POST", f"{path}?dryRun=All", FLUNDER)
    assert seen["x-remote-user"] == ["system:apiserver"]
    assert seen["x-remote-group"] == ["system:masters", "system:authenticated"]
    assert "authorization" not in seen


async def test_nothing_is_said_of_a_request_that_its_client_did_not(server: WholeServer, extension: Extension) -> None:
    """A body without a type is in the first type that the server knows, to all that are built as kube-apiserver is."""
    await registered(server, extension)
    body = json.dumps(FLUNDER).encode()
    await server.admin.request(Request("POST", f"{ROOT}/namespaces/default/flunders", [], {}, body))
    method, _, seen, sent = extension.seen[-1]
    assert (method, sent) == ("POST", body)
    assert not seen.keys() & {"content-type", "accept-encoding"}


async def test_who_may_not_is_refused_here(server: WholeServer, extension: Extension) -> None:
    await registered(server, extension)
    answer = await server.client("jane").request(Request("GET", f"{ROOT}/namespaces/default/flunders/one"))
    assert answer.status == 403
    assert extension.seen == []


async def test_a_watch_flows_as_it_comes(server: WholeServer, extension: Extension) -> None:
    await registered(server, extension)
    answer = await server.admin.request(Request("GET", f"{ROOT}/flunders", [("watch", "true")]))
    assert not isinstance(answer.body, bytes)
    stream = aiter(answer.body)
    assert json.loads(await anext(stream))["type"] == "ADDED"
    extension.more.set()
    assert json.loads(await anext(stream))["type"] == "DELETED"


async def test_an_upgraded_connection_is_relayed(server: WholeServer, extension: Extension) -> None:
    await registered(server, extension)
    keys = server.folder / "pki"
    tls = ssl.create_default_context(cafile=str(keys / "ca.crt"))
    tls.load_cert_chain(str(keys / "admin.crt"), str(keys / "admin.key"))
    url = f"https://127.0.0.1:{server.port}{ROOT}/namespaces/default/flunders/one/shell"
    async with aiohttp.ClientSession() as session, session.ws_connect(url, ssl=tls) as socket:
        await socket.send_str("hello")
        assert (await socket.receive()).data == "echo hello"
    assert extension.seen[-1][2]["x-remote-user"] == ["kubernetes-admin"]


async def test_it_is_discovered(server: WholeServer, extension: Extension) -> None:
    await registered(server, extension)
    groups = await get(server, "/apis")
    assert [one["versions"] for one in groups["groups"] if one["name"] == "wardle.example.com"] == [
        [{"groupVersion": "wardle.example.com/v1alpha1", "version": "v1alpha1"}]
    ]
    assert (await get(server, ROOT))["resources"] == ENTRIES
    form = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    everything = await get(server, "/apis", form)
    mine = next(one for one in everything["items"] if one["metadata"]["name"] == "wardle.example.com")
    kind = {"group": "wardle.example.com", "version": "v1alpha1", "kind": "Flunder"}
    assert mine["versions"] == [
        {
            "version": "v1alpha1", "freshness": "Current",
            "resources": [
                {
                    "resource": "flunders", "responseKind": kind, "scope": "Namespaced", "singularResource": "flunder",
                    "verbs": ["get", "list"],
                    "subresources": [{"subresource": "status", "responseKind": kind, "verbs": ["get"]}],
                }
            ],
        }
    ]  # fmt: skip


async def listed(server: WholeServer) -> str:
    """The URL of its OpenAPI document, once there is one."""
    async with asyncio.timeout(60):
        while ROOT.strip("/") not in (paths := (await get(server, "/openapi/v3"))["paths"]):
            await asyncio.sleep(0.02)
    url: str = paths[ROOT.strip("/")]["serverRelativeURL"]
    return url


async def test_its_openapi_is_listed_and_asked_of_it(server: WholeServer, extension: Extension) -> None:
    await server.admin.create(SERVICES, service())
    await server.admin.create(APISERVICES, api_service(extension.port))
    url = await listed(server)
    assert url == f"/openapi/v3{ROOT}?hash=1"
    binary = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf"
    answer = await server.client("ann").request(Request("GET", f"/openapi/v3{ROOT}", headers={"accept": binary}))
    assert not isinstance(answer.body, bytes)
    body = b"".join([chunk async for chunk in answer.body])
    assert json.loads(body)["x-accept"] == binary, "the client's own wish"
    assert extension.asked_by == ["ann"]


async def test_its_older_openapi_is_joined_to_ours(server: WholeServer, extension: Extension) -> None:
    before = await get(server, "/openapi/v2")
    await server.admin.create(SERVICES, service())
    made = await server.admin.create(APISERVICES, api_service(extension.port))
    await listed(server)
    found = await get(server, "/openapi/v2")
    assert found["paths"].keys() - before["paths"].keys() == {f"{ROOT}/flunders"}, "only its own"
    assert found["definitions"].keys() - before["definitions"].keys() == {f"{OF_PODS}_v2"}
    shown = found["paths"][f"{ROOT}/flunders"]["get"]["responses"]["200"]["schema"]
    assert shown == {"$ref": f"#/definitions/{OF_PODS}_v2"}
    await server.admin.delete(APISERVICES, made["metadata"]["name"])
    assert await get(server, "/openapi/v2") == before


async def test_a_server_with_the_older_openapi_alone_gets_it_converted(
    server: WholeServer, extension: Extension
) -> None:
    extension.is_old = True
    await server.admin.create(SERVICES, service())
    await server.admin.create(APISERVICES, api_service(extension.port))
    found = await get(server, await listed(server))
    assert found["openapi"] == "3.0.0"
    operation = found["paths"][f"{ROOT}/flunders"]["get"]
    assert operation["parameters"] == [{"name": "limit", "in": "query", "schema": {"type": "integer"}}]
    assert operation["responses"]["200"]["content"]["application/json"]["schema"] == {
        "$ref": f"#/components/schemas/{OF_PODS}"
    }


async def test_what_is_away_is_said(server: WholeServer, extension: Extension) -> None:
    await server.admin.create(APISERVICES, api_service(extension.port))
    shown = await until_available(server, "False", "ServiceNotFound")
    assert shown["message"] == 'service/wardle in "default" is not present'
    answer = await server.admin.request(Request("GET", f"{ROOT}/flunders"))
    assert (answer.status, answer.body) == (503, b"service unavailable\n")

    made = await server.admin.create(
        SERVICES, service(type="ClusterIP", externalName="", ports=[{"name": "tls", "port": 8443}])
    )
    shown = await until_available(server, "False", "ServicePortError")
    assert shown["message"] == f'service/wardle in "default" is not listening on port {extension.port}'
    made["spec"]["ports"][0]["port"] = extension.port
    await server.admin.update(SERVICES, made)
    await until_available(server, "False", "EndpointsNotFound")
    ends = {
        "metadata": {
            "name": "wardle-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "wardle"},
        },
        "addressType": "IPv4", "endpoints": [], "ports": [{"name": "tls", "port": 8443, "protocol": "TCP"}],
    }  # fmt: skip
    await server.admin.create(ENDPOINTSLICES, ends)
    await until_available(server, "False", "MissingEndpoints")

    await server.admin.delete(SERVICES, "wardle", "default")
    await until_available(server, "False", "ServiceNotFound")
    extension.is_well = False
    await server.admin.create(SERVICES, service())
    shown = await until_available(server, "False", "FailedDiscoveryCheck")
    url = f"https://localhost:{extension.port}{ROOT}"
    assert shown["message"] == f"failing or missing response from {url}: bad status from {url}: 500"
    extension.is_well = True
    await until_available(server, "True", "Passed")
    assert (await server.admin.get(FLUNDERS, "one", "default"))["kind"] == "Flunder"


async def test_its_certificate_is_verified(server: WholeServer, extension: Extension) -> None:
    """It is the API server's: signed by the right CA, for a name that is not the service's."""
    bundle = base64.b64encode((server.folder / "pki" / "ca.crt").read_bytes()).decode()
    await registered(server, extension, insecureSkipTLSVerify=False, caBundle=bundle)  # the check itself does not mind
    answer = await server.admin.request(Request("GET", f"{ROOT}/flunders"))
    assert answer.status == 503
    assert isinstance(answer.body, bytes) and b"certificate is not valid for 'wardle.default.svc'" in answer.body
    assert extension.seen == []


async def test_a_bundle_without_certificates_is_said(server: WholeServer, extension: Extension) -> None:
    await registered(server, extension, insecureSkipTLSVerify=False, caBundle=base64.b64encode(b"a").decode())
    answer = await server.admin.request(Request("GET", f"{ROOT}/flunders"))
    assert answer.status == 500
    assert isinstance(answer.body, bytes) and answer.body.startswith(b"unable to load root certificates: ")


async def test_it_ends_with_its_registration(server: WholeServer, extension: Extension) -> None:
    await registered(server, extension)
    await server.admin.delete(APISERVICES, "v1alpha1.wardle.example.com")
    assert (await server.admin.request(Request("GET", ROOT))).status == 404
    assert "wardle.example.com" not in [one["name"] for one in (await get(server, "/apis"))["groups"]]


async def test_bad_registrations_are_refused(server: WholeServer) -> None:
    wrong = api_service(443, groupPriorityMinimum=0, versionPriority=1001, caBundle="YQ==")
    wrong["metadata"]["name"] = "v1.wardle.example.com"
    with pytest.raises(Invalid) as refused:
        await server.admin.create(APISERVICES, wrong)
    fields = [cause.field for cause in refused.value.causes]
    assert fields == [
        "metadata.name", "spec.groupPriorityMinimum", "spec.versionPriority", "spec.insecureSkipTLSVerify",
    ]  # fmt: skip


async def test_aggregated_servers_are_told_whom_to_believe(server: WholeServer) -> None:
    found = await server.admin.get(CONFIGMAPS, "extension-apiserver-authentication", "kube-system")
    keys = server.folder / "pki"
    assert found["data"] == {
        "client-ca-file": (keys / "ca.crt").read_text(),
        "requestheader-allowed-names": '["front-proxy-client"]',
        "requestheader-client-ca-file": (keys / "front-proxy-ca.crt").read_text(),
        "requestheader-extra-headers-prefix": '["X-Remote-Extra-"]',
        "requestheader-group-headers": '["X-Remote-Group"]',
        "requestheader-uid-headers": '["X-Remote-Uid"]',
        "requestheader-username-headers": '["X-Remote-User"]',
    }
