"""The queue as a story told with a clock that is set by hand."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from orchestrator.scheduler.changes import Change, ChangeKind
from orchestrator.scheduler.pod import Pod
from orchestrator.scheduler.queue import Place, SchedulingQueue, Waiting
from tests.unit.scheduler.world import World, pod

WORLD = World()
NODE_ADDED = Change(ChangeKind.NODE_ADDED)


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(clock: Clock) -> SchedulingQueue:
    return SchedulingQueue(clock, lambda kind, plugins: True, lambda change, pod, plugins: "Fit" in plugins)


def made(name: str, priority: int = 0, **spec: object) -> Pod:
    return WORLD.parse(pod(name, priority=priority, **spec))  # type: ignore[arg-type]


def popped(queue: SchedulingQueue) -> list[str]:
    names = []
    while (waiting := queue.pop_now()) is not None:
        names.append(waiting.pod.name)
    return names


def pop(queue: SchedulingQueue) -> Waiting:
    found = queue.pop_now()
    assert found is not None
    return found


def test_by_priority_then_by_age(queue: SchedulingQueue, clock: Clock) -> None:
    for name, priority in (("a", 0), ("b", 5), ("c", 0), ("d", 5)):
        queue.put(made(name, priority))
        clock.now_s += 1
    assert popped(queue) == ["b", "d", "a", "c"]


def test_refused_pods_wait_for_a_change_that_helps(queue: SchedulingQueue, clock: Clock) -> None:
    queue.put(made("a"))
    queue.failed(pop(queue), frozenset(("Taint",)))
    queue.put(made("b"))
    queue.failed(pop(queue), frozenset(("Fit",)))
    clock.now_s += 60
    queue.changed(NODE_ADDED)
    assert (queue.place_of("default/a"), queue.place_of("default/b")) == (Place.UNSCHEDULABLE, Place.ACTIVE)


def test_backing_off_doubles_and_yields_to_idleness(queue: SchedulingQueue, clock: Clock) -> None:
    queue.put(made("a"))
    for _ in range(6):
        queue.failed(pop(queue), frozenset(("Fit",)))
        queue.changed(NODE_ADDED)
        assert queue.place_of("default/a") is Place.BACKOFF
        queue.put(made("b"))
        assert popped(queue)[0] == "b"  # what is active comes first
        queue.remove("default/b")
        queue.remove("default/a")
        queue.put(made("a"))


def test_an_error_backs_off_in_full(queue: SchedulingQueue, clock: Clock) -> None:
    queue.put(made("a"))
    for delay in (1, 2, 4, 8, 10, 10):
        queue.failed(pop(queue), frozenset(), is_error=True)
        clock.now_s += delay - 0.01
        assert queue.pop_now() is None
        clock.now_s += 0.02


def test_a_gated_pod_enters_when_its_gates_are_gone(queue: SchedulingQueue) -> None:
    gated = made("a", schedulingGates=[{"name": "x"}])
    queue.put(gated)
    assert queue.place_of("default/a") is Place.GATED
    assert popped(queue) == []
    queue.put(replace(gated, gates=()))
    assert popped(queue) == ["a"]


def test_a_change_of_the_pod_itself_is_a_reason(queue: SchedulingQueue, clock: Clock) -> None:
    queue.put(made("a"))
    queue.failed(pop(queue), frozenset(("Taint",)))
    clock.now_s += 60
    queue.put(made("a"))  # its status, say
    assert queue.place_of("default/a") is Place.UNSCHEDULABLE
    queue.put(made("a", tolerations=[{"operator": "Exists"}]))
    assert queue.place_of("default/a") is Place.ACTIVE


def test_what_has_gone_does_not_come_back(queue: SchedulingQueue) -> None:
    queue.put(made("a"))
    waiting = pop(queue)
    queue.remove("default/a")
    queue.failed(waiting, frozenset(("Fit",)))
    assert queue.place_of("default/a") is None
    queue.put(made("a"))
    queue.failed(waiting, frozenset(("Fit",)))  # of the earlier one
    assert queue.place_of("default/a") is Place.ACTIVE


async def test_pop_waits(queue: SchedulingQueue) -> None:
    task = asyncio.create_task(queue.pop())
    await asyncio.sleep(0)
    assert not task.done()
    queue.put(made("a"))
    async with asyncio.timeout(1):
        assert (await task).pod.name == "a"
