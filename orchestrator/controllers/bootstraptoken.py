"""Bootstrap tokens: expired ones are deleted, so that a token that was passed around is of no use for ever.

Source: "Authenticating with Bootstrap Tokens"; kube-controller-manager tokencleaner.
"""

from __future__ import annotations

import base64
import binascii

from orchestrator.api import meta, status
from orchestrator.api.meta import Object
from orchestrator.api.resources import SECRETS
from orchestrator.client.loop import Loop
from orchestrator.controllers.context import Context

TYPE = "bootstrap.kubernetes.io/token"
NAMESPACE = "kube-system"


def expires_at(secret: Object) -> float | None:
    """When the token is over: None if never, 0 where its time cannot be read (it is then refused anyway)."""
    text = (secret.get("data") or {}).get("expiration")
    if not text:
        return None
    try:
        return meta.parse_time(base64.b64decode(text).decode())
    except (binascii.Error, ValueError):
        return 0.0


class BootstrapTokenCleaner:
    """Deletes tokens in time."""

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._clock = context.clock
        self.loop = Loop("token-cleaner", self.reconcile, workers=1)
        self._secrets = context.informers.informer(SECRETS, namespace=NAMESPACE, field_selector=f"type={TYPE}")
        self._secrets.add_handler(lambda old, new: self.loop.queue.add(meta.key(new)) if new else None)

    async def run(self) -> None:
        await self.loop.run()

    async def reconcile(self, key: str) -> None:
        secret = self._secrets.cache.get(key)
        end = expires_at(secret) if secret else None
        if secret is None or end is None:
            return
        now = self._clock.now()
        if end > now:
            self.loop.queue.add_after(key, end - now + 0.01)
            return
        try:
            await self._client.delete(SECRETS, meta.name(secret), NAMESPACE, uid=meta.uid(secret))
        except status.NotFound:
            return
