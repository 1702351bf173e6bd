"""What a load balancer in front of the nodes hears of this one."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import pytest

from orchestrator.api.clock import FixedClock
from orchestrator.proxy import healthz
from orchestrator.proxy.healthz import about, health_server
from orchestrator.proxy.proxier import Proxier
from tests.unit.proxy.test_proxier import Kernel, service

NODE: dict[str, Any] = {"metadata": {"name": "n1"}, "spec": {}}


@pytest.mark.parametrize(
    ("path", "synced_at", "eligible", "status"),
    [
        pytest.param("/healthz", 5.0, True, 200, id="in-step"),
        pytest.param("/healthz", None, True, 503, id="no-rules-yet"),
        pytest.param("/healthz", 5.0, False, 503, id="about-to-go"),
        pytest.param("/livez", 5.0, False, 200, id="alive-while-it-goes"),
        pytest.param("/livez", None, True, 503, id="not-alive-without-rules"),
        pytest.param("/", 5.0, True, 404, id="another-path"),
    ],
)
def test_answer(path: str, synced_at: float | None, eligible: bool, status: int) -> None:
    assert healthz.answer(path, synced_at, 6.0, eligible=eligible).status == status


@pytest.mark.parametrize(
    ("node", "eligible"),
    [
        pytest.param(None, True, id="not-known-yet"),
        pytest.param(NODE, True, id="plain"),
        pytest.param({**NODE, "spec": {"unschedulable": True}}, True, id="cordoned"),
        pytest.param({**NODE, "spec": {"taints": [{"key": healthz.TO_BE_DELETED}]}}, False, id="autoscaler"),
        pytest.param({**NODE, "metadata": {"name": "n1", "deletionTimestamp": "x"}}, False, id="deleting"),
    ],
)
def test_eligible(node: dict[str, Any] | None, eligible: bool) -> None:
    assert healthz.is_eligible(node) is eligible


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def ask(port: int, path: str) -> tuple[int, Any]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split(b" ")[1]), json.loads(body)


async def test_it_follows_the_proxier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.proxy.proxier.RETRY_S", 0.0)
    kernel, clock, port = Kernel(), FixedClock(), free_port()
    proxier = Proxier("n1", ["10.244.0.0/16"], kernel, clock=clock)
    task = asyncio.create_task(health_server(proxier, port, clock).run())
    try:
        async with asyncio.timeout(5):
            while True:
                try:
                    status, _ = await ask(port, "/healthz")
                    break
                except ConnectionRefusedError:
                    await asyncio.sleep(0.01)
        assert status == 503, "nothing is in the kernel yet"
        proxier.on_service(None, service())
        await proxier.sync()
        status, told = await ask(port, "/healthz?verbose")
        assert (status, told["nodeEligible"], told["lastUpdated"]) == (200, True, told["currentTime"])
        kernel.refuse = True
        proxier.on_service(service(), service(protocol="UDP"))
        await proxier.sync()
        assert (await ask(port, "/healthz"))[0] == 503, "refused"
        await proxier.sync()
        assert (await ask(port, "/healthz"))[0] == 200, "made good"
        proxier.on_node(None, {**NODE, "spec": {"taints": [{"key": healthz.TO_BE_DELETED}]}})
        assert (await ask(port, "/healthz"))[0] == 503
        assert (await ask(port, "/livez"))[0] == 200
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_the_node_is_told_how_services_are_done() -> None:
    assert (about("/proxyMode").status, about("/proxyMode").body) == (200, b"nftables")
    assert (about("/healthz").status, about("/else").status) == (200, 404)
