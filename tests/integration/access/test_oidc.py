"""ID tokens of an identity provider: a real HTTPS server with the provider's documents, and tokens that it signed."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from infra import pki
from infra.topology import Topology
from orchestrator.api.clock import SystemClock
from orchestrator.apiserver.authn.jwt import KeySet, Signer, TokenError
from orchestrator.apiserver.authn.oidc import OidcConfig, OidcTokens
from tests.whole_server import free_port


def signer() -> Signer:
    key = ec.generate_private_key(ec.SECP256R1())
    return Signer.from_pem(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


class Provider:
    def __init__(self, url: str) -> None:
        self.url = url
        self.signer = signer()
        self.fetched = 0

    async def configuration(self, request: web.Request) -> web.Response:
        return web.json_response({"issuer": self.url, "jwks_uri": f"{self.url}/keys"})

    async def keys(self, request: web.Request) -> web.Response:
        self.fetched += 1
        return web.json_response(KeySet([self.signer.public_key]).jwks())

    def token(self, **claims: Any) -> str:
        base = {"iss": self.url, "aud": "kubernetes", "sub": "1234", "exp": time.time() + 60}
        return self.signer.sign({**base, **claims})


@asynccontextmanager
async def provider(folder: Path) -> AsyncIterator[Provider]:
    pki.ensure(folder, Topology(name="test", workers=0))
    port = free_port()
    made = Provider(f"https://127.0.0.1:{port}")
    app = web.Application()
    app.router.add_get("/.well-known/openid-configuration", made.configuration)
    app.router.add_get("/keys", made.keys)
    runner = web.AppRunner(app)
    await runner.setup()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(str(folder / "apiserver.crt"), str(folder / "apiserver.key"))
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls).start()
    try:
        yield made
    finally:
        await runner.cleanup()


async def ready(tokens: OidcTokens, made: Provider) -> None:
    tokens.start()
    async with asyncio.timeout(5):
        while True:
            try:
                tokens.identity(made.token())
                return
            except TokenError:
                await asyncio.sleep(0.01)


async def test_claims_become_an_identity(tmp_path: Path) -> None:
    async with provider(tmp_path) as made:
        config = OidcConfig(
            issuer_url=made.url, client_id="kubernetes", ca_file=str(tmp_path / "ca.crt"), groups_claim="groups",
            groups_prefix="oidc:",
        )  # fmt: skip
        tokens = OidcTokens(config, SystemClock())
        await ready(tokens, made)
        found = tokens.identity(made.token(groups=["devs", "ops"]))
        assert found.name == f"{made.url}#1234"
        assert found.groups == ("oidc:devs", "oidc:ops")
        assert tokens.is_mine(made.token())
        assert not tokens.is_mine(made.token(iss="https://other"))
        for claims, why in (
            ({"aud": "other"}, "expected audience"),
            ({"exp": time.time() - 1}, "expired"),
            ({"nbf": time.time() + 60}, "not valid yet"),
            ({"sub": None}, "claim sub is missing"),
        ):
            with pytest.raises(TokenError, match=why):
                tokens.identity(made.token(**claims))
        await tokens.close()


async def test_names_from_other_claims(tmp_path: Path) -> None:
    async with provider(tmp_path) as made:
        config = OidcConfig(
            issuer_url=made.url, client_id="kubernetes", ca_file=str(tmp_path / "ca.crt"), username_claim="email",
            required_claims={"hd": "example.com"},
        )  # fmt: skip
        tokens = OidcTokens(config, SystemClock())
        tokens.start()
        async with asyncio.timeout(5):
            while not made.fetched or tokens._fetching is not None:
                await asyncio.sleep(0.01)
        assert tokens.identity(made.token(email="jane@example.com", hd="example.com")).name == "jane@example.com"
        with pytest.raises(TokenError, match="required claim hd"):
            tokens.identity(made.token(email="jane@example.com"))
        with pytest.raises(TokenError, match="email not verified"):
            tokens.identity(made.token(email="j@example.com", hd="example.com", email_verified=False))
        await tokens.close()


async def test_a_key_of_nobody_is_not_believed(tmp_path: Path) -> None:
    async with provider(tmp_path) as made:
        tokens = OidcTokens(
            OidcConfig(issuer_url=made.url, client_id="kubernetes", ca_file=str(tmp_path / "ca.crt")), SystemClock()
        )
        await ready(tokens, made)
        made.signer, known = signer(), made.signer
        with pytest.raises(TokenError, match="failed to verify id token signature"):
            tokens.identity(made.token())
        made.signer = known
        assert tokens.identity(made.token())
        await tokens.close()


def test_wrong_settings() -> None:
    with pytest.raises(ValueError, match="issuer_url: 'http://x': must be an https URL"):
        OidcTokens(OidcConfig(issuer_url="http://x", client_id="a"), SystemClock())
