"""Who may ask the kubelet: the holder of a client certificate or a token of the cluster, if the API server says so.

Members of system:masters (the API server's own certificate) pass at once. Everyone else is judged by a
SubjectAccessReview on this node, with the verb of the HTTP method and a subresource that depends on the path; answers
are remembered for a while. Source: Kubernetes docs, "Kubelet authentication/authorization".
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web
from msgspec import Struct

from orchestrator.api import status
from orchestrator.api.resources import SUBJECTACCESSREVIEWS, TOKENREVIEWS
from orchestrator.api.wire import Identity
from orchestrator.client.client import Client

MASTERS = "system:masters"
ALLOWED_S, DENIED_S = 300.0, 30.0
REMEMBERED_MAX = 1024
VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "GET": "get", "HEAD": "get"}
SUBRESOURCES = (
    ("/stats", "stats"),
    ("/metrics", "metrics"),
    ("/logs", "log"),
    ("/pods", "pods"),
    ("/runningpods", "pods"),
    ("/configz", "configz"),
    ("/healthz", "healthz"),
)


class Question(Struct, frozen=True):
    user: str
    groups: tuple[str, ...]
    verb: str
    subresource: str


def subresource_of(path: str) -> str:
    """Of `nodes`, which a role must name."""
    return next((name for prefix, name in SUBRESOURCES if path == prefix or path.startswith(prefix + "/")), "proxy")


def identity_of(certificate: Mapping[str, Any] | None) -> Identity | None:
    """From a peer certificate as ssl shows it: the common name is the user, organizations are the groups."""
    pairs: Sequence[tuple[str, str]] = [pair for rdn in (certificate or {}).get("subject", ()) for pair in rdn]
    name = next((value for key, value in pairs if key == "commonName"), "")
    groups = tuple(value for key, value in pairs if key == "organizationName")
    return Identity(name, (*groups, "system:authenticated")) if name else None


class Access:
    """Decides about requests to one node's kubelet."""

    def __init__(self, client: Client, node_name: str) -> None:
        self._client, self._node_name = client, node_name
        self._known: dict[Question, tuple[bool, str, float]] = {}

    async def check(self, request: web.BaseRequest) -> None:
        """Raises Unauthorized or Forbidden."""
        transport = request.transport
        identity = identity_of(transport.get_extra_info("peercert") if transport is not None else None)
        if identity is None:
            identity = await self._by_token(request.headers.get("Authorization", ""))
        if MASTERS in identity.groups:
            return
        question = Question(
            identity.name, identity.groups, VERBS.get(request.method, "get"), subresource_of(request.path)
        )
        allowed, reason = await self._ask(question)
        if not allowed:
            raise status.Forbidden(
                f"Forbidden (user={identity.name}, verb={question.verb}, resource=nodes, "
                f"subresource={question.subresource})" + (f": {reason}" if reason else "")
            )

    async def _by_token(self, header: str) -> Identity:
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise status.Unauthorized
        review = await self._client.create(TOKENREVIEWS, {"spec": {"token": token.strip()}})
        found = review.get("status") or {}
        if not found.get("authenticated"):
            raise status.Unauthorized
        user = found.get("user") or {}
        return Identity(user.get("username") or "", tuple(user.get("groups") or ()))

    async def _ask(self, question: Question) -> tuple[bool, str]:
        now = time.monotonic()
        known = self._known.get(question)
        if known is not None and known[2] > now:
            return known[0], known[1]
        attributes = {
            "verb": question.verb,
            "version": "v1",
            "resource": "nodes",
            "subresource": question.subresource,
            "name": self._node_name,
        }
        spec = {"user": question.user, "groups": list(question.groups), "resourceAttributes": attributes}
        review = await self._client.create(SUBJECTACCESSREVIEWS, {"spec": spec})
        found = review.get("status") or {}
        allowed, reason = bool(found.get("allowed")), str(found.get("reason") or "")
        if len(self._known) >= REMEMBERED_MAX:
            self._known.clear()
        self._known[question] = (allowed, reason, now + (ALLOWED_S if allowed else DENIED_S))
        return allowed, reason
