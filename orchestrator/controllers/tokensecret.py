"""Tokens in Secrets: a Secret of type `kubernetes.io/service-account-token` gets its account's token, CA and namespace.

The token is signed here with the cluster's service-account key, has no expiry, and is valid as long as Secret and
account exist. A Secret whose account is missing, or was replaced by another of its name, is deleted.
Source: Managing Service Accounts, "Token controller"; the claims are those of legacy service-account tokens.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from orchestrator.api import meta, status
from orchestrator.api.meta import Object
from orchestrator.api.resources import SECRETS, SERVICEACCOUNTS
from orchestrator.client.loop import Loop
from orchestrator.controllers.context import Context

TYPE = "kubernetes.io/service-account-token"
ACCOUNT = "kubernetes.io/service-account.name"
ACCOUNT_UID = "kubernetes.io/service-account.uid"
ISSUER = "kubernetes/serviceaccount"

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def load_key(pem: bytes) -> PrivateKey:
    key = serialization.load_pem_private_key(pem, None)
    if not isinstance(key, (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey)):
        raise ValueError("the service-account key must be an RSA or an elliptic-curve key")
    return key


def key_id(key: PrivateKey) -> str:
    """The hash of the public key, as upstream names it in `kid`."""
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return _encoded(hashlib.sha256(public).digest())


def signed(key: PrivateKey, claims: dict[str, Any]) -> str:
    """A JWT, RS256 or ES256."""
    algorithm = "RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256"
    header = {"alg": algorithm, "kid": key_id(key)}
    body = f"{_json(header)}.{_json(claims)}"
    if isinstance(key, rsa.RSAPrivateKey):
        signature = key.sign(body.encode(), padding.PKCS1v15(), hashes.SHA256())
    else:
        size = (key.curve.key_size + 7) // 8
        first, second = decode_dss_signature(key.sign(body.encode(), ec.ECDSA(hashes.SHA256())))
        signature = first.to_bytes(size, "big") + second.to_bytes(size, "big")
    return f"{body}.{_encoded(signature)}"


def _json(data: dict[str, Any]) -> str:
    return _encoded(json.dumps(data, separators=(",", ":")).encode())


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def claims(secret: Object, account: Object) -> dict[str, Any]:
    namespace, name = meta.namespace(account), meta.name(account)
    return {
        "iss": ISSUER,
        "kubernetes.io/serviceaccount/namespace": namespace,
        "kubernetes.io/serviceaccount/secret.name": meta.name(secret),
        "kubernetes.io/serviceaccount/service-account.name": name,
        "kubernetes.io/serviceaccount/service-account.uid": meta.uid(account),
        "sub": f"system:serviceaccount:{namespace}:{name}",
    }


class TokenSecretController:
    """Fills token Secrets, and deletes those without an account."""

    def __init__(self, context: Context, key: bytes, root_ca: str) -> None:
        self._client = context.client
        self._key = load_key(key)
        self._root_ca = base64.b64encode(root_ca.encode()).decode()
        self.loop = Loop("serviceaccount-token", self.reconcile)
        self._accounts = context.informers.informer(SERVICEACCOUNTS)
        self._secrets = context.informers.informer(
            SECRETS, field_selector=f"type={TYPE}", indexers={"account": lambda secret: (_account_key(secret),)}
        )
        self._accounts.add_handler(self._account_changed)
        self._secrets.add_handler(lambda old, new: self.loop.queue.add(meta.key(new)) if new else None)

    async def run(self) -> None:
        await self.loop.run()

    def _account_changed(self, old: Object | None, new: Object | None) -> None:
        for secret in self._secrets.cache.by_index("account", meta.key(new or old or {})):
            self.loop.queue.add(meta.key(secret))

    async def reconcile(self, key: str) -> None:
        secret = self._secrets.cache.get(key)
        if secret is None or meta.is_deleting(secret):
            return
        account = await self._account(secret)
        known_uid = meta.annotations(secret).get(ACCOUNT_UID)
        if account is None or (known_uid and known_uid != meta.uid(account)):
            try:
                await self._client.delete(SECRETS, meta.name(secret), meta.namespace(secret), uid=meta.uid(secret))
            except status.NotFound:
                return
            return
        namespace = base64.b64encode(meta.namespace(secret).encode()).decode()
        data = secret.get("data") or {}
        wanted = {**data, "ca.crt": self._root_ca, "namespace": namespace}
        if not data.get("token"):
            wanted["token"] = base64.b64encode(signed(self._key, claims(secret, account)).encode()).decode()
        if wanted == data and known_uid:
            return
        annotations = {**meta.annotations(secret), ACCOUNT_UID: meta.uid(account)}
        described = {**meta.metadata(secret), "annotations": annotations}
        await self._client.update(SECRETS, {**secret, "metadata": described, "data": wanted})

    async def _account(self, secret: Object) -> Object | None:
        """From the cache; one that is not there is asked for, as it may be younger than the cache."""
        key = _account_key(secret)
        found = self._accounts.cache.get(key)
        if found is not None:
            return found
        namespace, name = meta.split_key(key)
        try:
            return await self._client.get(SERVICEACCOUNTS, name, namespace) if name else None
        except status.NotFound:
            return None


def _account_key(secret: Object) -> str:
    return meta.join_key(meta.namespace(secret), meta.annotations(secret).get(ACCOUNT, ""))
