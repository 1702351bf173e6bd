"""What the API is asked for, and what kubelets and pods are asked in turn."""

from typing import Any

import pytest

from orchestrator.api import status
from orchestrator.apiserver.streams.backend import address_of, port_of
from orchestrator.apiserver.streams.podstreams import container_of, log_refusal, port_query, stream_query
from orchestrator.apiserver.streams.proxy import Reference, parse_reference, pod_port
from orchestrator.apiserver.streams.relay import parse_head, path_and_query, refusal


def pod(*names: str, init: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "metadata": {"name": "web"},
        "spec": {"containers": [{"name": n} for n in names], "initContainers": [{"name": n} for n in init]},
    }


def test_the_only_container_is_the_default() -> None:
    assert container_of(pod("a", init=("i",)), "") == "a"
    assert container_of(pod("a", "b", init=("i",)), "i") == "i"


@pytest.mark.parametrize(
    ("of", "asked", "message"),
    [
        (pod("a", "b", init=("i",)), "", "a container name must be specified for pod web, choose one of: [i a b]"),
        (pod(), "", "a container name must be specified for pod web"),
        (pod("a"), "x", "container x is not valid for pod web"),
    ],
)
def test_a_container_that_cannot_be_meant(of: dict[str, Any], asked: str, message: str) -> None:
    with pytest.raises(status.BadRequest) as error:
        container_of(of, asked)
    assert error.value.message == message


def test_stream_options_have_other_names_at_the_kubelet() -> None:
    assert stream_query([("stdin", "true"), ("stdout", "1"), ("tty", "false")]) == [("input", "1"), ("output", "1")]
    with pytest.raises(status.BadRequest, match="at least 1 of stdin, stdout, stderr"):
        stream_query([("tty", "true")])
    assert port_query([("ports", "80,81"), ("ports", "82")]) == [("port", "80"), ("port", "81"), ("port", "82")]


def test_answers_of_the_other_end() -> None:
    assert parse_head(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n") == (
        101,
        {"upgrade": "websocket"},
    )
    assert refusal(500, 'container not found ("x")').message == (
        'Internal error occurred: unable to upgrade connection: container not found ("x")'
    )
    assert isinstance(refusal(403, "Forbidden"), status.Forbidden)
    waiting = 'container "a" in pod "web" is waiting to start: ContainerCreating'
    found = log_refusal(400, waiting, "web")
    assert (type(found), found.message) == (status.BadRequest, waiting)


def test_paths_are_quoted_once() -> None:
    assert path_and_query("/exec/d/web/a", [("command", "sh"), ("command", "echo a&b")]) == (
        "/exec/d/web/a?command=sh&command=echo+a%26b"
    )


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("web", Reference("", "web", "")),
        ("web:80", Reference("", "web", "80")),
        ("https:web:443", Reference("https", "web", "443")),
        ("https:web:", Reference("https", "web", "")),
    ],
)
def test_references(text: str, wanted: Reference) -> None:
    assert parse_reference(text) == wanted


def test_a_bad_reference() -> None:
    with pytest.raises(status.BadRequest):
        parse_reference("a:b:c:d")


def test_where_a_pod_and_a_kubelet_listen() -> None:
    assert pod_port({"spec": {"containers": [{}, {"ports": [{"containerPort": 8080}]}]}}, "") == 8080
    assert pod_port({}, "81") == 81
    node = {
        "status": {
            "addresses": [
                {"type": "Hostname", "address": "n1"},
                {"type": "InternalIP", "address": "172.29.0.1"},
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10251}},
        }
    }
    assert (address_of(node), port_of(node)) == ("172.29.0.1", 10251)
    assert port_of({}) == 10250
