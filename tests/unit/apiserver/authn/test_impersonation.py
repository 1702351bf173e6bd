"""Acting as somebody else, where one may."""

from __future__ import annotations

import pytest

from orchestrator.api.status import BadRequest, Forbidden
from orchestrator.api.wire import Identity, Request
from orchestrator.apiserver.authn.impersonation import acting_as
from orchestrator.apiserver.request import Attributes, Decision

ANN = Identity("ann", ("dev",))


class Recording:
    """Allows what it is told to, and keeps what it was asked."""

    def __init__(self, *allowed: str) -> None:
        self.allowed = allowed
        self.asked: list[str] = []

    def authorize(self, attributes: Attributes) -> Decision:
        resource = attributes.resource + (f"/{attributes.subresource}" if attributes.subresource else "")
        what = f"{resource}:{attributes.namespace}:{attributes.name}"
        self.asked.append(what)
        return Decision(what in self.allowed or "*" in self.allowed)


def acting(authorizer: Recording, **headers: str | list[str]) -> Identity:
    """A list is a header that comes several times."""
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    repeated = {key: value for key, value in named.items() if isinstance(value, list)}
    joined = {key: value if isinstance(value, str) else ",".join(value) for key, value in named.items()}
    return acting_as(Request("GET", "/api", headers=joined, repeated=repeated), ANN, authorizer)


def test_without_headers_nothing_changes() -> None:
    authorizer = Recording()
    assert acting(authorizer, authorization="x") is ANN
    assert authorizer.asked == []


def test_each_part_is_asked_for() -> None:
    authorizer = Recording("*")
    identity = acting(
        authorizer,
        impersonate_user="bob",
        impersonate_group=["ops", "cn=dev,ou=all"],
        impersonate_uid="7",
        **{"impersonate_extra_example.com%2fscope": ["a", "b,c"]},
    )
    assert (identity.name, identity.groups, identity.uid) == (
        "bob",
        ("ops", "cn=dev,ou=all", "system:authenticated"),
        "7",
    )
    assert identity.extra == {"example.com/scope": ("a", "b,c")}
    assert authorizer.asked == [
        "users::bob", "groups::ops", "groups::cn=dev,ou=all", "uids::7", "userextras/example.com/scope::a",
        "userextras/example.com/scope::b,c",
    ]  # fmt: skip


def test_a_service_account_comes_with_its_groups() -> None:
    authorizer = Recording("serviceaccounts:d:build")
    identity = acting(authorizer, impersonate_user="system:serviceaccount:d:build")
    assert "system:serviceaccounts:d" in identity.groups
    assert authorizer.asked == ["serviceaccounts:d:build"]


def test_one_part_refused_refuses_all() -> None:
    with pytest.raises(Forbidden) as refused:
        acting(Recording("users::bob"), impersonate_user="bob", impersonate_group="system:masters")
    assert str(refused.value) == (
        'groups "system:masters" is forbidden: User "ann" cannot impersonate resource "groups" in API group "" at the '
        "cluster scope"
    )
    with pytest.raises(BadRequest):
        acting(Recording("*"), impersonate_group="ops")


def test_the_anonymous_user_is_not_authenticated() -> None:
    identity = acting(Recording("*"), impersonate_user="system:anonymous")
    assert identity.groups == ("system:unauthenticated",)
