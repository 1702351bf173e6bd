"""Bootstrap tokens: `<id>.<secret>`, kept in kube-system Secrets, with which a new machine asks to join.

The Secret `bootstrap-token-<id>` must be of the bootstrap type, unexpired, and say that it may be used to authenticate.
Source: Kubernetes docs, "Authenticating with Bootstrap Tokens".
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re

from orchestrator.api import meta
from orchestrator.api.clock import Clock
from orchestrator.api.meta import Object
from orchestrator.api.resources import SECRETS
from orchestrator.api.wire import Identity
from orchestrator.apiserver.lookup import Lookup

NAMESPACE = "kube-system"
SECRET_TYPE = "bootstrap.kubernetes.io/token"
GROUP = "system:bootstrappers"
_TOKEN = re.compile(r"([a-z0-9]{6})\.([a-z0-9]{16})")
_EXTRA_GROUP = re.compile(r"system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]")


class BootstrapTokens:
    def __init__(self, lookup: Lookup, clock: Clock) -> None:
        self._lookup = lookup
        self._clock = clock

    def identity(self, token: str) -> Identity | None:
        match = _TOKEN.fullmatch(token)
        if match is None:
            return None
        token_id, secret_part = match.groups()
        secret = self._lookup.get(SECRETS, NAMESPACE, f"bootstrap-token-{token_id}")
        if secret is None or secret.get("type") != SECRET_TYPE or meta.is_deleting(secret):
            return None
        return self._identity(secret, token_id, secret_part)

    def _identity(self, secret: Object, token_id: str, secret_part: str) -> Identity | None:
        if not hmac.compare_digest(_field(secret, "token-secret"), secret_part):
            return None
        if _field(secret, "token-id") != token_id or _field(secret, "usage-bootstrap-authentication") != "true":
            return None
        if is_expired(secret, self._clock.now()):
            return None
        extra = [group for group in _field(secret, "auth-extra-groups").split(",") if group]
        if any(_EXTRA_GROUP.fullmatch(group) is None for group in extra):
            return None
        return Identity(f"system:bootstrap:{token_id}", (GROUP, *sorted(set(extra))))


def is_expired(secret: Object, now: float) -> bool:
    """A token without an expiration lives on; one that cannot be read counts as expired."""
    text = _field(secret, "expiration")
    try:
        return bool(text) and meta.parse_time(text) <= now
    except ValueError:
        return True


def _field(secret: Object, key: str) -> str:
    try:
        return base64.b64decode((secret.get("data") or {}).get(key, "")).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
