"""WATCH: no event lost, none twice, all in order, from any revision; selectors, bookmarks, the initial state, 410."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import orjson
import pytest

from orchestrator.api.resources import CONFIGMAPS, PODS
from orchestrator.api.status import Expired, InternalError, Timeout
from orchestrator.client.client import Client
from orchestrator.client.watch import BOOKMARK, WatchEvent, ends_initial_events
from tests.contract.objects import TABLE, call, configmap, lines, names, pod, revision, with_account

pytestmark = pytest.mark.asyncio(loop_scope="session")
WAIT_S = 60


async def take(events: AsyncIterator[WatchEvent], count: int) -> list[WatchEvent]:
    """The next events, bookmarks left out."""
    found: list[WatchEvent] = []
    async with asyncio.timeout(WAIT_S), aclosing(events):  # type: ignore[type-var]
        async for event in events:
            found += [event] if event.type != BOOKMARK else []
            if len(found) == count:
                break
    assert len(found) == count, found
    return found


def told(events: list[WatchEvent]) -> list[tuple[str, str]]:
    return [(event.type, event.object["metadata"]["name"]) for event in events]


async def history(client: Client, namespace: str) -> tuple[str, list[tuple[str, str, int]]]:
    """Writes of every sort: the revision before them, and the events that they are."""
    start = (await client.list(CONFIGMAPS, namespace)).resource_version
    made = [await client.create(CONFIGMAPS, configmap(namespace, f"c{number}")) for number in range(4)]
    changed = await client.update(CONFIGMAPS, made[1] | {"data": {"x": "1"}})
    await client.delete(CONFIGMAPS, "c0", namespace)
    last = await client.create(CONFIGMAPS, configmap(namespace, "end"))
    events = [("ADDED", f"c{number}", revision(obj)) for number, obj in enumerate(made)]
    events += [("MODIFIED", "c1", revision(changed)), ("DELETED", "c0", 0), ("ADDED", "end", revision(last))]
    return start, events


async def test_from_any_revision_every_later_event_comes_once_and_in_order(client: Client, namespace: str) -> None:
    start, events = await history(client, namespace)
    starts = [int(start), *(number for _, _, number in events if number)]
    for begin in starts:
        wanted = [(kind, name) for kind, name, _ in events[_later(events, begin) :]]
        if wanted:
            seen = await take(client.watch(CONFIGMAPS, namespace, resource_version=str(begin)), len(wanted))
            assert told(seen) == wanted
            revisions = [revision(event.object) for event in seen]
            assert revisions == sorted(set(revisions))
            assert revisions[0] > begin


def _later(events: list[tuple[str, str, int]], begin: int) -> int:
    return max((index + 1 for index, (_, _, number) in enumerate(events) if 0 < number <= begin), default=0)


async def test_an_event_carries_the_object_of_its_revision(client: Client, namespace: str) -> None:
    made = await client.create(CONFIGMAPS, configmap(namespace, "a", x="1"))
    changed = await client.update(CONFIGMAPS, made | {"data": {"x": "2"}})
    await client.delete(CONFIGMAPS, "a", namespace)
    seen = await take(client.watch(CONFIGMAPS, namespace, resource_version=str(revision(made) - 1)), 3)
    assert [event.object for event in seen[:2]] == [made, changed]
    last = seen[2].object
    assert last["data"] == {"x": "2"}
    assert last["metadata"]["uid"] == made["metadata"]["uid"]
    assert revision(last) > revision(changed)


async def test_without_a_revision_the_present_comes_first(client: Client, namespace: str) -> None:
    for name in ("a", "b"):
        await client.create(CONFIGMAPS, configmap(namespace, name))
    watch = client.watch(CONFIGMAPS, namespace)
    task = asyncio.create_task(take(watch, 3))
    await asyncio.sleep(0)
    await client.create(CONFIGMAPS, configmap(namespace, "c"))
    assert sorted(told(await task)) == [("ADDED", "a"), ("ADDED", "b"), ("ADDED", "c")]


async def test_racing_writers_and_watchers_that_resume(client: Client, namespace: str) -> None:
    """Each watcher leaves after every few events and goes on from the last revision that it saw."""
    start = (await client.list(CONFIGMAPS, namespace)).resource_version
    writers, each = 4, 15

    async def write(number: int) -> None:
        for turn in range(each):
            await client.create(CONFIGMAPS, configmap(namespace, f"w{number}-{turn}"))

    async def follow(step: int) -> list[str]:
        seen: list[dict[str, Any]] = []
        begin = start
        while len(seen) < writers * each:
            count = min(step, writers * each - len(seen))
            seen += [
                event.object for event in await take(client.watch(CONFIGMAPS, namespace, resource_version=begin), count)
            ]
            begin = seen[-1]["metadata"]["resourceVersion"]
        return [f"{revision(obj)} {obj['metadata']['name']}" for obj in seen]

    *_, one, two = await asyncio.gather(*(write(number) for number in range(writers)), follow(7), follow(1000))
    assert one == two
    assert len(set(one)) == writers * each


async def test_an_object_that_begins_to_match_is_added_and_one_that_stops_is_deleted(
    client: Client, namespace: str
) -> None:
    start = (await client.list(CONFIGMAPS, namespace)).resource_version
    obj = await client.create(CONFIGMAPS, configmap(namespace, "a"))
    for labels in ({"on": ""}, {"on": "", "x": ""}, {}, {"x": ""}, {"on": ""}):
        obj["metadata"]["labels"] = labels
        obj = await client.update(CONFIGMAPS, obj)
    watch = client.watch(CONFIGMAPS, namespace, resource_version=start, label_selector="on")
    assert [event.type for event in await take(watch, 4)] == ["ADDED", "MODIFIED", "DELETED", "ADDED"]


async def test_a_field_selector(client: Client, namespace: str) -> None:
    start = (await client.list(CONFIGMAPS, namespace)).resource_version
    for name in ("a", "b", "c", "b2"):
        await client.create(CONFIGMAPS, configmap(namespace, name))
    watch = client.watch(CONFIGMAPS, namespace, resource_version=start, field_selector="metadata.name=c")
    assert told(await take(watch, 1)) == [("ADDED", "c")]


async def test_a_write_that_changes_nothing_is_no_event(client: Client, namespace: str) -> None:
    made = await client.create(CONFIGMAPS, configmap(namespace, "a", x="1"))
    again = await client.patch(CONFIGMAPS, "a", namespace, {"data": {"x": "1"}})
    assert again == made
    await client.create(CONFIGMAPS, configmap(namespace, "b"))
    seen = await take(client.watch(CONFIGMAPS, namespace, resource_version=str(revision(made))), 1)
    assert told(seen) == [("ADDED", "b")]


async def test_a_watch_ends_after_its_timeout(client: Client, namespace: str) -> None:
    start = (await client.list(CONFIGMAPS, namespace)).resource_version
    async with asyncio.timeout(WAIT_S):
        watch = client.watch(CONFIGMAPS, namespace, resource_version=start, timeout_s=1, bookmarks=True)
        events = [event async for event in watch]
    assert {event.type for event in events} <= {BOOKMARK}
    assert all(revision(event.object) >= int(start) for event in events)


async def test_the_initial_state_ends_with_a_bookmark_or_is_refused(client: Client, namespace: str) -> None:
    """A server whose store cannot tell its progress refuses, and clients list instead (KEP-3157)."""
    for name in ("a", "b"):
        last = await client.create(CONFIGMAPS, configmap(namespace, name))
    seen: list[WatchEvent] = []
    try:
        async with (
            asyncio.timeout(WAIT_S),
            aclosing(client.watch(CONFIGMAPS, namespace, send_initial_events=True)) as watch,
        ):
            async for event in watch:
                if ends_initial_events(event):
                    break
                seen.append(event)
    except InternalError as error:
        assert "RequestWatchProgress is disabled" in str(error)
        return
    assert sorted(told(seen)) == [("ADDED", "a"), ("ADDED", "b")]
    assert revision(event.object) >= revision(last)
    assert event.object["kind"] == "ConfigMap"


async def test_initial_events_need_their_match_rule(client: Client, namespace: str) -> None:
    path = f"{CONFIGMAPS.path(namespace)}?watch=true&sendInitialEvents=true&timeoutSeconds=1"
    code, answer = await call(client, "GET", path)
    assert (code, answer["reason"]) == (422, "Invalid")


async def test_a_revision_long_gone_is_expired(client: Client, namespace: str) -> None:
    """Revision 1 of any server that has served a while is compacted, or else it is still there and the watch begins."""
    try:
        async with asyncio.timeout(WAIT_S):
            watch = client.watch(CONFIGMAPS, namespace, resource_version="1", timeout_s=1)
            seen = [event async for event in watch]
    except Expired as error:
        assert (error.status_code, error.reason) == (410, "Expired")
        return
    assert seen == []


async def test_a_revision_of_the_future_is_not_invented(client: Client, namespace: str) -> None:
    with pytest.raises(Timeout) as caught:
        await client.list(CONFIGMAPS, namespace, resource_version="9999999999")
    assert caught.value.status_code == 504
    causes = [cause.reason for cause in caught.value.causes]
    assert causes == ["ResourceVersionTooLarge"]


async def test_a_watch_of_a_table_sends_rows(client: Client, namespace: str) -> None:
    await client.create(CONFIGMAPS, configmap(namespace, "a", x="1"))
    url = f"{CONFIGMAPS.path(namespace)}?watch=true&timeoutSeconds=1"
    (event,) = [orjson.loads(line) async for line in lines(client, url, accept=TABLE)]
    assert (event["type"], event["object"]["kind"]) == ("ADDED", "Table")
    assert event["object"]["columnDefinitions"][0]["name"] == "Name"
    assert event["object"]["rows"][0]["cells"][0] == "a"


async def test_pods_of_one_node(client: Client, namespace: str) -> None:
    await with_account(client, namespace)
    start = (await client.list(PODS, namespace)).resource_version
    for name, node in (("a", "n1"), ("b", "n2"), ("c", "n1")):
        await client.create(PODS, pod(namespace, name, nodeName=node))
    watch = client.watch(PODS, namespace, resource_version=start, field_selector="spec.nodeName=n1")
    assert names([event.object for event in await take(watch, 2)]) == ["a", "c"]
