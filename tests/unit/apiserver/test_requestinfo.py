"""From method, path and query to what is asked: one line a form."""

from __future__ import annotations

import pytest

from orchestrator.apiserver.request import parse

CASES = [
    ("GET", "/api/v1/pods", "", ("list", "", "v1", "", "pods", "", "")),
    ("GET", "/api/v1/pods", "watch=1", ("watch", "", "v1", "", "pods", "", "")),
    ("GET", "/api/v1/watch/namespaces/x/pods", "", ("watch", "", "v1", "x", "pods", "", "")),
    ("GET", "/api/v1/namespaces/x/pods/p", "", ("get", "", "v1", "x", "pods", "", "p")),
    ("HEAD", "/api/v1/namespaces/x/pods/p", "", ("get", "", "v1", "x", "pods", "", "p")),
    ("GET", "/api/v1/namespaces/x/pods/p/log", "", ("get", "", "v1", "x", "pods", "log", "p")),
    ("POST", "/apis/apps/v1/namespaces/x/deployments", "", ("create", "apps", "v1", "x", "deployments", "", "")),
    ("PUT", "/apis/apps/v1/namespaces/x/deployments/d/scale", "",
     ("update", "apps", "v1", "x", "deployments", "scale", "d")),
    ("PATCH", "/api/v1/nodes/n/status", "", ("patch", "", "v1", "", "nodes", "status", "n")),
    ("DELETE", "/api/v1/namespaces/x/pods", "", ("deletecollection", "", "v1", "x", "pods", "", "")),
    ("GET", "/api/v1/namespaces", "", ("list", "", "v1", "", "namespaces", "", "")),
    ("GET", "/api/v1/namespaces/x", "", ("get", "", "v1", "x", "namespaces", "", "x")),
    ("PUT", "/api/v1/namespaces/x/finalize", "", ("update", "", "v1", "x", "namespaces", "finalize", "x")),
    ("GET", "/api/v1/secrets", "fieldSelector=metadata.name%3Ds", ("list", "", "v1", "", "secrets", "", "")),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "query", "wanted"), CASES, ids=[f"{c[0]} {c[1]}?{c[2]}" for c in CASES])
def test_a_resource_request(method: str, path: str, query: str, wanted: tuple[str, ...]) -> None:
    pairs = [(part.partition("=")[0], part.partition("=")[2]) for part in query.split("&") if part]
    info = parse(method, path, pairs)
    found = (info.verb, info.group, info.version, info.namespace, info.resource, info.subresource, info.name)
    assert info.is_resource
    assert found == wanted


def test_a_list_of_one_name_is_authorized_by_it() -> None:
    assert parse("GET", "/api/v1/secrets", [("fieldSelector", "metadata.name=s")]).name == "s"
    assert parse("GET", "/api/v1/secrets", [("fieldSelector", "metadata.name=s,type=x")]).name == ""


@pytest.mark.parametrize(
    "path", ["/", "/api", "/apis", "/api/v1", "/apis/apps", "/apis/apps/v1", "/healthz", "/openapi/v3"]
)
def test_a_plain_path(path: str) -> None:
    info = parse("GET", path, [])
    assert not info.is_resource
    assert (info.verb, info.path) == ("get", path)


def test_what_follows_a_subresource_is_kept() -> None:
    assert parse("GET", "/api/v1/namespaces/x/services/s/proxy/a/b", []).parts == ("a", "b")
