"""Proxy subresources: whom they reach, and what of an answer they change."""

from __future__ import annotations

import gzip
import random
import ssl
import zlib
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from orchestrator.api import status
from orchestrator.api.resources import ENDPOINTSLICES, PODS, SERVICES
from orchestrator.api.wire import Request, Response
from orchestrator.apiserver.handlers import Call
from orchestrator.apiserver.lookup import MemoryLookup
from orchestrator.apiserver.streams import links
from orchestrator.apiserver.streams.backend import Backends
from orchestrator.apiserver.streams.proxy import (
    Endpoint,
    Proxies,
    Reference,
    check_address,
    ready_endpoints,
    service_port,
)

PREFIX = "/api/v1/namespaces/d/pods/web/proxy"
PLACE = links.Place(PREFIX, "10.0.0.1:80", "cluster.example:6443")


def test_where_a_service_leads() -> None:
    service = {"spec": {"ports": [{"name": "http", "port": 80}, {"name": "admin", "port": 81}]}}
    assert service_port(service, Reference("", "web", "81")) == "admin"
    assert service_port(service, Reference("", "web", "http")) == "http"
    with pytest.raises(status.ServiceUnavailable, match='no service port "90" found for service "web"'):
        service_port(service, Reference("", "web", "90"))
    slices = [
        {
            "ports": [{"name": "http", "port": 8080}],
            "endpoints": [
                {"addresses": ["10.0.0.1"], "conditions": {"ready": True}, "targetRef": {"kind": "Pod", "name": "one"}},
                {"addresses": ["10.0.0.2"], "conditions": {"ready": False}},
                {"addresses": ["10.0.0.3"]},
            ],
        }
    ]
    assert ready_endpoints(slices, "http") == [Endpoint("10.0.0.1", 8080, "one"), Endpoint("10.0.0.3", 8080, "")]
    assert ready_endpoints(slices, "admin") == []


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("/login?x=1#top", f"{PREFIX}/login?x=1#top"),
        ("/a/../b/", f"{PREFIX}/b/"),
        (f"{PREFIX}/there", f"{PREFIX}/there"),
        ("http://10.0.0.1:80/login", f"{PREFIX}/login"),
        ("https://cluster.example:6443/login", f"https://cluster.example:6443{PREFIX}/login"),
        ("https://example.org/", "https://example.org/"),
        ("next", "next"),
        ("http://[bad/", "http://[bad/"),
    ],
)
def test_urls_lead_through_the_proxy(url: str, expected: str) -> None:
    assert PLACE.url(url) == expected


PAGE = (
    b"<!DOCTYPE html>\n<A HREF='/a?b=1&amp;c' class=x>\xff &lt;\n</A><img src=\"/i.png\" /><!-- <a href='/no'> -->\n"
    b"<script>s = \"<a href='/no'>\"</script><a href=rel>r</a><p title='/no'>"
)
LED = (
    b'<!DOCTYPE html>\n<a href="%(at)s/a?b=1&amp;c" class="x">\xff &lt;\n</A><img src="%(at)s/i.png"/>'
    b"<!-- <a href='/no'> -->\n<script>s = \"<a href='/no'>\"</script><a href=rel>r</a><p title='/no'>"
) % {b"at": PREFIX.encode()}


def test_links_of_a_page_lead_through_the_proxy_and_all_else_stays() -> None:
    assert links.rewritten(PAGE, "", PLACE) == LED
    assert gzip.decompress(links.rewritten(gzip.compress(PAGE), "gzip", PLACE) or b"") == LED
    packed = zlib.compressobj(wbits=-15)
    deflated = links.rewritten(packed.compress(PAGE) + packed.flush(), "deflate", PLACE)
    assert zlib.decompress(deflated or b"", -15) == LED


@pytest.mark.parametrize(("body", "encoding"), [(PAGE, "br"), (PAGE, "gzip"), (PAGE, "deflate")])
def test_a_page_in_an_encoding_that_it_does_not_have_is_left_alone(body: bytes, encoding: str) -> None:
    assert links.rewritten(body, encoding, PLACE) is None


