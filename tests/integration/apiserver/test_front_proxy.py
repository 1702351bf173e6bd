"""A front proxy before a whole server, over TLS with the certificates of a lab."""

from __future__ import annotations

import ssl
from typing import Any

import aiohttp
import pytest

from tests.whole_server import WholeServer

REVIEW = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
SAID = {"X-Remote-User": "ann", "X-Remote-Group": "system:masters"}


def tls(server: WholeServer, name: str) -> ssl.SSLContext:
    keys = server.folder / "pki"
    context = ssl.create_default_context(cafile=str(keys / "ca.crt"))
    context.load_cert_chain(str(keys / f"{name}.crt"), str(keys / f"{name}.key"))
    return context


async def who(server: WholeServer, name: str, headers: Any) -> tuple[int, Any]:
    """Who the server says that one asks who has the certificate `name`."""
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    url = f"https://127.0.0.1:{server.port}{REVIEW}"
    context = tls(server, name)
    found: tuple[int, Any] = (0, None)
    for _ in range(2):  # and again, on a connection that might take up the session
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, json=body, headers=headers, ssl=context) as answer,
        ):
            found = answer.status, await answer.json()
    return found


async def test_the_front_proxy_says_who_asks(server: WholeServer) -> None:
    headers = [("X-Remote-User", "ann"), ("X-Remote-Group", "cn=a,dc=b"), ("X-Remote-Group", "ops")]
    status, review = await who(server, "front-proxy-client", headers)
    assert status == 201, review
    assert review["status"]["userInfo"] == {"username": "ann", "groups": ["cn=a,dc=b", "ops", "system:authenticated"]}


@pytest.mark.parametrize("headers", [{}, {"X-Remote-Group": "system:masters"}])
async def test_a_proxy_that_does_not_say_is_nobody(server: WholeServer, headers: dict[str, str]) -> None:
    status, answer = await who(server, "front-proxy-client", headers)
    assert (status, answer["reason"]) == (401, "Unauthorized")


async def test_a_client_is_who_it_is(server: WholeServer) -> None:
    status, review = await who(server, "proxy", SAID)
    assert status == 201, review
    assert review["status"]["userInfo"]["username"] == "system:kube-proxy"
