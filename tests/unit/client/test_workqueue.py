from __future__ import annotations

import asyncio

from orchestrator.client.workqueue import WorkQueue


async def test_a_key_waits_at_most_once_and_in_order() -> None:
    queue = WorkQueue()
    for key in ("a", "b", "a"):
        queue.add(key)
    assert [await queue.get(), await queue.get(), len(queue)] == ["a", "b", 0]


async def test_a_key_added_while_processed_waits_again_only_when_done() -> None:
    queue = WorkQueue()
    queue.add("a")
    await queue.get()
    queue.add("a")
    assert len(queue) == 0
    queue.done("a")
    assert await queue.get() == "a"
    queue.done("a")
    assert queue.is_idle


async def test_workers_never_hold_one_key_together() -> None:
    queue, held, done = WorkQueue(), set(), 0

    async def work() -> None:
        nonlocal done
        while (key := await queue.get()) is not None:
            assert key not in held
            held.add(key)
            await asyncio.sleep(0)
            held.remove(key)
            queue.done(key)
            done += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(work())
        for _ in range(200):
            queue.add("a")
            queue.add("b")
            await asyncio.sleep(0)
        queue.close()
    assert done >= 4


async def test_delays_keep_the_earliest_and_failures_double_them() -> None:
    queue = WorkQueue(delay_first_s=0.01)
    queue.add_after("a", 60)
    queue.add_after("a", 0.01)
    assert await asyncio.wait_for(queue.get(), 1) == "a"
    queue.done("a")
    for _ in range(3):
        queue.add_rate_limited("b")
    assert queue.failures("b") == 3
    assert await asyncio.wait_for(queue.get(), 1) == "b"
    queue.forget("b")
    assert queue.failures("b") == 0


async def test_a_closed_queue_hands_out_what_waits_and_then_none() -> None:
    queue = WorkQueue()
    waiting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.close()
    assert await waiting is None
    queue.add("late")
    assert await queue.get() is None


async def test_a_cancelled_worker_passes_its_wake_up_on() -> None:
    queue = WorkQueue()
    first, second = asyncio.create_task(queue.get()), asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add("a")
    first.cancel()
    assert await asyncio.wait_for(second, 1) == "a"
