"""What a front proxy says of who asks is believed, what anyone else says is not."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from orchestrator.api.clock import FixedClock
from orchestrator.api.status import Unauthorized
from orchestrator.api.wire import Identity, Request
from orchestrator.apiserver.authn.chain import Authenticator
from orchestrator.apiserver.authn.clientcert import ClientCertificates
from orchestrator.apiserver.authn.jwt import KeySet, Signer
from orchestrator.apiserver.authn.requestheader import FrontProxies, RequestHeaders
from orchestrator.apiserver.authn.serviceaccount import ServiceAccountTokens, TokenSettings
from orchestrator.apiserver.lookup import MemoryLookup
from tests.unit.apiserver.authn.test_authentication import certificate

CLIENTS, PROXIES = b"authority of clients", b"authority of front proxies"
CLOCK = FixedClock()
PROXY = certificate("front-proxy-client")
SAID = {"x-remote-user": "ann", "x-remote-group": "ops"}


def authenticator(**settings: tuple[str, ...]) -> Authenticator:
    keys = KeySet([Signer(ec.generate_private_key(ec.SECP256R1())).public_key])
    proxies = FrontProxies(ClientCertificates(CLOCK, frozenset({PROXIES})), RequestHeaders(**settings))
    return Authenticator(
        certificates=ClientCertificates(CLOCK, frozenset({CLIENTS})),
        service_accounts=ServiceAccountTokens(keys, TokenSettings(), MemoryLookup(), CLOCK),
        proxies=proxies,
        clock=CLOCK,
    )


def said(
    headers: dict[str, str], anchor: bytes = PROXIES, der: bytes = PROXY, repeated: dict[str, list[str]] | None = None
) -> Request:
    return Request(
        "GET", "/api", headers=dict(headers), peer_certificate=der, peer_anchor=anchor, repeated=repeated or {}
    )


def test_a_front_proxy_says_who_asks() -> None:
    headers = {
        **SAID, "x-remote-uid": "7", "x-remote-extra-example.com%2fscope": "a, b", "x-remote-extra-acme": "c",
        "accept": "*/*",
    }  # fmt: skip
    request = said(headers, repeated={"x-remote-group": ["cn=a,dc=b", "", "ops"]})
    found = authenticator().authenticate(request)
    groups = ("cn=a,dc=b", "ops", "system:authenticated")
    assert found == Identity("ann", groups, "7", {"acme": ("c",), "example.com/scope": ("a, b",)})
    assert request.headers == {"accept": "*/*"}  # nobody behind believes them


def test_two_users_of_one_proxy_are_two() -> None:
    both = authenticator()
    assert both.authenticate(said({"x-remote-user": "ann"})).name == "ann"
    assert both.authenticate(said({"x-remote-user": "bob"})).name == "bob"


@pytest.mark.parametrize(
    "request_",
    [
        said(SAID, der=certificate("someone-else")),  # a name that is not allowed
        said({"x-remote-group": "ops"}),  # no user said
        said({}),
        Request("GET", "/healthz", peer_certificate=certificate("admin", "system:masters"), peer_anchor=PROXIES),
        said({}, der=certificate("admin", "system:masters")),  # the proxies' authority makes no users
        said(SAID, anchor=b"another"),
    ],
)
def test_others_are_nobody(request_: Request) -> None:
    with pytest.raises(Unauthorized):
        authenticator().authenticate(request_)


def test_what_a_client_says_of_itself_is_not_believed() -> None:
    request = said(SAID, anchor=CLIENTS, der=certificate("front-proxy-client", "dev"))
    assert authenticator().authenticate(request).name == "front-proxy-client"
    with pytest.raises(Unauthorized):
        authenticator().authenticate(Request("GET", "/api", headers=dict(SAID)))


def test_names_and_headers_are_settings() -> None:
    anyone = authenticator(allowed_names=(), username_headers=("X-First", "X-Second"), group_headers=("X-A", "X-B"))
    request = said({"x-second": "ann", "x-a": "a", "x-b": "b"}, der=certificate("someone"))
    found = anyone.authenticate(request)
    assert (found.name, found.groups) == ("ann", ("a", "b", "system:authenticated"))


def test_an_unauthenticated_user_stays_one() -> None:
    found = authenticator().authenticate(said({"x-remote-user": "x", "x-remote-group": "system:unauthenticated"}))
    assert found.groups == ("system:unauthenticated",)
