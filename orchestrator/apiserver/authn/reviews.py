"""The review kinds of authentication.k8s.io: whose token is this (TokenReview), and who am I (SelfSubjectReview,
`kubectl auth whoami`). Created, answered in the status, never stored. Source: authentication/v1 API reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.api.meta import Object
from orchestrator.api.status import BadRequest
from orchestrator.api.wire import Identity
from orchestrator.apiserver.authn.chain import Authenticator
from orchestrator.apiserver.authn.jwt import NoJwt, TokenError
from orchestrator.apiserver.handlers import Call, Handler

GROUP = "authentication.k8s.io"


class IdentityReviews:
    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    def handlers(self) -> Mapping[tuple[str, str], Handler]:
        return {
            (f"tokenreviews.{GROUP}", ""): self.token,
            (f"selfsubjectreviews.{GROUP}", ""): self.self_subject,
        }

    async def token(self, call: Call) -> Object:
        """A token that is not accepted is an answer, not an error."""
        review = call.attributes.object or {}
        spec = review.get("spec") or {}
        if not spec.get("token"):
            raise BadRequest("token is required for TokenReview in authentication")
        return {**review, "status": self._status(spec["token"], spec.get("audiences") or [])}

    def _status(self, token: str, audiences: list[str]) -> dict[str, Any]:
        try:
            answer = self._authenticator.token(token, audiences)
        except NoJwt:
            return {"user": {}, "error": "invalid bearer token"}
        except TokenError as error:
            return {"user": {}, "error": f"[invalid bearer token, {error}]"}
        return {"authenticated": True, "user": user_info(answer.identity), "audiences": list(answer.audiences)}

    async def self_subject(self, call: Call) -> Object:
        return {**(call.attributes.object or {}), "status": {"userInfo": user_info(call.attributes.user)}}


def user_info(identity: Identity) -> dict[str, Any]:
    shown: dict[str, Any] = {"username": identity.name}
    if identity.uid:
        shown["uid"] = identity.uid
    if identity.groups:
        shown["groups"] = list(identity.groups)
    if identity.extra:
        shown["extra"] = {key: list(values) for key, values in identity.extra.items()}
    return shown
