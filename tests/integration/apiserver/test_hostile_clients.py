"""Clients that send too much, too slowly, or no HTTP: cut off or refused, while all others are served."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
import pytest

from orchestrator.api.resources import CLUSTERROLEBINDINGS
from orchestrator.api.wire import Identity, Request, Response
from orchestrator.apiserver import http
from orchestrator.apiserver.request import RequestInfo
from tests.fuzz.campaign import errors_logged
from tests.integration.apiserver.test_network import session
from tests.whole_server import WholeServer

LIMIT_S = 60
CONFIGMAPS = "/api/v1/namespaces/default/configmaps"


class Wire:
    """A connection with the administrator's certificate, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> bytes:
        """All until the server ends the connection."""
        found = b""
        async with asyncio.timeout(LIMIT_S):
            try:
                while piece := await self.reader.read(1 << 16):
                    found += piece
            except (ConnectionError, ssl.SSLError):
                pass
        return found


@asynccontextmanager
async def wire(server: WholeServer) -> AsyncIterator[Wire]:
    tls = ssl.create_default_context(cafile=str(server.folder / "pki" / "ca.crt"))
    tls.load_cert_chain(server.folder / "pki" / "admin.crt", server.folder / "pki" / "admin.key")
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=tls)
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()


def post(size: int | str, *fields: str) -> bytes:
    lines = [f"POST {CONFIGMAPS} HTTP/1.1", "host: x", "content-type: application/json", *fields]
    return "\r\n".join([*lines, f"content-length: {size}", "", ""]).encode()


async def still_serves(server: WholeServer) -> None:
    async with session(server, "admin") as client, client.get(CONFIGMAPS) as answer:
        assert answer.status == 200


