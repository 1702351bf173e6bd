"""Impersonation: a request made as somebody else, where the asker may (`kubectl --as`).

Headers: Impersonate-User, -Group (repeated), -Uid, -Extra-<key> (repeated). Each part is authorized for
the real user as verb `impersonate` on users, serviceaccounts, groups, uids or userextras/<key>. A service account
comes with its groups. Errors: Forbidden with the usual message; BadRequest for parts without a user.
Source: Kubernetes docs, Authenticating, "User impersonation".
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote

from msgspec.structs import replace

from orchestrator.api.status import BadRequest
from orchestrator.api.wire import Identity, Request
from orchestrator.apiserver.authn.chain import ANONYMOUS_USER, UNAUTHENTICATED, authenticated
from orchestrator.apiserver.authn.serviceaccount import groups_of, split_user_name
from orchestrator.apiserver.authz.message import refusal
from orchestrator.apiserver.request import Attributes, Authorizer

PREFIX = "impersonate-"
EXTRA_PREFIX = "impersonate-extra-"
API_GROUP = "authentication.k8s.io"


def acting_as(request: Request, user: Identity, authorizer: Authorizer) -> Identity:
    """The identity that the request acts under: `user` itself where no header asks for another."""
    headers = {key: value for key, value in request.headers.items() if key.startswith(PREFIX)}
    if not headers:
        return user
    wanted = requested(request, headers)
    for question in _questions(wanted, user, request.values("impersonate-group")):
        decision = authorizer.authorize(question)
        if not decision.allowed:
            raise refusal(question, decision.reason)
    return wanted


def requested(request: Request, headers: Mapping[str, str]) -> Identity:
    """`headers`: those of the request that are about impersonation."""
    name = headers.get("impersonate-user", "")
    if not name:
        raise BadRequest(f"requested {sorted(headers)} without impersonating a user")
    groups = tuple(request.values("impersonate-group"))
    account = split_user_name(name)
    if account and not groups:
        groups = groups_of(account[0])
    extra = {
        unquote(key.removeprefix(EXTRA_PREFIX)): tuple(request.values(key))
        for key in headers
        if key.startswith(EXTRA_PREFIX)
    }
    identity = Identity(name, groups, headers.get("impersonate-uid", ""), extra)
    if name == ANONYMOUS_USER:
        return identity if UNAUTHENTICATED in groups else replace(identity, groups=(*groups, UNAUTHENTICATED))
    return authenticated(identity)


def _questions(wanted: Identity, user: Identity, groups: list[str]) -> list[Attributes]:
    account = split_user_name(wanted.name)
    if account:
        namespace, name = account
        asked = [Attributes(user=user, verb="impersonate", resource="serviceaccounts", namespace=namespace, name=name)]
    else:
        asked = [Attributes(user=user, verb="impersonate", resource="users", name=wanted.name)]
    asked += [Attributes(user=user, verb="impersonate", resource="groups", name=group) for group in groups]
    if wanted.uid:
        asked.append(Attributes(user=user, verb="impersonate", group=API_GROUP, resource="uids", name=wanted.uid))
    for key, values in wanted.extra.items():
        asked += [
            Attributes(
                user=user, verb="impersonate", group=API_GROUP, resource="userextras", subresource=key, name=value
            )
            for value in values
        ]
    return asked
