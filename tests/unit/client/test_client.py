from __future__ import annotations

import json
from contextlib import aclosing

import pytest

from orchestrator.api import status
from orchestrator.api.resources import NODES, PODS
from orchestrator.api.wire import Identity, Request, Response
from orchestrator.client.client import Client
from orchestrator.client.inprocess import InProcessTransport
from tests.unit.client.small_server import SmallServer

POD = {"metadata": {"name": "web", "namespace": "shop"}}


@pytest.fixture
async def server() -> SmallServer:
    return SmallServer()


@pytest.fixture
def client(server: SmallServer) -> Client:
    return Client(InProcessTransport(server.handle, Identity("system:test")), "tester/1")


async def test_a_created_object_names_its_type_and_is_read_back(server: SmallServer, client: Client) -> None:
    await client.create(PODS, POD)
    assert server.requests[0].path == "/api/v1/namespaces/shop/pods"
    assert server.requests[0].identity == Identity("system:test")
    assert server.requests[0].headers["user-agent"] == "tester/1"
    assert (await client.get(PODS, "web", "shop"))["kind"] == "Pod"


async def test_subresources_have_the_types_of_their_bodies(server: SmallServer, client: Client) -> None:
    server.answers = [Response(201, {}, b"{}")]
    await client.create(PODS, {"target": {"name": "n1"}}, "shop", subresource="binding", name="web")
    assert server.requests[0].path == "/api/v1/namespaces/shop/pods/web/binding"
    assert json.loads(server.requests[0].body)["kind"] == "Binding"


async def test_listed_items_get_their_type(server: SmallServer, client: Client) -> None:
    server.put("/api/v1/nodes/n1", {"metadata": {"name": "n1"}})
    listed = await client.list(NODES, label_selector="a=b", limit=5)
    assert [(item["kind"], item["apiVersion"]) for item in listed.items] == [("Node", "v1")]
    assert listed.resource_version == "101"
    assert server.requests[0].query == [("labelSelector", "a=b"), ("limit", "5")]


async def test_failures_are_raised_as_their_reasons(client: Client) -> None:
    with pytest.raises(status.NotFound):
        await client.get(NODES, "n1")
    await client.create(PODS, POD)
    with pytest.raises(status.AlreadyExists):
        await client.create(PODS, POD)


async def test_an_answer_that_is_no_status_keeps_its_code(server: SmallServer, client: Client) -> None:
    server.answers = [Response(502, {}, b"bad gateway")]
    with pytest.raises(status.ApiError, match="bad gateway") as caught:
        await client.get(NODES, "n1")
    assert caught.value.status_code == 502


async def test_too_many_requests_is_tried_again_when_it_says_when(server: SmallServer, client: Client) -> None:
    refusal = json.dumps(status.TooManyRequests("busy").to_status()).encode()
    server.answers = [Response(429, {"retry-after": "0"}, refusal)]
    await client.create(PODS, POD)
    assert len(server.requests) == 2
    server.answers = [Response(429, {}, refusal)]  # an eviction refused by a budget: for the caller to decide
    with pytest.raises(status.TooManyRequests):
        await client.create(PODS, POD)


async def test_a_server_out_of_reach_is_a_connection_error(server: SmallServer, client: Client) -> None:
    server.answers = [ConnectionError("refused")]
    with pytest.raises(ConnectionError):
        await client.get(NODES, "n1")


async def test_delete_carries_its_options(server: SmallServer, client: Client) -> None:
    server.put("/api/v1/namespaces/shop/pods/web", {"metadata": {"name": "web"}})
    await client.delete(PODS, "web", "shop", grace_period_s=0, propagation="Orphan", uid="u")
    assert json.loads(server.requests[0].body) == {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "gracePeriodSeconds": 0,
        "propagationPolicy": "Orphan",
        "preconditions": {"uid": "u"},
    }


async def test_patches_name_their_type(server: SmallServer, client: Client) -> None:
    server.put("/api/v1/nodes/n1", {"metadata": {"name": "n1"}})
    await client.patch(NODES, "n1", "", {"a": 1}, "apply", force=True)
    request = server.requests[0]
    assert request.headers["content-type"] == "application/apply-patch+yaml"
    assert request.query == [("fieldManager", "tester"), ("force", "true")]


async def test_a_watch_that_is_left_early_ends_its_stream(server: SmallServer, client: Client) -> None:
    server.put("/api/v1/nodes/n1", {"metadata": {"name": "n1"}})
    async with aclosing(client.watch(NODES, resource_version="100")) as events:
        async for event in events:
            assert event.object["metadata"]["name"] == "n1"
            break


async def test_the_raw_exchange_raises_nothing(client: Client) -> None:
    response = await client.request(Request("GET", "/api/v1/nodes/absent"))
    assert response.status == 404
