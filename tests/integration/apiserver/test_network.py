"""The network rim: TLS, identities, keep-alive, compression, limits, streams and a clean end."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from orchestrator.api.resources import CONFIGMAPS
from orchestrator.api.wire import Response
from orchestrator.apiserver.encoding import PROTOBUF
from orchestrator.apiserver.protobuf import wire
from orchestrator.apiserver.protobuf.decoding import decode
from orchestrator.apiserver.startup import STEPS
from tests.whole_server import WholeServer, whole_server


@asynccontextmanager
async def session(server: WholeServer, name: str = "") -> AsyncIterator[aiohttp.ClientSession]:
    """HTTP with the certificate `name` of the PKI, or with none."""
    tls = ssl.create_default_context(cafile=str(server.folder / "pki" / "ca.crt"))
    if name:
        tls.load_cert_chain(server.folder / "pki" / f"{name}.crt", server.folder / "pki" / f"{name}.key")
    base = f"https://127.0.0.1:{server.port}"
    async with aiohttp.ClientSession(base, connector=aiohttp.TCPConnector(ssl=tls)) as opened:
        yield opened


async def test_without_credentials_only_health_and_version(server: WholeServer) -> None:
    async with session(server) as http:
        for path, status in (("/healthz", 200), ("/livez", 200), ("/readyz", 200), ("/version", 200)):
            async with http.get(path) as answer:
                assert answer.status == status, path
        for path in ("/api", "/api/v1/pods", "/metrics", "/openapi/v3"):
            async with http.get(path) as answer:
                assert (answer.status, (await answer.json())["reason"]) == (401, "Unauthorized"), path


async def test_the_service_manager_is_told_when_requests_are_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        async with whole_server(tmp_path) as server, session(server) as http:
            assert manager.recv(100) == b"READY=1"
            async with http.get("/livez") as answer:
                assert answer.status == 200


async def test_health_tells_of_each_step_of_the_start(server: WholeServer) -> None:
    async with session(server, "admin") as http:
        async with http.get("/readyz?verbose") as answer:
            assert answer.status == 200
            lines = (await answer.text()).splitlines()
        assert {f"[+]{step} ok" for step in STEPS} < set(lines)
        assert lines[-1] == "readyz check passed"
        async with http.get("/") as answer:
            paths = (await answer.json())["paths"]
        assert {"/apis/apps/v1", "/api/v1", "/livez/autoregister-completion", "/readyz/shutdown"} <= set(paths)
        assert "" not in paths
        for path in paths:
            async with http.get(path) as answer:
                assert answer.status == 200, path


async def test_a_certificate_is_an_identity_with_its_own_rights(server: WholeServer) -> None:
    async with session(server, "scheduler") as http:
        async with http.get("/api/v1/pods") as answer:
            assert answer.status == 200
        async with http.get("/api/v1/namespaces/default/secrets") as answer:
            assert answer.status == 403
            assert 'User "system:kube-scheduler" cannot list resource "secrets"' in (await answer.json())["message"]


async def test_a_connection_is_kept_and_head_has_no_body(server: WholeServer) -> None:
    async with session(server, "admin") as http:
        ports = set()
        for method, status in (("GET", 200), ("HEAD", 405), ("GET", 200)):
            async with http.request(method, "/api/v1/namespaces/default") as answer:
                assert answer.status == status, "resources have no HEAD"
                ports.add(answer.connection and answer.connection.transport.get_extra_info("sockname")[1])
                body = await answer.read()
                assert (body == b"") == (method == "HEAD")
        assert len(ports - {None}) <= 1


async def test_large_answers_are_compressed_where_the_client_can(server: WholeServer) -> None:
    for number in range(3):
        data = {"x": "word " * 20_000}
        await server.admin.create(
            CONFIGMAPS, {"metadata": {"name": f"c{number}", "namespace": "default"}, "data": data}
        )
    async with session(server, "admin") as http:
        async with http.get("/api/v1/namespaces/default/configmaps", headers={"accept-encoding": "gzip"}) as answer:
            assert answer.headers["content-encoding"] == "gzip"
            assert len((await answer.json())["items"]) == 3
        async with http.get("/api/v1/namespaces/default/configmaps", headers={"accept-encoding": "identity"}) as answer:
            assert "content-encoding" not in answer.headers


async def test_a_body_over_the_limit_is_refused(server: WholeServer) -> None:
    async with session(server, "admin") as http:
        path = "/api/v1/namespaces/default/configmaps"
        async with http.post(path, data=b"x" * (4 << 20), headers={"content-type": "application/json"}) as answer:
            assert (answer.status, (await answer.json())["reason"]) == (413, "RequestEntityTooLarge")


async def test_a_watch_is_chunked_and_forgotten_when_its_client_leaves(server: WholeServer) -> None:
    cache = server.api.core.endpoints["", "v1", "configmaps"].cache
    async with session(server, "admin") as http:
        answer = await http.get("/api/v1/configmaps?watch=true&resourceVersion=0")
        assert answer.headers["transfer-encoding"] == "chunked"
        await server.admin.create(CONFIGMAPS, {"metadata": {"name": "a", "namespace": "default"}})
        async with asyncio.timeout(5):
            assert (await answer.content.readline()).startswith(b'{"type":"ADDED"')
        assert len(cache.observers()) == 1
        answer.close()
        async with asyncio.timeout(5):
            while cache.observers():
                await asyncio.sleep(0.01)


async def test_a_watcher_that_does_not_read_is_cut_off(server: WholeServer) -> None:
    cache = server.api.core.endpoints["", "v1", "configmaps"].cache
    async with session(server, "admin") as http:
        answer = await http.get("/api/v1/configmaps?watch=true&resourceVersion=0")
        metadata = {"name": "a", "namespace": "default"}
        await server.admin.create(CONFIGMAPS, {"metadata": metadata})
        assert len(cache.observers()) == 1
        for number in range(100):
            data = {"x": str(number % 10) * 600_000}
            await server.admin.update(CONFIGMAPS, {"metadata": metadata, "data": data})
            if not cache.observers():
                break
        assert not cache.observers()
        answer.close()


async def test_a_large_present_in_protobuf_over_the_network(server: WholeServer) -> None:
    """More than may wait for a client: it comes as it is read, then what happened meanwhile."""
    for number in range(40):
        metadata = {"name": f"c{number:02}", "namespace": "default"}
        await server.admin.create(CONFIGMAPS, {"metadata": metadata, "data": {"x": "x" * 500_000}})
    query = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    headers = {"accept": f"{PROTOBUF},application/json"}
    async with session(server, "admin") as http:
        answer = await http.get(f"/api/v1/namespaces/default/configmaps?{query}", headers=headers)
        assert answer.headers["content-type"] == f"{PROTOBUF};stream=watch"
        await server.admin.create(CONFIGMAPS, {"metadata": {"name": "later", "namespace": "default"}})
        seen = []
        async with asyncio.timeout(60):
            for _ in range(42):
                size = int.from_bytes(await answer.content.readexactly(4), "big")
                event = dict(wire.fields(await answer.content.readexactly(size)))
                body = dict(wire.fields(wire.text_or_bytes(event[2])))[1]
                seen.append((event[1], decode(wire.text_or_bytes(body))["metadata"].get("name")))
        answer.close()
    present = [(b"ADDED", f"c{number:02}") for number in range(40)]
    assert seen == [*present, (b"BOOKMARK", None), (b"ADDED", "later")]


async def test_a_watch_over_websocket(server: WholeServer) -> None:
    """Each event is a message: the present in one go, then a change, in text and in protobuf."""
    for name in ("a", "b"):
        await server.admin.create(CONFIGMAPS, {"metadata": {"name": name, "namespace": "default"}})
    cache = server.api.core.endpoints["", "v1", "configmaps"].cache
    path = "/api/v1/namespaces/default/configmaps?watch=true"
    async with session(server, "admin") as http, asyncio.timeout(20):
        text = await http.ws_connect(path, protocols=("one",))
        binary = await http.ws_connect(path, headers={"accept": PROTOBUF})
        assert text.protocol == "one"
        await server.admin.create(CONFIGMAPS, {"metadata": {"name": "c", "namespace": "default"}})
        for name in ("a", "b", "c"):
            said = await text.receive_str()
            event = json.loads(said)
            assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", name) and said.endswith("\n")
            frame = dict(wire.fields(await binary.receive_bytes()))
            body = dict(wire.fields(wire.text_or_bytes(frame[2])))[1]
            assert decode(wire.text_or_bytes(body))["metadata"]["name"] == name
        await text.close()
        await binary.close()
        while cache.observers():
            await asyncio.sleep(0.01)
        brief = await http.ws_connect(f"{path}&timeoutSeconds=1&resourceVersion={server.api.core.cache.revision}")
        assert (await brief.receive()).type == aiohttp.WSMsgType.CLOSE


@pytest.mark.parametrize("path", ["/version", "/api/v1/namespaces", "/api/v1/namespaces/default/configmaps/none"])
async def test_a_timeout_that_is_none_is_told(server: WholeServer, path: str) -> None:
    async with session(server, "admin") as http:
        async with http.get(f"{path}?timeout=invalid") as answer:
            assert answer.status == 400
            why = 'invalid timeout specified in the request URL - time: invalid duration "invalid"'
            assert (await answer.json())["message"] == why
        for text in ("0s", "3m", "10s", "-1s"):
            async with http.get(f"{path}?timeout={text}") as answer:
                assert answer.status in (200, 404), text


@pytest.mark.parametrize("is_write", [True, False], ids=["write", "read"])
async def test_what_takes_longer_than_its_client_waits(server: WholeServer, is_write: bool) -> None:
    """A write goes on, since it may have begun."""
    go, ends = asyncio.Event(), []
    served = server.api._serve

    async def slow(*arguments: Any) -> Response:
        try:
            await go.wait()
            return await served(*arguments)
        finally:
            ends.append(go.is_set())

    server.api._serve = slow  # type: ignore[method-assign]
    async with session(server, "admin") as http, asyncio.timeout(20):
        path = "/api/v1/namespaces/default/configmaps"
        body = {"metadata": {"name": "slow"}}
        request = http.post(f"{path}?timeout=50ms", json=body) if is_write else http.get(f"{path}?timeout=50ms")
        async with request as answer:
            assert (answer.status, (await answer.json())["reason"]) == (504, "Timeout")
        go.set()
        while not ends:
            await asyncio.sleep(0.01)
        assert ends == [is_write]
        async with http.get(f"{path}/slow") as answer:
            assert answer.status == (200 if is_write else 404)


async def test_a_restart_keeps_everything_and_a_watch_goes_on(tmp_path: Any) -> None:
    async with whole_server(tmp_path) as server:
        made = await server.admin.create(CONFIGMAPS, {"metadata": {"name": "a", "namespace": "default"}})
        await server.admin.create(CONFIGMAPS, {"metadata": {"name": "b", "namespace": "default"}})
        revision = server.api.core.store.revision
    async with whole_server(tmp_path) as server:
        assert await server.admin.get(CONFIGMAPS, "a", "default") == made
        assert server.api.core.store.revision >= revision
        events = server.admin.watch(CONFIGMAPS, resource_version=made["metadata"]["resourceVersion"], timeout_s=5)
        async for event in events:
            assert (event.type, event.object["metadata"]["name"]) == ("ADDED", "b")
            break


async def test_a_review_has_no_table(server: WholeServer) -> None:
    review = {
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}},
    }  # fmt: skip
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    async with session(server, "admin") as http:
        headers = {"accept": "application/json;as=Table;v=v1beta1;g=meta.k8s.io"}
        async with http.post(path, json=review, headers=headers) as answer:
            assert answer.status == 406
            assert (await answer.json())["reason"] == "NotAcceptable"
        headers = {"accept": f"{headers['accept']},application/json"}
        async with http.post(path, json=review, headers=headers) as answer:
            assert (answer.status, (await answer.json())["status"]["allowed"]) == (201, True)
        headers = {"accept": "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"}
        async with http.post(path, json=review, headers=headers) as answer:
            assert (answer.status, (await answer.json())["kind"]) == (201, "PartialObjectMetadata")
