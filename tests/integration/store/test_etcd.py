"""The store's contract on a real etcd, one of its own for each case; and what only a shared store has to hold."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from orchestrator.store.etcd import EtcdStore
from orchestrator.store.interface import Event, KeyExists, RevisionMismatch, Store, StoreFailed
from tests.unit.store import test_store_contract as contract

CASES = [
    contract.test_one_counter_orders_all_writes,
    contract.test_who_lost_a_race_finds_the_winner_in_the_watch,
    contract.test_a_write_is_a_compare_and_swap,
    contract.test_of_two_racing_writes_one_wins,
    contract.test_a_deleted_key_can_be_created_again,
    contract.test_range_is_sorted_and_paged_at_one_revision,
    contract.test_a_watch_joins_history_and_present_without_a_gap,
    contract.test_a_write_is_delivered_before_it_is_acknowledged,
    contract.test_any_two_watches_see_the_same_order,
    contract.test_compaction_forgets_what_nobody_can_ask_for,
    contract.test_the_future_is_refused,
]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class EtcdServer:
    """A real etcd on loopback with a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port, self.peer = folder, free_port(), free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        urls = {
            "--listen-client-urls": self.url, "--advertise-client-urls": self.url,
            "--listen-peer-urls": f"http://127.0.0.1:{self.peer}",
            "--initial-advertise-peer-urls": f"http://127.0.0.1:{self.peer}",
            "--initial-cluster": f"default=http://127.0.0.1:{self.peer}",
            "--data-dir": str(self.folder / "data"),
        }  # fmt: skip
        with (self.folder / "etcd.log").open("ab") as log:
            self.process = subprocess.Popen(
                ["etcd", *(word for pair in urls.items() for word in pair)], stdout=log, stderr=log,
                env={**os.environ, "ETCD_UNSUPPORTED_ARCH": "arm64"},
            )  # fmt: skip

    def stop(self, number: int = signal.SIGKILL) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(10)

    async def store(self, prefix: str = "/registry/") -> EtcdStore:
        async with asyncio.timeout(20):
            while True:
                try:
                    return await EtcdStore.open([self.url], prefix=prefix)
                except StoreFailed:
                    await asyncio.sleep(0.02)


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[EtcdServer]:
    server = EtcdServer(tmp_path)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
async def store(etcd: EtcdServer) -> AsyncIterator[Store]:
    opened = await etcd.store()
    yield opened
    await opened.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__.removeprefix("test_"))
async def test_contract(case: contract.Case, store: Store) -> None:
    await case(store)


async def test_keys_expire_by_lease(store: Store) -> None:
    seen: list[Event] = []
    gone = asyncio.Event()

    def sink(events: list[Event]) -> None:
        seen.extend(events)
        if any(event.value is None for event in events):
            gone.set()

    await store.watch("", after=1, sink=sink)  # type: ignore[arg-type]
    await store.create("renewed", b"", ttl_s=1)
    await store.update("renewed", b"2", expected=2, ttl_s=3600)
    await store.create("short", b"", ttl_s=1)
    async with asyncio.timeout(20):
        await gone.wait()
    assert [(event.key, event.previous) for event in seen if event.value is None] == [("short", 4)]


async def test_two_servers_share_one_etcd(etcd: EtcdServer) -> None:
    one, two = await etcd.store(), await etcd.store()
    seen: list[Event] = []
    await two.watch("", after=1, sink=seen.extend)
    revision = await one.create("a", b"1")
    assert await two.latest_revision() >= revision
    with pytest.raises(KeyExists):
        await two.create("a", b"2")
    assert [event.value for event in seen] == [b"1"]  # who lost has seen the winner
    await two.update("a", b"2", expected=revision)
    with pytest.raises(RevisionMismatch):
        await one.update("a", b"3", expected=revision)
    await asyncio.gather(one.close(), two.close())


async def test_questions_that_wait_for_another_are_one(etcd: EtcdServer) -> None:
    """A hundred readers at once: one question is out, and those who came after it share the second."""
    store = await etcd.store()
    asked = 0
    current = store._current

    async def counted() -> int:
        nonlocal asked
        asked += 1
        return await current()

    store._current = counted  # type: ignore[method-assign]
    first = asyncio.create_task(store.latest_revision())
    while not asked:
        await asyncio.sleep(0)
    revision = await store.create("a", b"1")
    answers = await asyncio.gather(*(store.latest_revision() for _ in range(100)))
    assert set(answers) == {revision}
    assert await first <= revision
    assert asked <= 3  # the create may have let the first end
    await store.close()


async def test_an_etcd_that_comes_back_is_followed_from_where_it_was(etcd: EtcdServer) -> None:
    store, other = await etcd.store(), await etcd.store()
    seen: list[Event] = []
    await store.watch("", after=1, sink=seen.extend)
    revision = await store.create("a", b"1")
    etcd.stop()
    with pytest.raises(StoreFailed):
        await store.update("a", b"2", expected=revision)
    async with asyncio.timeout(10):
        while store.failure is None:
            await asyncio.sleep(0.01)
    etcd.start()
    again = await etcd.store()
    await again.update("a", b"3", expected=revision)
    async with asyncio.timeout(10):
        while [event.value for event in seen] != [b"1", b"3"]:
            await asyncio.sleep(0.01)
    assert store.failure is None
    await asyncio.gather(store.close(), other.close(), again.close())


async def test_nothing_answers(tmp_path: Path) -> None:
    with pytest.raises(StoreFailed, match=r"etcd http://127\.0\.0\.1:1: "):
        await EtcdStore.open(["http://127.0.0.1:1"])
