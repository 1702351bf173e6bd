"""The proxier on a fake kernel: what reaches it, when, and what happens when it refuses."""

import asyncio
import socket
from collections.abc import Iterable
from typing import Any

from orchestrator.proxy.conntrack import Stale, stale_udp
from orchestrator.proxy.healthcheck import ServiceHealth, answer
from orchestrator.proxy.nft import NftError
from orchestrator.proxy.proxier import Proxier
from orchestrator.proxy.ruleset import Rules


class Kernel:
    """Records transactions; refuses the next one when told to."""

    def __init__(self) -> None:
        self.commits: list[list[str]] = []
        self.refuse = False

    async def commit(self, commands: list[str]) -> None:
        if self.refuse:
            self.refuse = False
            raise NftError("no")
        self.commits.append(commands)


def service(name: str = "web", protocol: str = "TCP") -> dict[str, Any]:
    spec = {"type": "ClusterIP", "clusterIP": "10.96.0.7", "ports": [{"port": 80, "protocol": protocol}]}
    return {"metadata": {"namespace": "d", "name": name}, "spec": spec}


def endpoint_slice(*addresses: str, protocol: str = "TCP", service: str = "web", port: int = 8080) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "d", "name": f"{service}-x", "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "ports": [{"port": port, "protocol": protocol}],
        "endpoints": [{"addresses": [address]} for address in addresses],
    }


def proxier(kernel: Kernel, forgotten: list[Stale] | None = None) -> Proxier:
    async def forget(stale: Iterable[Stale]) -> None:
        if forgotten is not None:
            forgotten.extend(sorted(stale))

    return Proxier("n1", ["10.244.0.0/16"], kernel, forget)


async def test_first_a_full_sync_then_only_what_changed() -> None:
    kernel = Kernel()
    it = proxier(kernel)
    it.on_service(None, service())
    it.on_slice(None, endpoint_slice("10.244.1.1"))
    await it.sync()
    assert kernel.commits[0][:2] == ["add table inet sampan-proxy", "delete table inet sampan-proxy"]
    it.on_slice(endpoint_slice("10.244.1.1"), endpoint_slice("10.244.1.2"))
    await it.sync()
    assert kernel.commits[1] == [
        "delete element inet sampan-proxy vip-endpoint4 { 10.96.0.7 . tcp . 80 . 0 : 10.244.1.1 . 8080 }",
        "add element inet sampan-proxy vip-endpoint4 { 10.96.0.7 . tcp . 80 . 0 : 10.244.1.2 . 8080 }",
    ]


async def test_a_deleted_service_takes_its_elements_along() -> None:
    kernel = Kernel()
    it = proxier(kernel)
    it.on_service(None, service())
    it.on_slice(None, endpoint_slice("10.244.1.1"))
    await it.sync()
    it.on_service(service(), None)
    await it.sync()
    assert not any(command.startswith("add") for command in kernel.commits[1])
    assert sum(command.startswith("delete element") for command in kernel.commits[1]) == 3


async def test_a_refused_transaction_is_followed_by_a_full_sync(monkeypatch: Any) -> None:
    monkeypatch.setattr("orchestrator.proxy.proxier.RETRY_S", 0)
    kernel = Kernel()
    it = proxier(kernel)
    await it.sync()
    it.on_service(None, service())
    kernel.refuse = True
    await it.sync()
    await it.sync()
    assert kernel.commits[-1][1] == "delete table inet sampan-proxy"
    assert any("10.96.0.7 . tcp . 80" in command for command in kernel.commits[-1])


async def test_a_gone_udp_endpoint_is_forgotten_by_conntrack() -> None:
    forgotten: list[Stale] = []
    it = proxier(Kernel(), forgotten)
    it.on_service(None, service(protocol="UDP"))
    it.on_slice(None, endpoint_slice("10.244.1.1", protocol="UDP"))
    await it.sync()
    it.on_slice(None, endpoint_slice("10.244.1.2", protocol="UDP"))
    await it.sync()
    assert forgotten == [Stale("10.96.0.7", 80, ("10.244.1.1", "8080"))]
    it.on_slice(None, endpoint_slice("10.244.1.2", protocol="UDP", port=9090))
    await it.sync()
    assert forgotten[1:] == [Stale("10.96.0.7", 80, ("10.244.1.2", "8080"))], "another port of the same pod"


def test_a_udp_front_with_its_first_endpoint_forgets_all_entries() -> None:
    new = Rules({("vip-endpoint4", "10.96.0.7 . udp . 53 . 0"): "10.244.1.1 . 53"})
    assert stale_udp(None, new) == {Stale("10.96.0.7", 53)}


async def test_the_loop_wakes_for_a_change() -> None:
    kernel = Kernel()
    it = proxier(kernel)
    task = asyncio.create_task(it.run())
    while not kernel.commits:
        await asyncio.sleep(0)
    it.on_service(None, service())
    while len(kernel.commits) < 2:
        await asyncio.sleep(0)
    task.cancel()


async def test_a_health_port_that_somebody_has_stops_nothing_and_is_opened_when_it_is_free(monkeypatch: Any) -> None:
    monkeypatch.setattr("orchestrator.proxy.proxier.HEALTH_PORT_RETRY_S", 0.05)
    kernel = Kernel()
    it = proxier(kernel)
    with socket.create_server(("", 0)) as somebody:
        port = somebody.getsockname()[1]
        local = service()
        local["spec"] |= {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": port}
        it.on_service(None, local)
        task = asyncio.create_task(it.run())
        async with asyncio.timeout(5):
            while it.synced_at is None:
                await asyncio.sleep(0.01)
            it.on_service(None, service("other"))
            while not any("d/other" in name for name in it._committed.rules):  # type: ignore[union-attr]
                await asyncio.sleep(0.01)
        assert len(kernel.commits) == 2, "no full sync for want of a port"
    async with asyncio.timeout(5):
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                break
            except ConnectionRefusedError:
                await asyncio.sleep(0.01)
    writer.write(b"GET /healthz HTTP/1.1\r\n\r\n")
    assert (await reader.readline()).split()[1] == b"503"
    writer.close()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_health_answer() -> None:
    assert answer(ServiceHealth("d/web", 0)).startswith(b"HTTP/1.1 503")
    assert b'"localEndpoints": 2' in answer(ServiceHealth("d/web", 2))