@pytest.mark.parametrize(
    "address", ["", "127.0.0.1", "::1", "0.0.0.0", "169.254.1.1", "fe80::1", "::ffff:127.0.0.1", "224.0.0.1",
                "255.255.255.255", "localhost"],
)  # fmt: skip
def test_what_is_the_servers_own_is_not_reached(address: str) -> None:
    with pytest.raises(status.BadRequest, match="address not allowed"):
        check_address(address)


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    async def read(self) -> bytes:
        return self.body

    def close(self) -> None:
        pass


@dataclass
class Session:
    """Answers every request the same, and notes it."""

    answer: Answer
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    async def request(self, method: str, url: Any, *, headers: Any, **_: Any) -> Answer:
        self.asked.append((f"{method} {url}", {name.lower(): value for name, value in headers.items()}))
        return self.answer


def proxies(answer: Answer) -> tuple[Proxies, MemoryLookup, Session]:
    lookup, session = MemoryLookup(), Session(answer)
    backends = Backends(lookup, ssl.create_default_context())
    backends._session = cast(Any, session)
    return Proxies(backends, lookup, random.Random(1)), lookup, session


def call(path: str, name: str) -> Call:
    info = type("Info", (), {"name": name, "namespace": "d"})()
    request = Request("GET", path, headers={"host": "cluster.example:6443"})
    return Call(request, cast(Any, info), cast(Any, None), cast(Any, None))


def pod(name: str, address: str) -> dict[str, Any]:
    status_ = {"podIP": address, "podIPs": [{"ip": address}]}
    return {"metadata": {"name": name, "namespace": "d"}, "spec": {"containers": []}, "status": status_}


async def test_a_page_of_a_pod() -> None:
    headers = {"Content-Type": "text/html; charset=utf-8", "Access-Control-Allow-Origin": "*", "X-Own": "kept"}
    handlers, lookup, session = proxies(Answer(200, headers, b'<a href="/rewriteme">test</a>'))
    lookup.put(PODS, pod("web", "10.0.0.1"))
    answer = await handlers.pod(call(f"{PREFIX}/page/", "web"))
    assert isinstance(answer, Response)
    assert answer.body == f'<a href="{PREFIX}/rewriteme">test</a>'.encode()
    assert answer.headers == {"content-type": "text/html; charset=utf-8", "x-own": "kept"}
    ((asked, sent),) = session.asked
    assert asked == "GET http://10.0.0.1/page/"
    assert sent["x-forwarded-uri"] == f"{PREFIX}/page/"


@pytest.mark.parametrize(
    ("reference", "is_reached"),
    [
        pytest.param({"kind": "Pod", "name": "web"}, True, id="a-pod"),
        pytest.param({"kind": "Pod", "name": "other"}, False, id="another-pods-address"),
        pytest.param({"kind": "Pod", "name": "gone"}, False, id="no-pod"),
        pytest.param(None, False, id="whoever-wrote-it"),
    ],
)
async def test_a_service_leads_to_pods_alone(reference: dict[str, str] | None, is_reached: bool) -> None:
    handlers, lookup, session = proxies(Answer(302, {"Location": "/login"}, b""))
    lookup.put(PODS, pod("web", "10.0.0.1"))
    lookup.put(PODS, pod("other", "10.0.0.2"))
    spec = {"ports": [{"port": 80}]}
    lookup.put(SERVICES, {"metadata": {"name": "web", "namespace": "d"}, "spec": spec})
    endpoint = {"addresses": ["10.0.0.1"], **({"targetRef": reference} if reference else {})}
    labels = {"kubernetes.io/service-name": "web"}
    lookup.put(
        ENDPOINTSLICES,
        {
            "metadata": {"name": "web-1", "namespace": "d", "labels": labels},
            "ports": [{"name": "", "port": 8080}],
            "endpoints": [endpoint],
        },
    )
    asked = call("/api/v1/namespaces/d/services/web/proxy/", "web")
    if not is_reached:
        with pytest.raises(status.ServiceUnavailable, match='no endpoints available for service "web"'):
            await handlers.service(asked)
        assert not session.asked
        return
    answer = await handlers.service(asked)
    assert isinstance(answer, Response)
    assert answer.headers["location"] == "/api/v1/namespaces/d/services/web/proxy/login"
