"""WATCH: what each kind of start shows, and that nothing is missed, doubled or out of order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from orchestrator.apiserver import resourcecache, stream, watchcache, watching
from orchestrator.apiserver.stream import PushStream
from tests.apiserver_fixture import Served, serving
from tests.unit.apiserver.rest import CONFIGMAPS, PODS, call, configmap, pod, send


class Watch:
    """The frames of a watch, as far as they have come."""

    def __init__(self, body: PushStream) -> None:
        self.body = body
        self._lines: list[dict[str, Any]] = []

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(5):
            while not self._lines:
                chunk = await self.body.__anext__()
                self._lines = [orjson.loads(line) for line in chunk.splitlines()]
        return self._lines.pop(0)

    async def take(self, count: int) -> list[tuple[str, str]]:
        events = [await self.next() for _ in range(count)]
        return [(event["type"], event["object"]["metadata"].get("name", "")) for event in events]


async def watch(served: Served, url: str, **headers: str) -> Watch:
    answer = await send(served, "GET", f"{url}{'&' if '?' in url else '?'}watch=true", **headers)
    assert answer.status == 200, answer.body
    assert isinstance(answer.body, PushStream)
    return Watch(answer.body)


async def test_the_present_comes_first_then_changes() -> None:
    async with serving() as served:
        await call(served, "POST", CONFIGMAPS, configmap("a"))
        seen = await watch(served, CONFIGMAPS)
        await call(served, "POST", CONFIGMAPS, configmap("b"))
        await call(served, "PUT", f"{CONFIGMAPS}/a", configmap("a", x="1"))
        await call(served, "DELETE", f"{CONFIGMAPS}/b")
        assert await seen.take(4) == [("ADDED", "a"), ("ADDED", "b"), ("MODIFIED", "a"), ("DELETED", "b")]


async def test_a_table_says_its_columns_once_and_a_bookmark_is_a_row() -> None:
    async with serving() as served:
        for name in ("a", "b"):
            await call(served, "POST", CONFIGMAPS, configmap(name))
        query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
        accept = "application/json;as=Table;v=v1;g=meta.k8s.io"
        seen = await watch(served, f"{CONFIGMAPS}?{query}", accept=accept)
        first, second, mark = [(await seen.next())["object"] for _ in range(3)]
        assert [column["name"] for column in first["columnDefinitions"]] == ["Name", "Data", "Age"]
        assert second["columnDefinitions"] is None and mark["columnDefinitions"] is None
        (row,) = mark["rows"]
        assert row["object"]["kind"] == "PartialObjectMetadata"
        revision = mark["metadata"]["resourceVersion"]
        annotations = {"k8s.io/initial-events-end": "true"}
        assert row["object"]["metadata"] == {"resourceVersion": revision, "annotations": annotations}


async def test_a_deletion_carries_its_own_revision() -> None:
    async with serving() as served:
        _, made = await call(served, "POST", CONFIGMAPS, configmap("a", x="1"))
        seen = await watch(served, f"{CONFIGMAPS}?resourceVersion=2")
        await call(served, "DELETE", f"{CONFIGMAPS}/a")
        event = await seen.next()
        assert (event["type"], event["object"]["data"]) == ("DELETED", {"x": "1"})
        assert event["object"]["metadata"] == {**made["metadata"], "resourceVersion": "3"}


@pytest.mark.parametrize("window", [1000, 2], ids=["from-the-window", "from-the-store"])
async def test_a_watch_goes_on_from_any_revision(window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resourcecache, "WINDOW_CHANGES", window)
    async with serving() as served:
        for number in range(5):
            await call(served, "POST", CONFIGMAPS, configmap(f"c{number}"))
        await call(served, "PUT", f"{CONFIGMAPS}/c1", configmap("c1", x="1"))
        await call(served, "DELETE", f"{CONFIGMAPS}/c0")
        seen = await watch(served, f"{CONFIGMAPS}?resourceVersion=4")
        await call(served, "POST", CONFIGMAPS, configmap("new"))
        wanted = [("ADDED", "c3"), ("ADDED", "c4"), ("MODIFIED", "c1"), ("DELETED", "c0"), ("ADDED", "new")]
        assert await seen.take(5) == wanted


async def test_an_expired_revision_is_an_error_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resourcecache, "WINDOW_CHANGES", 1)
    async with serving() as served:
        for number in range(5):
            await call(served, "POST", CONFIGMAPS, configmap(f"c{number}"))
        await served.store.compact(5)
        seen = await watch(served, f"{CONFIGMAPS}?resourceVersion=2")
        event = await seen.next()
        assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")
        with pytest.raises(StopAsyncIteration):
            await seen.next()


async def test_an_object_that_begins_to_match_is_added_and_one_that_stops_is_deleted() -> None:
    async with serving() as served:
        seen = await watch(served, f"{CONFIGMAPS}?labelSelector=on")
        body = configmap("a")
        for labels in ({}, {"on": ""}, {"on": "", "x": ""}, {}, {"x": ""}, {"on": ""}):
            body["metadata"]["labels"] = labels
            method, url = ("PUT", f"{CONFIGMAPS}/a") if served.store.revision > 1 else ("POST", CONFIGMAPS)
            await call(served, method, url, body)
        assert [kind for kind, _ in await seen.take(4)] == ["ADDED", "MODIFIED", "DELETED", "ADDED"]


async def test_a_watch_of_one_node_sees_its_pods_only() -> None:
    async with serving() as served:
        seen = await watch(served, "/api/v1/pods?fieldSelector=spec.nodeName%3Dn1")
        for name, node in (("a", "n1"), ("b", "n2"), ("c", "n1")):
            await call(served, "POST", PODS, pod(name, nodeName=node))
        assert await seen.take(2) == [("ADDED", "a"), ("ADDED", "c")]


async def test_a_watch_list_ends_its_present_with_the_annotated_bookmark() -> None:
    async with serving() as served:
        await call(served, "POST", CONFIGMAPS, configmap("a"))
        query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
        seen = await watch(served, f"{CONFIGMAPS}?{query}")
        assert await seen.take(1) == [("ADDED", "a")]
        bookmark = await seen.next()
        assert bookmark["type"] == "BOOKMARK"
        assert bookmark["object"]["kind"] == "ConfigMap"
        assert bookmark["object"]["metadata"] == {
            "resourceVersion": "2",
            "annotations": {"k8s.io/initial-events-end": "true"},
        }
        status, answer = await call(served, "GET", f"{CONFIGMAPS}?watch=1&sendInitialEvents=true")
        assert (status, answer["reason"]) == (422, "Invalid")


async def test_a_watch_ends_after_its_timeout_with_a_bookmark() -> None:
    async with serving() as served:
        seen = await watch(served, f"{CONFIGMAPS}?timeoutSeconds=1&allowWatchBookmarks=true&resourceVersion=1")
        event = await seen.next()
        assert (event["type"], event["object"]["metadata"]["resourceVersion"]) == ("BOOKMARK", "1")
        with pytest.raises(StopAsyncIteration):
            await seen.next()
        assert not served.server.core.endpoints["", "v1", "configmaps"].cache.observers()


async def test_two_watchers_see_the_same_order_of_racing_writes() -> None:
    async with serving() as served:
        one, two = await watch(served, CONFIGMAPS), await watch(served, CONFIGMAPS)
        await asyncio.gather(*(call(served, "POST", CONFIGMAPS, configmap(f"c{number}")) for number in range(100)))
        events = [await one.next() for _ in range(100)]
        assert events == [await two.next() for _ in range(100)]
        revisions = [int(event["object"]["metadata"]["resourceVersion"]) for event in events]
        assert revisions == sorted(set(revisions))


async def test_a_table_watch_sends_its_columns_once() -> None:
    async with serving() as served:
        await call(served, "POST", CONFIGMAPS, configmap("a"))
        seen = await watch(served, CONFIGMAPS, accept="application/json;as=Table;v=v1;g=meta.k8s.io")
        await call(served, "POST", CONFIGMAPS, configmap("b"))
        first, second = (await seen.next())["object"], (await seen.next())["object"]
        assert first["kind"] == second["kind"] == "Table"
        assert first["columnDefinitions"] and not second["columnDefinitions"]
        assert second["rows"][0]["cells"][0] == "b"


async def test_what_many_watchers_must_see_goes_out_together() -> None:
    async with serving() as served:
        watches = [await watch(served, CONFIGMAPS) for _ in range(watchcache.TOGETHER_MIN + 1)]
        for name in ("a", "b", "c"):
            await call(served, "POST", CONFIGMAPS, configmap(name))
        for seen in watches:
            async with asyncio.timeout(5):
                chunk = await seen.body.__anext__()
            assert [orjson.loads(line)["object"]["metadata"]["name"] for line in chunk.splitlines()] == ["a", "b", "c"]


class SlowConnection:
    def __init__(self) -> None:
        self.written = 0
        self.ended = ""

    def write(self, data: bytes) -> None:
        self.written += len(data)

    def unsent_bytes(self) -> int:
        return self.written

    def finish(self) -> None:
        self.ended = self.ended or "finished"

    def abort(self) -> None:
        self.ended = self.ended or "aborted"


async def test_a_slow_watcher_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "UNSENT_BYTES_MAX", 1000)
    async with serving() as served:
        seen = await watch(served, CONFIGMAPS)
        connection = SlowConnection()
        seen.body.attach(connection)
        for number in range(5):
            await call(served, "POST", CONFIGMAPS, configmap(f"c{number}", x="x" * 300))
        assert connection.ended == "aborted"
        assert not served.server.core.endpoints["", "v1", "configmaps"].cache.observers()


class Taking(SlowConnection):
    """Takes a piece at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[bytes] = []
        self.room = asyncio.Semaphore(0)

    def write(self, data: bytes) -> None:
        self.pieces.append(data)

    def unsent_bytes(self) -> int:
        return 0

    async def drained(self) -> None:
        await self.room.acquire()


