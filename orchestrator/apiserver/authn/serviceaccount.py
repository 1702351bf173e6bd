"""Service-account tokens: signed JWTs that name an account and, usually, the pod that may use them.

A token is as alive as what it is bound to: the account, and the pod, secret or node, each by uid. So the signature is
checked once and remembered (it cannot change), while expiry, audience and liveness are looked at on every request:
a few dictionary reads from the watch cache. Tokens kept in a Secret (the older kind) live while the Secret holds them.
Errors: TokenError says why a token is refused. Source: KEP-1205 bound tokens; Kubernetes docs, "Managing Service
Accounts"; the claims are those of kube-apiserver.
"""

from __future__ import annotations

import base64
import hmac
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from orchestrator.api import meta
from orchestrator.api.clock import Clock
from orchestrator.api.meta import Object
from orchestrator.api.resources import NODES, PODS, SECRETS, SERVICEACCOUNTS, Resource
from orchestrator.api.wire import Identity
from orchestrator.apiserver.authn.clientcert import CREDENTIAL_ID
from orchestrator.apiserver.authn.jwt import KeySet, NoJwt, Signer, TokenError, unverified
from orchestrator.apiserver.lookup import Lookup

USER_PREFIX = "system:serviceaccount:"
ALL_ACCOUNTS = "system:serviceaccounts"
LEGACY_ISSUER = "kubernetes/serviceaccount"
LEGACY_CLAIM = "kubernetes.io/serviceaccount/"
PRIVATE_CLAIM = "kubernetes.io"
CACHE_SIZE = 4096
CLOCK_SKEW_S = 60  # leeway for not-before, and for objects that are about to be gone


class Binding(Struct, frozen=True):
    """What a token is bound to besides its account; `node` is recorded for a pod that has one."""

    pod: Object | None = None
    secret: Object | None = None
    node: Object | None = None


def user_name(namespace: str, name: str) -> str:
    return f"{USER_PREFIX}{namespace}:{name}"


def split_user_name(user: str) -> tuple[str, str] | None:
    """(namespace, name) of a service account's user name, None for any other user."""
    if not user.startswith(USER_PREFIX):
        return None
    namespace, _, name = user.removeprefix(USER_PREFIX).partition(":")
    return (namespace, name) if namespace and name and ":" not in name else None


def groups_of(namespace: str) -> tuple[str, ...]:
    return (ALL_ACCOUNTS, f"{ALL_ACCOUNTS}:{namespace}")


def claims_for(
    account: Object, bound: Binding, audiences: Sequence[str], issuer: str, now: float, lifetime_s: int, token_id: str
) -> dict[str, Any]:
    """The claims of a new token."""
    private: dict[str, Any] = {"namespace": meta.namespace(account), "serviceaccount": _reference(account)}
    for kind, obj in (("pod", bound.pod), ("secret", bound.secret), ("node", bound.node)):
        if obj is not None:
            private[kind] = _reference(obj)
    issued = int(now)
    return {
        "aud": list(audiences),
        "exp": issued + lifetime_s,
        "iat": issued,
        "iss": issuer,
        "jti": token_id,
        PRIVATE_CLAIM: private,
        "nbf": issued,
        "sub": user_name(meta.namespace(account), meta.name(account)),
    }


def _reference(obj: Object) -> dict[str, str]:
    return {"name": meta.name(obj), "uid": meta.uid(obj)}


class TokenSettings(Struct, frozen=True, kw_only=True):
    """`issuer` stands in every token; `audiences` are the API server's own names."""

    issuer: str = "https://kubernetes.default.svc.cluster.local"
    audiences: tuple[str, ...] = ("https://kubernetes.default.svc.cluster.local",)


