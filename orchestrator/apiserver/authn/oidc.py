"""OpenID Connect: ID tokens of an identity provider, `--oidc-*` of kube-apiserver.

The provider's keys are fetched from its issuer, at start and again when a token names a key that is not known (at most
every REFRESH_S), in the background: a request is never held up by the provider, its token is refused until the keys are
there. Errors: TokenError. Source: Authenticating, "OpenID Connect Tokens"; OpenID Connect Discovery 1.0.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import ssl
from collections.abc import Mapping
from typing import Any

import aiohttp
import orjson
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from msgspec import Struct, field

from orchestrator.api.clock import Clock
from orchestrator.api.wire import Identity
from orchestrator.apiserver.authn.jwt import BadSignature, KeySet, PublicKey, TokenError

log = logging.getLogger(__name__)

REFRESH_S = 10.0
TIMEOUT_S = 10.0
NOT_SIGNED = "oidc: verify token: failed to verify signature: failed to verify id token signature"


class OidcConfig(Struct, frozen=True, kw_only=True):
    """`username_prefix` "-" means none; by default it is the issuer, but for the claim `email`."""

    issuer_url: str
    client_id: str
    ca_file: str = ""
    username_claim: str = "sub"
    username_prefix: str = ""
    groups_claim: str = ""
    groups_prefix: str = ""
    required_claims: Mapping[str, str] = field(default_factory=dict)


class OidcTokens:
    def __init__(self, config: OidcConfig, clock: Clock) -> None:
        if not config.issuer_url.startswith("https://"):
            raise ValueError(f"oidc issuer_url: {config.issuer_url!r}: must be an https URL")
        if not config.client_id:
            raise ValueError("oidc client_id: must not be empty")
        self._config, self._clock = config, clock
        self._keys = KeySet([])
        self._known: frozenset[str] = frozenset()
        self._asked_at = float("-inf")
        self._fetching: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._refresh()

    async def close(self) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)

    def is_mine(self, token: str) -> bool:
        """Whether the token says that it is of this issuer."""
        return _claims(token).get("iss") == self._config.issuer_url

    def identity(self, token: str) -> Identity:
        config = self._config
        if _header(token).get("kid") not in self._known:
            self._refresh()
        try:
            claims = self._keys.verify(token)
        except BadSignature as error:
            raise TokenError(NOT_SIGNED) from error
        now = self._clock.now()
        audiences = claims.get("aud")
        if config.client_id not in (audiences if isinstance(audiences, list) else [audiences]):
            raise TokenError(f"oidc: expected audience {config.client_id!r}, got {audiences!r}")
        if not isinstance(claims.get("exp"), (int, float)) or claims["exp"] <= now:
            raise TokenError("oidc: the token has expired")
        if isinstance(claims.get("nbf"), (int, float)) and claims["nbf"] > now + 1:
            raise TokenError("oidc: the token is not valid yet")
        for name, value in config.required_claims.items():
            if claims.get(name) != value:
                raise TokenError(f"oidc: required claim {name} is not {value!r}")
        return Identity(self._name(claims), self._groups(claims))

    def _name(self, claims: Mapping[str, Any]) -> str:
        config = self._config
        name = claims.get(config.username_claim)
        if not isinstance(name, str) or not name:
            raise TokenError(f"oidc: claim {config.username_claim} is missing")
        if config.username_claim == "email" and claims.get("email_verified") is False:
            raise TokenError("oidc: email not verified")
        default = "" if config.username_claim == "email" else f"{config.issuer_url}#"
        prefix = {"-": "", "": default}.get(config.username_prefix, config.username_prefix)
        return prefix + name

    def _groups(self, claims: Mapping[str, Any]) -> tuple[str, ...]:
        found = claims.get(self._config.groups_claim) if self._config.groups_claim else None
        names = [found] if isinstance(found, str) else found or []
        return tuple(self._config.groups_prefix + str(name) for name in names)

    # -- the provider's keys -------------------------------------------------------------------------------------------

    def _refresh(self) -> None:
        loop = asyncio.get_running_loop()
        if self._fetching is None and loop.time() - self._asked_at >= REFRESH_S:
            self._asked_at = loop.time()
            self._fetching = loop.create_task(self._fetch())

    async def _fetch(self) -> None:
        try:
            tls = ssl.create_default_context(cafile=self._config.ca_file or None)
            timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls), timeout=timeout) as session:
                where = f"{self._config.issuer_url.rstrip('/')}/.well-known/openid-configuration"
                described = await _get(session, where)
                if described.get("issuer") != self._config.issuer_url:
                    raise ValueError(f"the provider calls itself {described.get('issuer')!r}")
                found = (await _get(session, described["jwks_uri"])).get("keys") or []
            usable = [(key.get("kid") or "", made) for key in found if (made := public_key(key)) is not None]
            self._keys = KeySet(dict(usable))
            self._known = frozenset(identifier for identifier, _ in usable)
        except (aiohttp.ClientError, OSError, TimeoutError, KeyError, ValueError) as error:
            log.warning(
                "keys of the identity provider not fetched", extra={"error": str(error) or type(error).__name__}
            )
        finally:
            self._fetching = None


async def _get(session: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    async with session.get(url) as answer:
        answer.raise_for_status()
        found: dict[str, Any] = orjson.loads(await answer.read())
        return found


def public_key(jwk: Mapping[str, Any]) -> PublicKey | None:
    """The key of a JWK; None where it is not one that signs with RS256 or ES256."""
    try:
        if jwk.get("use", "sig") != "sig":
            return None
        if jwk.get("kty") == "RSA":
            return rsa.RSAPublicNumbers(_number(jwk["e"]), _number(jwk["n"])).public_key()
        if jwk.get("kty") == "EC" and jwk.get("crv") == "P-256":
            return ec.EllipticCurvePublicNumbers(_number(jwk["x"]), _number(jwk["y"]), ec.SECP256R1()).public_key()
    except (KeyError, ValueError, binascii.Error):
        return None
    return None


def _number(text: str) -> int:
    return int.from_bytes(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), "big")


def _part(token: str, index: int) -> Mapping[str, Any]:
    parts = token.split(".")
    try:
        found = orjson.loads(base64.urlsafe_b64decode(parts[index] + "=" * (-len(parts[index]) % 4)))
    except (IndexError, ValueError, binascii.Error):
        return {}
    return found if isinstance(found, dict) else {}


def _header(token: str) -> Mapping[str, Any]:
    return _part(token, 0)


def _claims(token: str) -> Mapping[str, Any]:
    return _part(token, 1)
