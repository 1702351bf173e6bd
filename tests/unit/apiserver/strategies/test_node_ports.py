"""The record of node ports: several servers change it, none loses what another did."""

from __future__ import annotations

import asyncio
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.api.clock import FixedClock
from orchestrator.apiserver.strategies.node_ports import KEY, NodePorts
from orchestrator.store.memory import MemoryStore


def server(store: MemoryStore, used: set[int], seed: int = 1, last: int = 30009) -> NodePorts:
    return NodePorts(store, 30000, last, Random(seed), lambda: used)


async def test_two_servers_give_each_port_once() -> None:
    store = MemoryStore(FixedClock())
    one, two = server(store, set(), 1), server(store, set(), 1)
    given_ports = await asyncio.gather(*(each.give() for _ in range(5) for each in (one, two)))
    assert sorted(port for port in given_ports if port) == list(range(30000, 30010))
    assert await one.give() is None and await two.give() is None
    await one.release([30003])
    assert await two.give() == 30003
    assert not await one.take(30003)


async def test_the_first_server_starts_with_what_services_have() -> None:
    store = MemoryStore(FixedClock())
    ports = server(store, {30001, 31000})
    assert await ports.is_taken(30001)
    assert not await ports.take(30001)
    assert await ports.take(30002)
    assert await server(store, set()).is_taken(30002)


async def test_a_wider_range_keeps_what_is_taken() -> None:
    store = MemoryStore(FixedClock())
    await server(store, set()).take(30004)
    wider = NodePorts(store, 29990, 30020, Random(1), set)
    assert await wider.is_taken(30004) and not await wider.is_taken(29994)
    assert await wider.take(29994)
    assert await server(store, set()).is_taken(30004)


async def test_a_repair_takes_what_is_used_and_gives_back_what_leaked() -> None:
    store = MemoryStore(FixedClock())
    used = {30001}
    ports = server(store, used)
    await ports.take(30005)  # of a service that was never stored
    used.add(30007)
    for _ in range(2):
        await ports.repair()
        assert [await ports.is_taken(port) for port in (30001, 30005, 30007)] == [True, True, True]
    await ports.repair()
    assert [await ports.is_taken(port) for port in (30001, 30005, 30007)] == [True, False, True]
    revision = store.revision
    await ports.repair()
    assert store.revision == revision  # nothing to repair, nothing written


async def test_the_record_is_a_range_allocation() -> None:
    store = MemoryStore(FixedClock())
    await server(store, set()).take(30009)
    item = await store.get(KEY)
    assert item is not None
    assert item.value == (
        b'{"kind":"RangeAllocation","apiVersion":"v1","metadata":{"name":"servicenodeports"},'
        b'"range":"30000-30009","data":"AAI="}'
    )


STEPS = st.lists(st.tuples(st.integers(0, 1), st.sampled_from(["take", "give", "release"]), st.integers(0, 9)))


@settings(max_examples=100, deadline=None)
@given(STEPS)
def test_no_port_has_two_owners(steps: list[tuple[int, str, int]]) -> None:
    async def run() -> None:
        store, taken = MemoryStore(FixedClock()), set[int]()
        servers = [server(store, set(), seed) for seed in (1, 2)]
        for which, step, place in steps:
            port = 30000 + place
            if step == "take":
                assert await servers[which].take(port) is (port not in taken)
                taken.add(port)
            elif step == "give":
                found = await servers[which].give()
                assert (found is None) is (len(taken) == 10) and found not in taken
                if found is not None:
                    taken.add(found)
            else:
                await servers[which].release([port])
                taken.discard(port)

    asyncio.run(run())
