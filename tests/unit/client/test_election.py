from __future__ import annotations

import asyncio

import pytest

from orchestrator.api.wire import Identity
from orchestrator.client.client import Client
from orchestrator.client.election import LeaderElector, LeadershipLost, Timing
from orchestrator.client.inprocess import InProcessTransport
from tests.unit.client.small_server import SmallServer

TIMING = Timing(lease_duration_s=0.3, renew_deadline_s=0.2, retry_period_s=0.02)


def elector(server: SmallServer, identity: str) -> LeaderElector:
    client = Client(InProcessTransport(server.handle, Identity(identity)))
    return LeaderElector(client, "scheduler", "kube-system", identity, timing=TIMING)


async def test_one_leads_and_an_ordered_end_hands_over_at_once() -> None:
    server, leading = SmallServer(), []

    async def lead(name: str) -> None:
        leading.append(name)
        await asyncio.get_running_loop().create_future()

    first = asyncio.create_task(elector(server, "a").run(lambda: lead("a")))
    await asyncio.sleep(0.05)
    second = asyncio.create_task(elector(server, "b").run(lambda: lead("b")))
    await asyncio.sleep(0.5)
    assert leading == ["a"]
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await asyncio.sleep(0.15)
    assert leading == ["a", "b"]
    (lease,) = server.objects.values()
    assert lease["spec"]["holderIdentity"] == "b"
    assert lease["spec"]["leaseTransitions"] >= 1
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)


async def test_a_leader_that_cannot_renew_stops() -> None:
    server, ended = SmallServer(), asyncio.Event()

    async def lead() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.set()

    running = asyncio.create_task(elector(server, "a").run(lead))
    await asyncio.sleep(0.05)
    server.answers = [ConnectionError("cut off")] * 1000
    with pytest.raises(LeadershipLost):
        await asyncio.wait_for(running, 2)
    assert ended.is_set()


async def test_the_end_of_the_work_is_the_end_of_leading() -> None:
    server = SmallServer()

    async def lead() -> None:
        raise ValueError("a fault in the work")

    with pytest.raises(ValueError, match="fault"):
        await elector(server, "a").run(lead)
    assert [lease["spec"]["holderIdentity"] for lease in server.objects.values()] == [""]
