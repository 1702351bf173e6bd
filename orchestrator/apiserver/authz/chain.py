"""The authorization chain: system:masters, then the Node authorizer, then RBAC; the first that allows decides.

system:masters is the way back in when the roles themselves are broken, so it is no binding and cannot be revoked.
Where none allows, the reasons are joined for the message. Source: Kubernetes docs, "Authorization".
"""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.apiserver.request import Attributes, Authorizer, Decision

MASTERS = "system:masters"


class AuthorizerChain:
    def __init__(self, authorizers: Sequence[Authorizer]) -> None:
        self._authorizers = tuple(authorizers)

    def authorize(self, attributes: Attributes) -> Decision:
        if MASTERS in attributes.user.groups:
            return Decision(True)
        reasons = []
        for authorizer in self._authorizers:
            decision = authorizer.authorize(attributes)
            if decision.allowed:
                return decision
            if decision.reason:
                reasons.append(decision.reason)
        return Decision(False, "\n".join(reasons))