class ServiceAccountTokens:
    def __init__(self, keys: KeySet, settings: TokenSettings, lookup: Lookup, clock: Clock) -> None:
        self._keys = keys
        self.settings = settings
        self._lookup = lookup
        self._clock = clock
        self._verified: OrderedDict[str, dict[str, Any]] = OrderedDict()

    def identity(self, token: str, audiences: Sequence[str] = ()) -> tuple[Identity, tuple[str, ...]]:
        """(identity, the audiences of those asked for that the token is good for); TokenError says why not."""
        claims = self._claims(token)
        if claims.get("iss") == LEGACY_ISSUER:
            return self._legacy(token, claims), tuple(audiences)
        self._check_time(claims)
        wanted = tuple(audiences) or self.settings.audiences
        named = claims.get("aud") or []
        named = [named] if isinstance(named, str) else named
        shared = tuple(audience for audience in wanted if audience in named)
        if not shared:
            raise TokenError(f"token audiences {named} is invalid for the target audiences {list(wanted)}")
        return self._bound(claims), shared

    def _claims(self, token: str) -> dict[str, Any]:
        claims = self._verified.get(token)
        if claims is None:
            if unverified(token).get("iss") not in (LEGACY_ISSUER, self.settings.issuer):
                raise NoJwt("the issuer is not ours")
            claims = self._keys.verify(token)
            self._verified[token] = claims
            if len(self._verified) > CACHE_SIZE:
                self._verified.popitem(last=False)
        return claims

    def _check_time(self, claims: dict[str, Any]) -> None:
        now = self._clock.now()
        expiry, start = claims.get("exp"), claims.get("nbf", 0)
        if not isinstance(expiry, int | float) or now >= expiry:
            raise TokenError("service account token has expired")
        if not isinstance(start, int | float) or now + CLOCK_SKEW_S < start:
            raise TokenError("service account token is not valid yet")

    def _bound(self, claims: dict[str, Any]) -> Identity:
        private = claims.get(PRIVATE_CLAIM)
        if not isinstance(private, dict):
            raise TokenError("the token has no kubernetes.io claim")
        namespace = private.get("namespace", "")
        account = self._alive(SERVICEACCOUNTS, namespace, private.get("serviceaccount") or {})
        if claims.get("sub") != user_name(namespace, meta.name(account)):
            raise TokenError("the subject is not the account of the private claims")
        extra = {CREDENTIAL_ID: (f"JTI={claims['jti']}",)} if claims.get("jti") else {}
        for kind, resource in (("secret", SECRETS), ("pod", PODS), ("node", NODES)):
            reference = private.get(kind)
            if reference is None:
                continue
            if kind == "node" and "pod" in private:  # recorded for information: the pod decides
                pass
            else:
                self._alive(resource, namespace if resource.namespaced else "", reference)
            if kind != "secret":
                extra[f"authentication.kubernetes.io/{kind}-name"] = (reference.get("name", ""),)
                extra[f"authentication.kubernetes.io/{kind}-uid"] = (reference.get("uid", ""),)
        return Identity(user_name(namespace, meta.name(account)), groups_of(namespace), meta.uid(account), extra)

    def _alive(self, resource: Resource, namespace: str, reference: dict[str, Any]) -> Object:
        found = self._lookup.get(resource, namespace, reference.get("name", ""))
        if found is None:
            raise TokenError(f"{resource.singular} {reference.get('name')!r} is gone")
        if meta.uid(found) != reference.get("uid"):
            raise TokenError(f"{resource.singular} {reference.get('name')!r} is another one than the token's")
        deadline = meta.metadata(found).get("deletionTimestamp")
        if deadline and meta.parse_time(deadline) + CLOCK_SKEW_S < self._clock.now():
            raise TokenError(f"{resource.singular} {reference.get('name')!r} is deleted")
        return found

    def _legacy(self, token: str, claims: dict[str, Any]) -> Identity:
        namespace = claims.get(f"{LEGACY_CLAIM}namespace", "")
        reference = {
            "name": claims.get(f"{LEGACY_CLAIM}service-account.name", ""),
            "uid": claims.get(f"{LEGACY_CLAIM}service-account.uid", ""),
        }
        account = self._alive(SERVICEACCOUNTS, namespace, reference)
        secret = self._lookup.get(SECRETS, namespace, claims.get(f"{LEGACY_CLAIM}secret.name", ""))
        held = ((secret or {}).get("data") or {}).get("token", "")
        if secret is None or not hmac.compare_digest(held.encode(), base64.b64encode(token.encode())):
            raise TokenError("the secret no longer holds this token")
        return Identity(user_name(namespace, meta.name(account)), groups_of(namespace), meta.uid(account))


class TokenIssuer(Struct, frozen=True):
    """What TokenRequest needs to make a token: the key and the names that go into it."""

    signer: Signer
    settings: TokenSettings
