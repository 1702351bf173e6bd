"""The client over real TLS sockets: who it trusts, how it is known, how streams end."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from msgspec.structs import replace

from orchestrator.api.resources import NODES
from orchestrator.api.wire import Request
from orchestrator.client.client import Client
from orchestrator.client.kubeconfig import Access
from orchestrator.client.network import NetworkTransport


@dataclass
class Served:
    access: Access
    requests: list[web.Request] = field(default_factory=list)
    peers: list[object] = field(default_factory=list)


def certificate(
    name: str, issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
    )
    return builder.sign(issuer[1] if issuer else key, hashes.SHA256()), key


def pem(made: tuple[x509.Certificate, ec.EllipticCurvePrivateKey]) -> tuple[bytes, bytes]:
    key = made[1].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return made[0].public_bytes(Encoding.PEM), key


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    authority = certificate("ca", None)
    (tmp_path / "ca.pem").write_bytes(pem(authority)[0])
    (tmp_path / "server.pem").write_bytes(b"".join(pem(certificate("server", authority))))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    context.load_verify_locations(tmp_path / "ca.pem")
    context.verify_mode = ssl.CERT_OPTIONAL
    client_certificate, client_key = pem(certificate("someone", authority))
    found = Served(Access(server="", ca=pem(authority)[0], certificate=client_certificate, key=client_key))

    async def answer(request: web.Request) -> web.StreamResponse:
        found.requests.append(request)
        assert request.transport is not None
        found.peers.append(request.transport.get_extra_info("peercert"))
        if "watch" not in request.query:
            told = {"metadata": {"name": "n1"}, "path": request.path, "raw": request.raw_path}
            return web.json_response(told, headers=[("Warning", '299 - "one"'), ("Warning", '299 - "two"')])
        stream = web.StreamResponse()
        await stream.prepare(request)
        event = json.dumps({"type": "ADDED", "object": {"metadata": {"name": "n1"}}}).encode() + b"\n"
        await stream.write(event[:10])
        await stream.write(event[10:])
        if request.query.get("labelSelector") == "cut":
            request.transport.abort()
        return stream

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    port = runner.addresses[0][1]
    found.access = replace(found.access, server=f"https://127.0.0.1:{port}")
    yield found
    await runner.cleanup()


async def test_a_certificate_says_who_asks_and_connections_are_kept(served: Served) -> None:
    client = Client(NetworkTransport(served.access))
    try:
        for _ in range(3):
            await client.get(NODES, "n1")
    finally:
        await client.close()
    assert "someone" in str(served.peers[0])
    assert len({request.remote for request in served.requests}) == 1


async def test_a_token_is_sent_and_read_again_from_its_file(served: Served, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n")
    client = Client(NetworkTransport(replace(served.access, certificate=None, token_file=tmp_path / "token")))
    try:
        await client.get(NODES, "n1")
    finally:
        await client.close()
    assert served.requests[0].headers["authorization"] == "Bearer secret"


async def test_a_header_that_comes_twice_is_kept_whole(served: Served) -> None:
    client = Client(NetworkTransport(served.access))
    try:
        answer = await client.request(Request("GET", "/", [], {}, b""))
    finally:
        await client.close()
    assert answer.headers["warning"] == '299 - "one", 299 - "two"'


async def test_names_are_escaped_once(served: Served) -> None:
    client = Client(NetworkTransport(served.access))
    try:
        found = await client.get(NODES, "a%2Fb c")
    finally:
        await client.close()
    assert found["raw"] == "/api/v1/nodes/a%252Fb%20c"


async def test_a_server_of_another_authority_is_not_trusted(served: Served) -> None:
    other = pem(certificate("other", None))[0]
    client = Client(NetworkTransport(replace(served.access, ca=other)))
    try:
        with pytest.raises(ConnectionError):
            await client.get(NODES, "n1")
    finally:
        await client.close()


async def test_nobody_listening_is_a_connection_error() -> None:
    client = Client(NetworkTransport(Access(server="http://127.0.0.1:1")))
    try:
        with pytest.raises(ConnectionError):
            await client.get(NODES, "n1")
    finally:
        await client.close()


async def test_a_watch_ends_with_its_server_and_a_cut_one_is_an_error(served: Served) -> None:
    client = Client(NetworkTransport(served.access))
    try:
        async with asyncio.timeout(5):
            names = [event.object["metadata"]["name"] async for event in client.watch(NODES, resource_version="1")]
            assert names == ["n1"]
            with pytest.raises(ConnectionError):
                async for _ in client.watch(NODES, resource_version="1", label_selector="cut"):
                    pass
    finally:
        await client.close()
