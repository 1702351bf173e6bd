"""Logs and streams of a pod that no node has, and options that cannot be meant: what kube-apiserver v1.36.3 answers."""

from __future__ import annotations

import random
import ssl
from collections.abc import AsyncIterator

import orjson
import pytest
import pytest_asyncio

from orchestrator.apiserver.streams import table
from orchestrator.apiserver.streams.backend import Backends
from orchestrator.apiserver.streams.logoptions import kubelet_query
from tests.apiserver_fixture import Served, serving
from tests.unit.apiserver.rest import PODS, call, pod, send


@pytest_asyncio.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as made:
        backends = Backends(made.server.lookup, ssl.create_default_context())
        handlers = table.handlers(backends, made.server.lookup, random.Random(1))
        made.server.core.tables.handlers = {**made.server.core.tables.handlers, **handlers}
        assert (await call(made, "POST", PODS, pod("p")))[0] == 201
        containers = [{"name": name, "image": "x"} for name in "cd"]
        two = pod("two", initContainers=[{"name": "i", "image": "x"}], containers=containers)
        assert (await call(made, "POST", PODS, two))[0] == 201
        yield made
        await backends.close()


@pytest.mark.parametrize(
    "asked",
    [
        "p/log", "p/log?follow=true", "p/log?follow=maybe", "p/log?follow=1&timestamps=1&previous=1",
        "p/log?container=", "p/log?unknown=1", "two/log?container=i",
    ],
)  # fmt: skip
async def test_a_pod_that_no_node_has_has_no_log(served: Served, asked: str) -> None:
    answer = await send(served, "GET", f"{PODS}/{asked}")
    assert (answer.status, answer.body) == (204, b"")
    assert "content-type" not in answer.headers


LEAST = "must be greater than 0"


@pytest.mark.parametrize(
    ("asked", "status", "message"),
    [
        ("p/log?tailLines=-1", 422, "tailLines: Invalid value: -1: must be greater than or equal to 0"),
        ("p/log?limitBytes=0", 422, f"limitBytes: Invalid value: 0: {LEAST}"),
        ("p/log?sinceSeconds=0", 422, f"sinceSeconds: Invalid value: 0: {LEAST}"),
        (
            "p/log?sinceSeconds=5&sinceTime=2026-01-01T00:00:00Z", 422,
            "[]: Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified",
        ),
        ("p/log?stream=Stdout", 422, "stream: Forbidden: may not be specified"),
        (
            "p/log?tailLines=-1&limitBytes=0&container=zz", 422,
            "[tailLines: Invalid value: -1: must be greater than or equal to 0, "
            f"limitBytes: Invalid value: 0: {LEAST}]",
        ),
        ("p/log?tailLines=x", 400, 'strconv.ParseInt: parsing "x": invalid syntax'),
        (
            "p/log?sinceTime=garbage", 400,
            'parsing time "garbage" as "2006-01-02T15:04:05Z07:00": cannot parse "garbage" as "2006"',
        ),
        ("two/log", 400, "a container name must be specified for pod two, choose one of: [i c d]"),
        ("two/log?container=zz", 400, "container zz is not valid for pod two"),
        ("none/log", 404, 'pods "none" not found'),
    ],
)  # fmt: skip
async def test_a_log_that_cannot_be_meant(served: Served, asked: str, status: int, message: str) -> None:
    answer = await send(served, "GET", f"{PODS}/{asked}")
    assert isinstance(answer.body, bytes)
    if status == 422:
        message = f'PodLogOptions "p" is invalid: {message}'
    assert (answer.status, orjson.loads(answer.body)["message"]) == (status, message)


@pytest.mark.parametrize("asked", ["exec?command=a&stdout=1", "exec", "attach?stdout=1", "attach", "portforward"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_pod_that_no_node_has_has_no_streams(served: Served, method: str, asked: str) -> None:
    status, answer = await call(served, method, f"{PODS}/p/{asked}")
    assert (status, answer["message"]) == (400, "pod p does not have a host assigned")


def test_the_kubelet_is_asked_in_its_own_way() -> None:
    query = [("follow", "yes"), ("previous", "False"), ("timestamps", "0"), ("tailLines", "+7"), ("container", "c")]
    assert kubelet_query(query, "p") == [("follow", "true"), ("tailLines", "7")]
    since = "2026-01-01T00:00:00Z"
    assert kubelet_query([("sinceTime", since), ("limitBytes", "5")], "p") == [
        ("limitBytes", "5"),
        ("sinceTime", since),
    ]
