"""The store's contract as a table of cases, run on each implementation, so that the fake stays honest.

A case is a coroutine over an open store. A further implementation is one more line in STORES.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.api.clock import FixedClock
from orchestrator.store.interface import Compacted, Event, FutureRevision, KeyExists, RevisionMismatch, Store
from orchestrator.store.memory import MemoryStore
from orchestrator.store.sqlite import SqliteStore


async def open_memory(_: Path, clock: FixedClock) -> Store:
    return MemoryStore(clock)


async def open_sqlite(path: Path, clock: FixedClock) -> Store:
    return await SqliteStore.open(path / "store.db", clock)


Case = Callable[[Store], Awaitable[None]]
STORES = {"memory": open_memory, "sqlite": open_sqlite}


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest_asyncio.fixture(params=STORES)
async def store(request: pytest.FixtureRequest, tmp_path: Path, clock: FixedClock) -> AsyncIterator[Store]:
    opened = await STORES[request.param](tmp_path, clock)
    yield opened
    await opened.close()


def shown(events: list[Event]) -> list[tuple[str, bytes | None, int, int, int]]:
    return [(event.key, event.value, event.revision, event.create_revision, event.previous) for event in events]


async def test_one_counter_orders_all_writes(store: Store) -> None:
    assert store.revision == 1
    assert await store.create("a", b"1") == 2
    assert await store.create("b", b"1") == 3
    assert await store.update("a", b"2", expected=2) == 4
    assert await store.delete("b", expected=3) == 5
    assert store.revision == await store.latest_revision() == 5


async def test_who_lost_a_race_finds_the_winner_in_the_watch(store: Store) -> None:
    """Or a reader of a cache that looks again at once would never see anything new."""
    first = await store.create("a", b"1")
    seen: list[Event] = []
    await store.watch("", after=first, sink=seen.extend)

    async def write(value: bytes) -> bytes | None:
        try:
            await store.update("a", value, expected=first)
        except RevisionMismatch:
            assert len(seen) == 1
            return None
        return value

    async def make(value: bytes) -> bytes | None:
        try:
            await store.create("b", value)
        except KeyExists:
            assert seen[-1].key == "b"
            return None
        return value

    written = await asyncio.gather(*map(write, (b"2", b"3", b"4")))
    assert [value for value in written if value] == [event.value for event in seen]
    made = await asyncio.gather(*map(make, (b"1", b"2")))
    assert [value for value in made if value] == [seen[-1].value]


async def test_a_write_is_a_compare_and_swap(store: Store) -> None:
    await store.create("a", b"1")
    with pytest.raises(KeyExists):
        await store.create("a", b"2")
    with pytest.raises(RevisionMismatch) as stale:
        await store.update("a", b"2", expected=1)
    assert stale.value.actual == 2
    with pytest.raises(RevisionMismatch) as gone:
        await store.delete("b", expected=2)
    assert gone.value.actual == 0
    with pytest.raises(RevisionMismatch):
        await store.update("never", b"", expected=0)
    assert store.revision == 2


async def test_of_two_racing_writes_one_wins(store: Store) -> None:
    await store.create("a", b"1")
    results = await asyncio.gather(
        *(store.update("a", str(number).encode(), expected=2) for number in range(10)), return_exceptions=True
    )
    assert [result for result in results if isinstance(result, int)] == [3]
    item = await store.get("a")
    assert item is not None
    assert (item.revision, item.create_revision, item.value) == (3, 2, item.value)
    assert item.value in {str(number).encode() for number in range(10)}


async def test_a_deleted_key_can_be_created_again(store: Store) -> None:
    await store.create("a", b"1")
    await store.delete("a", expected=2)
    assert await store.get("a") is None
    assert await store.create("a", b"2") == 4
    item = await store.get("a")
    assert item is not None
    assert item.create_revision == 4


async def test_range_is_sorted_and_paged_at_one_revision(store: Store) -> None:
    for key in ("pods/b", "pods/a", "pods/c", "podsx/a", "nodes/a"):
        await store.create(key, key.encode())
    first = await store.range("pods/", limit=2)
    assert [item.key for item in first.items] == ["pods/a", "pods/b"]
    assert (first.revision, first.remaining) == (6, 1)
    await store.delete("pods/c", expected=4)
    await store.update("pods/b", b"new", expected=2)
    rest = await store.range("pods/", revision=first.revision, after="pods/b", limit=2)
    assert [(item.key, item.value) for item in rest.items] == [("pods/c", b"pods/c")]
    assert rest.remaining == 0
    old = await store.range("pods/", revision=6)
    assert [item.value for item in old.items] == [b"pods/a", b"pods/b", b"pods/c"]
    assert [item.value for item in (await store.range("pods/")).items] == [b"pods/a", b"new"]
    assert len((await store.range("")).items) == 4


async def test_a_watch_joins_history_and_present_without_a_gap(store: Store) -> None:
    seen: list[Event] = []
    await store.create("pods/a", b"1")
    await store.create("nodes/a", b"1")
    await store.update("pods/a", b"2", expected=2)
    racing = asyncio.gather(*(store.create(f"pods/{number:02}", b"") for number in range(20)))
    cancel = await store.watch("pods/", after=2, sink=seen.extend)
    await racing
    await store.delete("pods/a", expected=4)
    assert [event.revision for event in seen] == [4, *range(5, 26)]
    assert shown(seen)[0] == ("pods/a", b"2", 4, 2, 2)
    assert seen[0].previous_value == b"1"
    assert shown(seen)[-1] == ("pods/a", None, 25, 2, 4)
    cancel()
    await store.create("pods/z", b"")
    assert seen[-1].revision == 25


async def test_a_write_is_delivered_before_it_is_acknowledged(store: Store) -> None:
    seen: list[int] = []
    await store.watch("", after=1, sink=lambda events: seen.extend(event.revision for event in events))

    async def write(number: int) -> bool:
        revision = await store.create(f"k{number}", b"x" * 100)
        return revision in seen and store.revision >= revision

    assert all(await asyncio.gather(*(write(number) for number in range(200))))
    assert seen == sorted(seen)


async def test_any_two_watches_see_the_same_order(store: Store) -> None:
    one: list[Event] = []
    two: list[Event] = []
    await store.watch("", after=1, sink=one.extend)
    await asyncio.gather(*(store.create(f"k{number}", b"") for number in range(50)))
    await store.watch("", after=1, sink=two.extend)
    await asyncio.gather(*(store.create(f"l{number}", b"") for number in range(50)))
    assert shown(one) == shown(two)


async def test_compaction_forgets_what_nobody_can_ask_for(store: Store) -> None:
    await store.create("a", b"1")
    for revision in range(2, 12):
        await store.update("a", str(revision).encode(), expected=revision)
    await store.create("b", b"")
    await store.delete("b", expected=13)
    await store.compact(14)
    assert store.compacted == 14
    with pytest.raises(Compacted):
        await store.range("", revision=13)
    with pytest.raises(Compacted):
        await store.watch("", after=13, sink=lambda events: None)
    assert [(item.key, item.revision) for item in (await store.range("")).items] == [("a", 12)]
    assert [item.value for item in (await store.range("a", revision=14)).items] == [b"11"]
    assert await store.update("a", b"on", expected=12) == 15
    assert [event.previous_value for event in await store.history("", after=14, limit=10)] == [b"11"]


async def test_the_future_is_refused(store: Store) -> None:
    with pytest.raises(FutureRevision):
        await store.range("", revision=9)
    with pytest.raises(FutureRevision):
        await store.compact(9)


async def test_a_key_expires_as_an_ordinary_deletion(
    store: Store, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.store.expiry.EXPIRY_STEP_S", 0.01)
    gone = asyncio.Event()
    seen: list[Event] = []

    def sink(events: list[Event]) -> None:
        seen.extend(events)
        if any(event.value is None for event in events):
            gone.set()

    await store.watch("", after=1, sink=sink)
    await store.create("renewed", b"", ttl_s=0.02)
    await store.update("renewed", b"2", expected=2, ttl_s=3600)
    await store.create("short", b"", ttl_s=0.02)
    await store.create("kept", b"")
    clock.advance(0.05)
    async with asyncio.timeout(5):
        await gone.wait()
    assert [item.key for item in (await store.range("")).items] == ["kept", "renewed"]
    assert shown(seen)[-1] == ("short", None, 6, 4, 4)


Step = tuple[str, str]
STEPS = st.lists(st.tuples(st.sampled_from(["put", "delete", "compact"]), st.sampled_from("abcd")), max_size=40)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
@pytest.mark.parametrize("opener", STORES.values(), ids=STORES)
def test_every_kept_revision_reads_as_it_was(
    opener: Callable[[Path, FixedClock], Awaitable[Store]],
    steps: list[Step],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    async def run() -> None:
        store = await opener(tmp_path_factory.mktemp("law"), FixedClock())
        states: dict[int, dict[str, bytes]] = {1: {}}
        heads: dict[str, int] = {}
        for action, key in steps:
            current = dict(states[store.revision])
            if action == "compact":
                await store.compact(store.revision)
                continue
            if action == "delete":
                if key not in heads:
                    continue
                await store.delete(key, expected=heads.pop(key))
                del current[key]
            else:
                value = str(store.revision).encode()
                if key in heads:
                    heads[key] = await store.update(key, value, expected=heads[key])
                else:
                    heads[key] = await store.create(key, value)
                current[key] = value
            states[store.revision] = current
        for revision in range(store.compacted, store.revision + 1):
            page = await store.range("", revision=revision)
            assert {item.key: item.value for item in page.items} == states[revision]
        await store.close()

    asyncio.run(run())
