"""Service account tokens for pods: asked for with the pod as bound object, kept until 80 % of their life is over.

A token dies with its pod, for the API server checks the binding. Up to a tenth of the interval is taken off at random
upstream to spread requests; here the times of the pods' starts spread them.
Source: KEP-1205 (bound tokens); authentication.k8s.io TokenRequest.
"""

from __future__ import annotations

from msgspec import Struct

from orchestrator.api import meta
from orchestrator.api.clock import Clock
from orchestrator.api.meta import Object
from orchestrator.api.resources import SERVICEACCOUNTS
from orchestrator.client.client import Client

EXPIRATION_S = 3607
LIFE_USED = 0.8
Key = tuple[str, str, str, int]  # pod uid, service account, audience, expiration


class Token(Struct, frozen=True):
    text: str
    refresh_at: float


class Tokens:
    def __init__(self, client: Client, clock: Clock) -> None:
        self._client, self._clock = client, clock
        self._tokens: dict[Key, Token] = {}

    async def get(self, pod: Object, audience: str, expiration_s: int) -> Token:
        """A token that is fresh enough; "" as audience is the API server's own."""
        account = (pod.get("spec") or {}).get("serviceAccountName") or "default"
        key = (meta.uid(pod), account, audience, expiration_s)
        kept = self._tokens.get(key)
        if kept is not None and self._clock.now() < kept.refresh_at:
            return kept
        bound = {"apiVersion": "v1", "kind": "Pod", "name": meta.name(pod), "uid": meta.uid(pod)}
        wanted = {"expirationSeconds": expiration_s, "boundObjectRef": bound}
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": wanted | ({"audiences": [audience]} if audience else {"audiences": []}),
        }
        answer = await self._client.create(
            SERVICEACCOUNTS, request, meta.namespace(pod), subresource="token", name=account
        )
        now = self._clock.now()
        expires_at = meta.parse_time(answer["status"]["expirationTimestamp"])
        made = Token(answer["status"]["token"], now + (expires_at - now) * LIFE_USED)
        self._tokens[key] = made
        return made

    def refresh_at(self, pod_uid: str) -> float | None:
        """When the first of the pod's tokens wants to be renewed."""
        return min((token.refresh_at for key, token in self._tokens.items() if key[0] == pod_uid), default=None)

    def release(self, pod_uid: str) -> None:
        for key in [key for key in self._tokens if key[0] == pod_uid]:
            del self._tokens[key]
