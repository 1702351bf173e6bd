from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.api.resources import NODES, PODS, ROWS, Resource
from orchestrator.api.wire import Identity
from orchestrator.client.cache import by_namespace
from orchestrator.client.client import Client
from orchestrator.client.informer import Informers
from orchestrator.client.inprocess import InProcessTransport
from tests.unit.client.small_server import SmallServer

PATH = "/api/v1/nodes"


def node(name: str, **labels: str) -> Object:
    return {"metadata": {"name": name, "labels": labels, "managedFields": [{"manager": "kubectl"}]}}


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0.002)


@pytest.fixture(params=[True, False], ids=["streamed-list", "plain-list"])
async def server(request: pytest.FixtureRequest) -> SmallServer:
    return SmallServer(streams_lists=request.param)


@pytest.fixture
def informers(server: SmallServer) -> Informers:
    return Informers(Client(InProcessTransport(server.handle, Identity("test"))), random.Random(1))


async def test_the_cache_follows_the_server(server: SmallServer, informers: Informers) -> None:
    heard: list[tuple[str | None, str | None]] = []
    server.put(f"{PATH}/n1", node("n1", zone="a"))
    nodes = informers.informer(NODES, indexers={"zone": lambda obj: [meta.labels(obj).get("zone", "")]})
    nodes.add_handler(lambda old, new: heard.append((old and meta.name(old), new and meta.name(new))))
    async with informers:
        await informers.wait_synced()
        assert "managedFields" not in meta.metadata(nodes.cache.get("n1") or {})
        assert [meta.name(obj) for obj in nodes.cache.by_index("zone", "a")] == ["n1"]
        server.put(f"{PATH}/n1", node("n1", zone="b"))
        server.put(f"{PATH}/n2", node("n2", zone="b"))
        await server.wake()
        await until(lambda: len(nodes.cache) == 2)
        assert nodes.cache.by_index("zone", "a") == []
        assert [meta.name(obj) for obj in nodes.cache.by_index("zone", "b")] == ["n1", "n2"]
        server.remove(f"{PATH}/n1")
        await server.wake()
        await until(lambda: len(nodes.cache) == 1)
    assert heard == [(None, "n1"), ("n1", "n1"), (None, "n2"), ("n1", None)]
    assert nodes.resource_version == str(server.revision)


async def test_a_watch_that_is_too_old_lists_again_and_tells_the_difference(
    server: SmallServer, informers: Informers
) -> None:
    heard: list[tuple[bool, bool]] = []
    server.put(f"{PATH}/n1", node("n1"))
    server.put(f"{PATH}/n2", node("n2"))
    nodes = informers.informer(NODES)
    async with informers:
        await informers.wait_synced()
        nodes.add_handler(lambda old, new: heard.append((old is not None, new is not None)))
        assert heard == [(False, True), (False, True)]
        server.remove(f"{PATH}/n1")
        server.put(f"{PATH}/n3", node("n3"))
        server.compacted = server.revision
        server.log.clear()
        server.cut += 1
        await server.wake()
        await until(lambda: sorted(nodes.cache.keys()) == ["n2", "n3"])
    assert heard[2:] == [(True, False), (False, True)]


async def test_a_watch_that_ends_goes_on_without_loss(server: SmallServer, informers: Informers) -> None:
    nodes = informers.informer(NODES)
    async with informers:
        await informers.wait_synced()
        for count in range(20):
            server.put(f"{PATH}/n{count}", node(f"n{count}"))
            if count % 5 == 0:
                server.cut += 1
            await server.wake()
            await asyncio.sleep(0)
        await until(lambda: len(nodes.cache) == 20)


async def test_a_server_out_of_reach_is_tried_again(server: SmallServer, informers: Informers) -> None:
    server.answers = [ConnectionError("refused")]
    informers.informer(NODES)
    async with informers:
        await asyncio.wait_for(informers.wait_synced(), 5)


@pytest.mark.parametrize(
    ("error", "longest_s"),
    [
        pytest.param(ConnectionRefusedError("nobody listens"), (1.0, 3.0), id="not-there-yet"),
        pytest.param(ConnectionError("stream broken"), (15.0, 45.0), id="there-and-failing"),
    ],
)
async def test_a_server_that_is_not_there_yet_is_soon_found(
    server: SmallServer,
    informers: Informers,
    error: Exception,
    longest_s: tuple[float, float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waited: list[float] = []
    rest = asyncio.sleep

    async def noted(seconds: float) -> None:
        waited.append(seconds)
        await rest(0)

    server.answers = [error] * 12
    informers.informer(NODES)
    monkeypatch.setattr("orchestrator.client.informer.asyncio.sleep", noted)
    async with informers:
        await asyncio.wait_for(informers.wait_synced(), 5)
    assert longest_s[0] <= max(waited) <= longest_s[1]


async def test_for_a_server_that_is_not_there_one_knocks_for_all(
    server: SmallServer, informers: Informers, monkeypatch: pytest.MonkeyPatch
) -> None:
    resources = list(ROWS)[:12]
    server.answers = [ConnectionRefusedError("nobody listens")] * (len(resources) + 5)
    rest = asyncio.sleep
    waited: list[float] = []

    async def noted(seconds: float) -> None:
        waited.append(seconds)
        await rest(0)

    monkeypatch.setattr("orchestrator.client.door.asyncio.sleep", noted)
    for resource in resources:
        informers.informer(resource)
    async with informers:
        await asyncio.wait_for(informers.wait_synced(), 5)
    assert len(waited) == 6  # after each has tried once, and with it for the last time


async def test_one_informer_for_all_who_ask_and_late_ones_start_too(server: SmallServer, informers: Informers) -> None:
    nodes = informers.informer(NODES)
    assert informers.informer(NODES, indexers={"ns": by_namespace}) is nodes
    async with informers:
        await informers.wait_synced()
        assert informers.informer(PODS, field_selector="spec.nodeName=n1") is not informers.informer(PODS)
        await asyncio.wait_for(informers.wait_synced(), 5)


async def test_an_informer_stops_with_the_last_who_holds_it(server: SmallServer, informers: Informers) -> None:
    heard: list[str] = []

    def hears(old: Object | None, new: Object | None) -> None:
        heard.append(meta.name(new or {}))

    nodes = informers.informer(NODES)
    same_in_other_words = Resource("", "v1", "nodes", "Node", namespaced=False)
    assert informers.shared(same_in_other_words) is nodes
    assert informers.informer(NODES, is_metadata_only=True) is nodes
    nodes.add_handler(hears)
    async with informers:
        await informers.wait_synced()
        informers.release(nodes)
        informers.release(nodes)
        server.put(f"{PATH}/n1", node("n1"))
        await server.wake()
        await until(lambda: len(nodes.cache) == 1)
        nodes.remove_handler(hears)
        server.put(f"{PATH}/n2", node("n2"))
        await server.wake()
        await until(lambda: len(nodes.cache) == 2)
        informers.release(nodes)
        assert informers.shared(same_in_other_words) is not nodes
    assert heard == ["n1"]


async def test_a_failing_handler_does_not_keep_others_from_hearing(server: SmallServer, informers: Informers) -> None:
    heard: list[str] = []

    def fails(old: Object | None, new: Object | None) -> None:
        raise ValueError("a fault in a handler")

    nodes = informers.informer(NODES)
    nodes.add_handler(fails)
    nodes.add_handler(lambda old, new: heard.append(meta.name(new or {})))
    server.put(f"{PATH}/n1", node("n1"))
    async with informers:
        await informers.wait_synced()
    assert heard == ["n1"]
