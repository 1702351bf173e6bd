"""JSON Web Tokens: three base64url parts, `header.claims.signature`, signed with RS256 or ES256.

A key's id is the digest of its public half, so a verifier finds the key without trying each, and the same id stands in
the published key set (JWKS). Errors: TokenError for anything that is not a token signed by one of the keys.
Sources: RFC 7515 (JWS), 7517 (JWK), 7518 (algorithms).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey
P256_BYTES = 32
KEY_KINDS = "a key of service accounts is RSA, or elliptic on the curve P-256"
_PEM_BLOCK = re.compile(rb"-----BEGIN ([A-Z ]+)-----.*?-----END \1-----", re.DOTALL)
BAD_SIGNATURE = "go-jose/go-jose: error in cryptographic primitive"  # as people know it from kube-apiserver


class TokenError(ValueError):
    """Not a token, or not signed by a key we trust."""


class NoJwt(TokenError):
    """A token of some other sort: nothing can be said about it."""


class BadSignature(TokenError):
    """Not signed by a key we trust."""


class Signer:
    """Holds the one private key that new tokens are signed with."""

    def __init__(self, key: PrivateKey) -> None:
        self._key = key
        self.key_id = key_id(key.public_key())

    @classmethod
    def from_pem(cls, pem: bytes) -> Signer:
        key = load_pem_private_key(pem, None)
        if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
            raise ValueError(KEY_KINDS)
        _check_curve(key)
        return cls(key)

    @property
    def public_key(self) -> PublicKey:
        return self._key.public_key()

    def sign(self, claims: dict[str, Any]) -> str:
        algorithm = "RS256" if isinstance(self._key, rsa.RSAPrivateKey) else "ES256"
        head = orjson.dumps({"alg": algorithm, "kid": self.key_id})
        signed = f"{_encode(head)}.{_encode(orjson.dumps(claims))}"
        return f"{signed}.{_encode(self._signature(signed.encode()))}"

    def _signature(self, data: bytes) -> bytes:
        if isinstance(self._key, rsa.RSAPrivateKey):
            return self._key.sign(data, padding.PKCS1v15(), SHA256())
        r, s = decode_dss_signature(self._key.sign(data, ec.ECDSA(SHA256())))
        return r.to_bytes(P256_BYTES, "big") + s.to_bytes(P256_BYTES, "big")


class KeySet:
    """The public keys whose signatures are believed; more than one while keys are rotated."""

    def __init__(self, keys: Iterable[PublicKey] | Mapping[str, PublicKey]) -> None:
        """Keys under their own ids, or under those that another gave them."""
        self._keys = dict(keys) if isinstance(keys, Mapping) else {key_id(key): key for key in keys}

    def verify(self, token: str) -> dict[str, Any]:
        """The claims of a token with a good signature; time and audience are the caller's to check."""
        parts = _parts(token)
        header, claims = _object(parts[0]), _object(parts[1])
        candidates = [self._keys[header["kid"]]] if header.get("kid") in self._keys else list(self._keys.values())
        signed, signature = f"{parts[0]}.{parts[1]}".encode(), _decode(parts[2])
        if not any(_verifies(key, header.get("alg"), signed, signature) for key in candidates):
            raise BadSignature(BAD_SIGNATURE)
        return claims

    def jwks(self) -> dict[str, Any]:
        """The key set as published at /openid/v1/jwks."""
        return {"keys": [_jwk(identifier, key) for identifier, key in self._keys.items()]}


def unverified(token: str) -> dict[str, Any]:
    """What a token says, believed or not. NoJwt where it is none."""
    parts = _parts(token)
    _object(parts[0])
    return _object(parts[1])


def _parts(token: str) -> list[str]:
    parts = token.split(".")
    if len(parts) != 3:
        raise NoJwt("a token has three parts")
    return parts


def public_keys(pem: bytes) -> list[PublicKey]:
    """Every key of a PEM file, public or private (of which the public half counts)."""
    keys: list[PublicKey] = []
    for match in _PEM_BLOCK.finditer(pem):
        block, label = match.group(0), match.group(1)
        key = load_pem_private_key(block, None).public_key() if b"PRIVATE" in label else load_pem_public_key(block)
        if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
            raise ValueError(KEY_KINDS)
        _check_curve(key)
        keys.append(key)
    return keys


def _check_curve(key: PrivateKey | PublicKey) -> None:
    if isinstance(key, ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey) and key.curve.name != "secp256r1":
        raise ValueError(KEY_KINDS)


def key_id(key: PublicKey) -> str:
    return _encode(hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest())


def _verifies(key: PublicKey, algorithm: Any, signed: bytes, signature: bytes) -> bool:
    try:
        if isinstance(key, rsa.RSAPublicKey) and algorithm == "RS256":
            key.verify(signature, signed, padding.PKCS1v15(), SHA256())
            return True
        if isinstance(key, ec.EllipticCurvePublicKey) and algorithm == "ES256" and len(signature) == 2 * P256_BYTES:
            r, s = (int.from_bytes(half, "big") for half in (signature[:P256_BYTES], signature[P256_BYTES:]))
            key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(SHA256()))
            return True
    except InvalidSignature:
        return False
    return False


def _jwk(identifier: str, key: PublicKey) -> dict[str, Any]:
    shared = {"use": "sig", "kid": identifier}
    if isinstance(key, rsa.RSAPublicKey):
        numbers = key.public_numbers()
        return shared | {
            "kty": "RSA",
            "alg": "RS256",
            "n": _encode(_big_endian(numbers.n)),
            "e": _encode(_big_endian(numbers.e)),
        }
    point = key.public_numbers()
    x, y = (_encode(value.to_bytes(P256_BYTES, "big")) for value in (point.x, point.y))
    return shared | {"kty": "EC", "alg": "ES256", "crv": "P-256", "x": x, "y": y}


def _big_endian(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def _object(part: str) -> dict[str, Any]:
    try:
        value = orjson.loads(_decode(part))
    except orjson.JSONDecodeError as error:
        raise NoJwt("a token's parts are JSON") from error
    if not isinstance(value, dict):
        raise NoJwt("a token's parts are JSON objects")
    return value


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except (binascii.Error, ValueError) as error:
        raise NoJwt("a token's parts are base64url") from error
