"""Methods that are no verb of ours: refused, but where a request is passed on."""

import pytest

from orchestrator.api.wire import Request, Response
from orchestrator.apiserver.handlers import Call, Tables
from tests.apiserver_fixture import serving


async def relay(call: Call) -> Response:
    return Response(200, body=call.request.method.encode())


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        pytest.param("POST", "/apis/nobody.example.com/v1/things", 404, id="no-such-group"),
        pytest.param("HEAD", "/api/v1/namespaces/default/pods", 405, id="resources-have-no-head"),
        pytest.param("PUT", "/api/v1/namespaces/default/pods", 405, id="nor-can-a-list-be-put"),
        pytest.param("PATCH", "/api/v1/namespaces/default/pods", 405, id="nor-patched"),
        pytest.param("HEAD", "/api/v1/namespaces/default/pods/web/proxy", 200, id="a-proxied-head-is-passed-on"),
        pytest.param("GET", "/nothing", 404, id="no-such-path"),
    ],
)
async def test_methods_as_upstreams_routes_have_them(method: str, path: str, status: int) -> None:
    async with serving(tables=Tables(handlers={("pods", "proxy"): relay})) as served:
        answer = await served.server.handle(Request(method, path))
        assert answer.status == status
        if status == 404:
            assert (answer.headers["content-type"], answer.body) == (
                "text/plain; charset=utf-8",
                b"404 page not found\n",
            )


@pytest.mark.parametrize(
    ("path", "status"),
    [
        pytest.param("/api/v1/namespaces/default/pods/web/proxy", 200, id="a-proxied-one-is-passed-on"),
        pytest.param("/api/v1/namespaces/default/services/web/proxy", 405, id="not-where-nobody-passes-it-on"),
        pytest.param("/api/v1/namespaces/default/pods/web/log", 405, id="a-log-has-none"),
        pytest.param("/api/v1/namespaces/default/pods", 405, id="nor-has-a-list"),
    ],
)
async def test_options(path: str, status: int) -> None:
    async with serving(tables=Tables(handlers={("pods", "proxy"): relay})) as served:
        answer = await served.server.handle(Request("OPTIONS", path))
        assert answer.status == status
        assert answer.body == b"OPTIONS" or status != 200


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("path", ["/apis/authentication.k8s.io/v1alpha1/selfsubjectreviews", "/apis/apps/v1/things"])
async def test_what_a_group_does_not_serve_is_told_as_a_status(method: str, path: str) -> None:
    async with serving() as served:
        answer = await served.server.handle(Request(method, path))
        assert (answer.status, answer.headers["content-type"]) == (404, "application/json")
        assert isinstance(answer.body, bytes) and b"the server could not find the requested resource" in answer.body
