"""Fair queues on a virtual clock: what is served when, and laws that hold whatever comes."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.apiserver.fairness.queueset import QueueSet, Queuing, Turn, Work


@dataclass
class Served:
    """A priority level whose requests take as long as they are said to, on a clock that jumps from end to end."""

    queues: QueueSet
    now: float = 0.0
    order: list[str] = field(default_factory=list)  # flows, as their requests were started
    running: dict[Turn, tuple[float, str]] = field(default_factory=dict)  # when it ends, whose it is
    waiting: dict[Turn, tuple[float, str]] = field(default_factory=dict)  # how long it will take, whose it is

    def send(self, flow: str, hand: tuple[int, ...], took_s: float = 1.0, work: Work | None = None) -> Turn | None:
        """None where it is refused."""
        turn = Turn(work or Work())
        if not self.queues.arrive(turn, hand, self.now):
            return None
        self.waiting[turn] = (took_s, flow)
        self._start([turn] if turn.is_served else self.queues.dispatch(self.now))
        return turn

    def _start(self, turns: list[Turn]) -> None:
        for turn in turns:
            took_s, flow = self.waiting.pop(turn)
            self.running[turn] = (self.now + took_s, flow)
            self.order.append(flow)

    def step(self) -> None:
        """To the end of the request that ends first."""
        turn = min(self.running, key=lambda one: self.running[one][0])
        self.now = max(self.now, self.running.pop(turn)[0])
        self.queues.finish(turn, self.now - turn.started_at, self.now)
        self.queues.release(turn, self.now)
        self._start(self.queues.dispatch(self.now))

    def drain(self) -> None:
        while self.running:
            self.step()


def level(limit: int, queues: int = 8, length_max: int = 50) -> Served:
    return Served(QueueSet(Queuing(queues, 2, length_max), limit, 0.0))


def test_a_level_without_queues_refuses_what_does_not_fit() -> None:
    served = Served(QueueSet(Queuing(), 2, 0.0))
    assert [served.send("a", ()) is not None for _ in range(3)] == [True, True, False]
    served.step()
    assert served.send("a", ()) is not None


def test_an_exempt_level_takes_everything() -> None:
    served = Served(QueueSet(Queuing(), None, 0.0))
    assert all(served.send("a", ()) for _ in range(1000))
    assert served.queues.seats == 1000


def test_a_full_queue_refuses() -> None:
    served = level(limit=1, length_max=2)
    assert [served.send("a", (0,)) is not None for _ in range(4)] == [True, True, True, False]
    assert served.send("b", (1,)) is not None


def test_who_asks_little_goes_ahead_of_a_flood() -> None:
    served = level(limit=1)
    for _ in range(20):
        served.send("flood", (0,))
    served.send("quiet", (1,))
    served.step()
    served.step()
    assert "quiet" in served.order[:3]
    served.drain()
    assert served.order.count("flood") == 20


def test_two_floods_take_turns_by_the_time_that_they_take() -> None:
    served = level(limit=1)
    for _ in range(20):
        served.send("long", (0,), took_s=3.0)
    for _ in range(40):
        served.send("short", (1,), took_s=1.0)
    while served.now < 36:
        served.step()
    long, short = served.order.count("long"), served.order.count("short")
    assert abs(long * 3 - short) <= 4, served.order


def test_a_wide_request_is_not_overtaken_for_ever() -> None:
    served = level(limit=4)
    for _ in range(4):
        served.send("narrow", (0,), took_s=1.0)
    wide = served.send("wide", (1,), work=Work(4))
    for _ in range(30):
        served.send("narrow", (0,), took_s=1.0)
    assert wide is not None
    for _ in range(12):
        served.step()
    assert wide.is_served


def test_a_request_wider_than_the_limit_is_served_alone() -> None:
    served = level(limit=2)
    assert served.send("a", (0,)) is not None
    wide = served.send("b", (1,), work=Work(10))
    assert wide is not None and not wide.is_served
    served.step()
    assert wide.is_served and served.queues.served == 1


def test_the_queue_of_the_hand_with_the_least_work_is_taken() -> None:
    served = level(limit=1)
    served.send("a", (0,))
    for _ in range(6):
        served.send("b", (0, 1))
    assert sorted(len(queue.waiting) for queue in served.queues.queues.values()) == [3, 3]


def test_whoever_gives_up_frees_the_queue() -> None:
    served = level(limit=1, length_max=1)
    served.send("a", (0,))
    turn = served.send("a", (0,))
    assert turn is not None and served.send("a", (0,)) is None
    served.queues.give_up(turn, 0.0)
    assert served.queues.waiting == 0 and served.send("a", (0,)) is not None


def test_more_seats_let_those_in_who_wait() -> None:
    queues = QueueSet(Queuing(4, 1, 50), 1, 0.0)
    turns = [Turn() for _ in range(4)]
    assert all(queues.arrive(turn, (0,), 0.0) for turn in turns)
    assert queues.configure(Queuing(4, 1, 50), 3, 1.0) == turns[1:3]


def test_queues_that_are_no_longer_wanted_are_drained() -> None:
    queues = QueueSet(Queuing(4, 1, 50), 1, 0.0)
    first, second = Turn(), Turn()
    assert queues.arrive(first, (3,), 0.0) and queues.arrive(second, (3,), 0.0)
    assert queues.configure(Queuing(2, 1, 50), 1, 0.0) == []
    queues.finish(first, 1.0, 1.0)
    queues.release(first, 1.0)
    assert queues.dispatch(1.0) == [second]
    queues.finish(second, 1.0, 2.0)
    queues.release(second, 2.0)
    assert queues.is_idle


def test_seats_that_linger_are_in_use() -> None:
    queues = QueueSet(Queuing(4, 1, 50), 2, 0.0)
    write, read = Turn(Work(1, 2, 0.005)), Turn()
    assert queues.arrive(write, (0,), 0.0) and queues.arrive(read, (1,), 0.0)
    queues.finish(write, 0.1, 0.1)
    assert queues.dispatch(0.1) == [] and queues.seats == 2
    queues.release(write, 0.105)
    assert queues.dispatch(0.105) == [read]


def test_lingering_work_is_the_same_on_fewer_seats() -> None:
    narrow = Work(1, 40, 0.005).within(4)
    assert (narrow.final_seats, narrow.linger_s) == (4, pytest.approx(0.05))
    assert narrow.seat_seconds == pytest.approx(Work(1, 40, 0.005).seat_seconds)


FLOWS = st.tuples(st.sampled_from("abcd"), st.integers(1, 4), st.floats(0.001, 2.0), st.booleans())


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 6), st.lists(FLOWS, max_size=60), st.randoms(use_true_random=False))
def test_laws(limit: int, sent: list[tuple[str, int, float, bool]], chance: object) -> None:
    """No more seats than the limit (but for one wide request alone), nobody left waiting while seats are free and
    nothing blocks, all served in the end, each flow in its own order."""
    served = level(limit, length_max=100)
    hands = {"a": (0, 1), "b": (1, 2), "c": (3, 4), "d": (0, 4)}
    taken = 0
    for flow, seats, took_s, steps in sent:
        assert served.send(flow, hands[flow], took_s, Work(seats)) is not None
        taken += 1
        if steps and served.running:
            served.step()
        queues = served.queues
        assert queues.seats <= limit or queues.served == 1
        assert queues.seats == sum(turn.work.seats for turn in served.running)
        assert queues.seats_waiting == sum(turn.work.seats for turn in served.waiting)
        assert queues.waiting == len(served.waiting)
        if served.waiting:
            assert queues.seats + max(turn.work.seats for turn in served.waiting) > limit
    served.drain()
    assert len(served.order) == taken and served.queues.is_idle
    assert served.queues.seats == served.queues.seats_waiting == 0