def shown(pieces: list[bytes]) -> list[str]:
    return [orjson.loads(line)["object"]["metadata"].get("name", "end") for line in b"".join(pieces).splitlines()]


PRESENT_AND_BOOKMARK = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"


async def test_a_present_larger_than_what_may_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes as the client takes it, in order before what happens meanwhile; nobody is cut off for its size."""
    monkeypatch.setattr(stream, "UNSENT_BYTES_MAX", 2000)
    monkeypatch.setattr(watching, "PRESENT_BYTES_PER_PIECE", 1000)
    async with serving() as served:
        for number in range(9):
            await call(served, "POST", CONFIGMAPS, configmap(f"c{number}", x="x" * 900))
        seen = await watch(served, f"{CONFIGMAPS}?{PRESENT_AND_BOOKMARK}")
        connection = Taking()
        seen.body.attach(connection)
        task = asyncio.ensure_future(seen.body.pour(connection.drained))
        await asyncio.sleep(0)
        assert len(connection.pieces) == 1
        await call(served, "POST", CONFIGMAPS, configmap("later"))
        for _ in range(9):
            connection.room.release()
        await task
        await call(served, "POST", CONFIGMAPS, configmap("last"))
        assert shown(connection.pieces) == [*(f"c{number}" for number in range(9)), "end", "later", "last"]
        assert len(connection.pieces) == 11


async def test_a_client_that_does_not_take_the_present_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "UNSENT_BYTES_MAX", 1000)
    async with serving() as served:
        await call(served, "POST", CONFIGMAPS, configmap("a"))
        seen = await watch(served, f"{CONFIGMAPS}?{PRESENT_AND_BOOKMARK}")
        connection = Taking()
        seen.body.attach(connection)
        task = asyncio.ensure_future(seen.body.pour(connection.drained))
        await asyncio.sleep(0)
        for number in range(5):
            await call(served, "POST", CONFIGMAPS, configmap(f"c{number}", x="x" * 300))
        assert connection.ended == "aborted"
        connection.room.release()
        await task
        assert shown(connection.pieces) == ["a"]
        assert not served.server.core.endpoints["", "v1", "configmaps"].cache.observers()


class KeepingConnection(SlowConnection):
    """Keeps the very bytes that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.kept.append(data)


async def test_thousands_of_watchers_share_one_encoded_copy() -> None:
    async with serving() as served:
        connections = [KeepingConnection() for _ in range(2000)]
        for connection in connections:
            (await watch(served, f"{CONFIGMAPS}?resourceVersion=1")).body.attach(connection)
        await call(served, "POST", CONFIGMAPS, configmap("a", x="x" * 10_000))
        async with asyncio.timeout(20):
            while not all(connection.kept for connection in connections):
                await asyncio.sleep(0.01)
        assert len({id(connection.kept[0]) for connection in connections}) == 1
        assert all(len(connection.kept) == 1 for connection in connections)


async def frames(body: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in body])


async def test_a_push_stream_gives_what_waited_first() -> None:
    pushed = PushStream()
    pushed.push(b"a")
    pushed.push(b"b")
    task = asyncio.ensure_future(frames(pushed))
    await asyncio.sleep(0)
    pushed.push(b"c")
    pushed.close()
    pushed.push(b"late")
    assert await task == b"abc"
