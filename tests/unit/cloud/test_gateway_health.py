"""Health checks against sockets of this machine's loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec.structs import replace

from orchestrator.cloud import gateway_health
from orchestrator.cloud.gateway_health import HealthChecks, Target, check, target
from orchestrator.cloud.provider import LoadBalancer, ServicePort


def balancer(**more: Any) -> LoadBalancer:
    base: dict[str, Any] = {"families": ("IPv4",), "backends": (), "ports": (ServicePort("TCP", 80, 30080),)}
    return LoadBalancer(name="one", service="default/one", **(base | more))


def test_with_policy_local_the_service_is_asked_for_else_the_node() -> None:
    assert target(balancer(health_check_port=32000), "10.0.0.1") == Target("10.0.0.1", 32000, "http")
    assert target(balancer(), "10.0.0.1") == Target("10.0.0.1", 10256, "node")


class Answering:
    """A health-check port; `answer` may be changed."""

    def __init__(self) -> None:
        self.answer = b"HTTP/1.1 200 OK\r\n\r\n"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(self.answer)
        writer.close()


@asynccontextmanager
async def answering() -> AsyncIterator[tuple[Answering, Target]]:
    node = Answering()
    server = await asyncio.start_server(node.handle, "127.0.0.1", 0)
    async with server:
        yield node, Target("127.0.0.1", server.sockets[0].getsockname()[1], "http")


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize(
    ("said", "is_up"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", True, id="has-endpoints"),
        pytest.param(b"HTTP/1.1 503 Service Unavailable\r\n\r\n", False, id="has-none"),
        pytest.param(b"HTTP/1.1", False, id="cut-off"),
        pytest.param(b"", False, id="silent"),
        pytest.param(b"x" * 100_000, False, id="no-http"),
    ],
)
async def test_an_answer(said: bytes, is_up: bool) -> None:
    async with answering() as (node, where):
        node.answer = said
        assert await check(where) is is_up
        assert await check(replace(where, kind="node")) is is_up


async def test_a_refusal_is_life_but_no_endpoint() -> None:
    port = closed_port()
    assert await check(Target("127.0.0.1", port, "node"))
    assert not await check(Target("127.0.0.1", port, "http"))


async def test_who_does_not_answer_in_time_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_health, "TIMEOUT_S", 0.05)

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    async with server:
        assert not await check(Target("127.0.0.1", server.sockets[0].getsockname()[1], "http"))


async def eventually(look: Callable[[], bool], what: str) -> None:
    try:
        async with asyncio.timeout(5):
            while not look():
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"{what}: not in 5 s") from None


async def test_a_target_goes_down_after_two_failures_and_up_after_one_success(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gateway_health, "INTERVAL_S", 0.02)
    monkeypatch.setattr(gateway_health, "RETRY_S", 0.02)
    told: list[bool] = []
    async with answering() as (node, where):
        health = HealthChecks(lambda changed: told.append(health.is_up(changed)))
        await health.watch([where])
        assert health.is_up(where), "the first answer is awaited"
        assert told == [], "and not told, as whoever waited knows it"
        node.answer = b"HTTP/1.1 503 Service Unavailable\r\n\r\n"
        await eventually(lambda: told == [False], "down")
        node.answer = b"HTTP/1.1 200 OK\r\n\r\n"
        await eventually(lambda: told == [False, True], "up")
        await health.watch([])
        assert not health.is_up(where)
        await health.close()


async def test_one_failure_alone_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_health, "INTERVAL_S", 0.01)
    monkeypatch.setattr(gateway_health, "RETRY_S", 0.01)
    answers = [True, False, True, False, True]
    seen = asyncio.Event()

    async def scripted(_: Target) -> bool:
        if not answers:
            seen.set()
            return True
        return answers.pop(0)

    monkeypatch.setattr(gateway_health, "check", scripted)
    told: list[Target] = []
    health = HealthChecks(told.append)
    await health.watch([Target("127.0.0.1", 1, "http")])
    await asyncio.wait_for(seen.wait(), 5)
    assert told == []
    await health.close()


async def test_who_waits_for_a_target_that_is_dropped_is_not_left_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    never = asyncio.Event()

    async def silent(_: Target) -> bool:
        await never.wait()
        return True

    monkeypatch.setattr(gateway_health, "check", silent)
    health = HealthChecks(lambda changed: None)
    waiting = asyncio.create_task(health.watch([Target("127.0.0.1", 1, "http")]))
    await asyncio.sleep(0)
    await health.watch([])
    await asyncio.wait_for(waiting, 5)
    await health.close()