async def test_an_oversized_body_is_refused_without_being_read(server: WholeServer) -> None:
    async with wire(server) as client:
        client.send(post(1 << 40) + b"x" * (4 << 20))
        head, _, body = (await client.answer()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413 ")
    status = orjson.loads(body)
    assert (status["kind"], status["reason"], status["code"]) == ("Status", "RequestEntityTooLarge", 413)
    await still_serves(server)


async def test_a_watcher_that_does_not_read_is_cut_off(server: WholeServer) -> None:
    """It holds up no write and no other watcher, and what waits for it is let go."""
    cache = server.api.core.endpoints["", "v1", "configmaps"].cache
    data = {"x": "x" * 900_000}
    async with wire(server) as stuck, session(server, "admin") as client, asyncio.timeout(LIMIT_S):
        stuck.send(f"GET {CONFIGMAPS}?watch=true&resourceVersion=0 HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        stuck.writer.transport.pause_reading()
        while len(cache.observers()) < 1:
            await asyncio.sleep(0.01)
        seen = written = 0
        async with client.get(CONFIGMAPS, params={"watch": "true", "resourceVersion": "0"}) as reading:
            while len(cache.observers()) < 2:
                await asyncio.sleep(0.01)
            before = len(cache.entries)
            while len(cache.observers()) > 1:
                body = {"metadata": {"name": f"c{written}"}, "data": data}
                async with client.post(CONFIGMAPS, json=body) as answer:
                    assert answer.status == 201
                written += 1
                while seen < written:
                    seen += (await reading.content.readany()).count(b'{"type":"ADDED"')
            assert len(cache.entries) == before + written > 10


async def test_who_does_not_read_a_long_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a piece of it waits for the client meanwhile; one that reads gets all."""
    monkeypatch.setattr(http, "PIECE_S", 0.5)
    body = random.Random(1).randbytes(32 << 20)

    async def handle(request: Request) -> Response:
        return Response(200, {"content-type": "x"}, body)

    server = http.HttpServer(handle)
    port = await server.listen(("127.0.0.1",), 0)
    connections = [await asyncio.open_connection("127.0.0.1", port, limit=1 << 20) for _ in range(2)]
    (stuck, stuck_writer), (reading, reading_writer) = connections
    async with asyncio.timeout(LIMIT_S):
        for writer in (stuck_writer, reading_writer):
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        stuck_writer.transport.pause_reading()  # type: ignore[attr-defined]
        head = await reading.readuntil(b"\r\n\r\n")
        assert f"content-length: {len(body)}\r\n".encode() in head
        assert await reading.readexactly(len(body)) == body
        held = [one.transport for one in server._server.connections if one.transport is not None]
        assert sum(transport.get_write_buffer_size() for transport in held) <= http.PIECE_BYTES
        while len(server._server.connections) > 1:
            await asyncio.sleep(0.01)
        stuck_writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert len(await stuck.read(-1)) < len(body)
    reading_writer.close()
    await server.close(0)


async def test_a_slow_body_is_cut_off(server: WholeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "BODY_S", 0.3)
    async with wire(server) as client:
        client.send(post(1000) + b'{"metadata":')
        head, _, body = (await client.answer()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 504 ")
    assert b"connection: close" in head.lower()
    assert orjson.loads(body)["reason"] == "Timeout"
    await still_serves(server)


@pytest.mark.parametrize(("certificate", "status"), [(None, b"401"), ("scheduler", b"403")])
async def test_who_may_not_is_told_so_before_the_body_is_read(
    server: WholeServer, certificate: str | None, status: bytes
) -> None:
    tls = ssl.create_default_context(cafile=str(server.folder / "pki" / "ca.crt"))
    if certificate:
        tls.load_cert_chain(server.folder / "pki" / f"{certificate}.crt", server.folder / "pki" / f"{certificate}.key")
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=tls)
    writer.write(post(1 << 20, "expect: 100-continue"))
    async with asyncio.timeout(LIMIT_S):
        assert (await reader.readline()).split()[1] == status
    writer.transport.abort()


async def test_a_write_whose_client_leaves_while_it_waits_is_not_carried_out(
    server: WholeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = server.api.gate
    assert gate is not None
    monkeypatch.setattr(gate.levels, "adjust", lambda now: [])  # no seats are borrowed
    user = Identity("system:kube-scheduler", ("system:authenticated",))
    info = RequestInfo("create", CONFIGMAPS, True, "", "v1", "default", "configmaps")
    level = gate.levels.flow(user, info).level
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    subjects = [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user.name}]
    binding = {"metadata": {"name": "all"}, "roleRef": role, "subjects": subjects}
    await server.admin.create(CLUSTERROLEBINDINGS, binding)
    held = [gate.enter(user, info, Request("POST", CONFIGMAPS))]
    while held[-1].is_served:  # until one has to wait
        held.append(gate.enter(user, info, Request("POST", CONFIGMAPS)))
    tls = ssl.create_default_context(cafile=str(server.folder / "pki" / "ca.crt"))
    tls.load_cert_chain(server.folder / "pki" / "scheduler.crt", server.folder / "pki" / "scheduler.key")
    _, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=tls)
    body = b'{"metadata":{"name":"late"}}'
    writer.write(post(len(body)) + body)
    async with asyncio.timeout(LIMIT_S):
        while level.queues.waiting < 2:
            await asyncio.sleep(0.01)
        writer.transport.abort()
        while level.queues.waiting > 1:
            await asyncio.sleep(0.01)
    for one in held[:-1]:
        gate.leave(one)
    assert await gate.waited(held[-1])
    gate.leave(held[-1])
    await still_serves(server)
    cache = server.api.core.endpoints["", "v1", "configmaps"].cache
    assert "configmaps/default/late" not in cache.entries


@pytest.mark.parametrize("start", [b"", b"GET /api HTTP/1.1\r\nhost: x\r\n"], ids=["nothing", "half-a-head"])
async def test_a_slow_head_is_cut_off(start: bytes, server: WholeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "HEAD_S", 0.3)
    async with wire(server) as client:
        client.send(start)
        assert await client.answer() == b""
    await still_serves(server)


@pytest.mark.parametrize("head", [
    pytest.param(b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", id="a-long-line"),
    pytest.param(b"GET /api HTTP/1.1\r\nhost: x\r\na: " + b"x" * 200_000 + b"\r\n\r\n", id="a-long-field"),
    pytest.param(b"GET /api HTTP/1.1\r\nhost: x\r\n" + b"a: x\r\n" * 10_000 + b"\r\n", id="many-fields"),
])  # fmt: skip
async def test_a_flood_of_headers_is_431(head: bytes, server: WholeServer) -> None:
    with errors_logged() as errors:
        async with wire(server) as client:
            client.send(head)
            assert (await client.answer()).startswith(b"HTTP/1.1 431 ")
    assert errors.take() == []
    await still_serves(server)


@pytest.mark.parametrize("chunk", [b"zz\r\n", b"5\r\nab", b"fffffffffffffffff\r\n"], ids=["no-size", "short", "huge"])
async def test_a_malformed_chunk_is_the_clients_fault(chunk: bytes, server: WholeServer) -> None:
    head = post(0).replace(b"content-length: 0", b"transfer-encoding: chunked")
    with errors_logged() as errors:
        async with wire(server) as client:
            client.send(head + chunk)
            client.writer.write_eof() if client.writer.can_write_eof() else client.writer.transport.close()
            found = await client.answer()
    assert found == b"" or found.startswith(b"HTTP/1.1 400 ")
    assert errors.take() == []
    await still_serves(server)


async def test_a_packed_body_is_not_unpacked(server: WholeServer) -> None:
    """As with kube-apiserver; and nothing can be far larger than what was sent."""
    async with session(server, "admin") as client:
        headers = {"content-type": "application/json", "content-encoding": "gzip"}
        async with client.post(CONFIGMAPS, data=http._gzipped(b" " * (64 << 20)), headers=headers) as answer:
            assert (answer.status, (await answer.json())["reason"]) == (400, "BadRequest")


async def test_a_client_that_waits_to_be_told_to_go_on(server: WholeServer) -> None:
    body = b'{"metadata":{"name":"a"}}'
    async with wire(server) as client, asyncio.timeout(LIMIT_S):
        client.send(post(len(body), "expect: 100-continue"))
        assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        client.send(body)
        assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 201 ")


async def test_text_that_is_no_text(server: WholeServer) -> None:
    """Bytes that are no UTF-8, in a path, a field and a query: the answer is a Status that can be read."""
    for head in (
        b"GET /api/v1/namespaces/\xff\xfe HTTP/1.1\r\nhost: x\r\n",
        b"GET /api/v1/namespaces/%ff%fe HTTP/1.1\r\nhost: x\r\n",
        b"GET /api/v1/pods?labelSelector=\xff%ff HTTP/1.1\r\nhost: x\r\n",
        b"GET /api/v1/pods HTTP/1.1\r\nhost: x\r\nimpersonate-user: \xff\r\n",
    ):
        with errors_logged() as errors:
            async with wire(server) as client:
                client.send(head + b"connection: close\r\n\r\n")
                start, _, body = (await client.answer()).partition(b"\r\n\r\n")
        assert start.startswith(b"HTTP/1.1 4"), (head, start)
        assert body.startswith(b"400") or orjson.loads(body)["kind"] == "Status", (head, body)
        assert errors.take() == []


async def test_noise_is_no_request(server: WholeServer) -> None:
    """Random damage of a request: some answer that is no 5xx, or none, and nothing in the log."""
    source = random.Random(1)
    body = b'{"metadata":{"generateName":"a-"}}'
    whole = post(len(body), "accept: application/json", "user-agent: x/1", "connection: close") + body
    with errors_logged() as errors:
        for _ in range(300):
            data = bytearray(whole)
            for _ in range(source.randrange(1, 4)):
                place = source.randrange(len(data))
                data[place : place + source.randrange(3)] = source.randbytes(source.randrange(3))
            async with wire(server) as client:
                client.send(bytes(data))
                client.send(b"\r\n\r\n")
                client.writer.transport.close() if source.random() < 0.2 else None
                try:
                    async with asyncio.timeout(0.2):  # what waits for more to come is let go
                        found = await client.answer()
                except TimeoutError:
                    found = b""
            assert not found.startswith(b"HTTP/1.1 5"), (bytes(data), found)
    assert errors.take() == []
    await still_serves(server)


async def test_a_field_named_to_end_its_header(server: WholeServer) -> None:
    """Unknown fields are told in a header: their names must not begin another, nor the body."""
    body = b'{"metadata":{"name":"a"},"x\\r\\nset-cookie: y\\r\\n\\r\\n":1,"z":1}'
    async with session(server, "admin") as client:
        headers = {"content-type": "application/json"}
        async with client.post(CONFIGMAPS, data=body, headers=headers) as answer:
            assert (answer.status, answer.headers.getall("warning")) == (201, ['299 - "unknown field \\"z\\""'])
            assert "set-cookie" not in answer.headers
            assert (await answer.json())["kind"] == "ConfigMap"
