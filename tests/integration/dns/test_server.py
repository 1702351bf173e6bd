"""The DNS server on real sockets of both families, following an API server in the same process."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import dnslib
import pytest

from orchestrator.api.wire import Identity
from orchestrator.client.client import Client
from orchestrator.client.inprocess import InProcessTransport
from orchestrator.dns.main import Config, run
from tests.unit.client.small_server import SmallServer

SERVICES, SLICES = "/api/v1/services", "/apis/discovery.k8s.io/v1/endpointslices"
OWN_SLICE = "/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices/kube-dns-n1"


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def service(name: str, address: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "default"}, "spec": {"clusterIPs": [address]}}


class _Upstream(asyncio.DatagramProtocol):
    """Knows one name; counts what it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        self.asked += 1
        query = dnslib.DNSRecord.parse(data)
        reply = query.reply()
        if str(query.q.qname).lower() == "www.example.com.":
            reply.add_answer(*dnslib.RR.fromZone("www.example.com. 60 A 192.0.2.7"))
        else:
            reply.header.rcode = dnslib.RCODE.NXDOMAIN
        self.transport.sendto(reply.pack(), address)


class Fixture:
    def __init__(self, api: SmallServer, upstream: _Upstream, port: int) -> None:
        self.api, self.upstream, self.port = api, upstream, port

    async def ask(self, name: str, kind: str = "A", host: str = "127.0.0.1", *, tcp: bool = False) -> dnslib.DNSRecord:
        query = dnslib.DNSRecord.question(name, kind)
        loop = asyncio.get_running_loop()
        send = loop.run_in_executor(None, lambda: query.send(host, self.port, tcp=tcp, timeout=5, ipv6=":" in host))
        return dnslib.DNSRecord.parse(await send)

    async def addresses(self, name: str, **how: Any) -> list[str]:
        return [str(record.rdata) for record in (await self.ask(name, **how)).rr]


async def until(holds: Any, limit_s: float = 5.0) -> None:
    async with asyncio.timeout(limit_s):
        while not holds():
            await asyncio.sleep(0.002)


def is_ready(api: SmallServer) -> bool:
    found = api.objects.get(OWN_SLICE)
    return bool(found and found["endpoints"][0]["conditions"]["ready"])


@pytest.fixture
async def dns() -> AsyncIterator[Fixture]:
    api = SmallServer()
    api.put("/api/v1/nodes/n1", {"metadata": {"name": "n1", "uid": "u1"}})
    api.put("/api/v1/namespaces/default", {"metadata": {"name": "default"}})
    api.put(f"{SERVICES}/web", service("web", "10.96.0.7"))
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        transport, upstream = await loop.create_datagram_endpoint(_Upstream, local_addr=("127.0.0.1", 0))
        stack.callback(transport.close)
        config = Config(
            node_name="n1",
            node_addresses=("127.0.0.1", "::1"),
            cluster_ips=("10.96.0.10", "fd00:10:96::a"),
            port=free_port(),
            upstream=(f"127.0.0.1:{transport.get_extra_info('sockname')[1]}",),
        )
        client = Client(InProcessTransport(api.handle, Identity("system:kube-proxy")))
        task = asyncio.create_task(run(config, client))
        await until(lambda: is_ready(api) or task.done())
        yield Fixture(api, upstream, config.port)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert not is_ready(api)  # an orderly end takes the endpoint out


async def test_both_families_and_both_transports_answer(dns: Fixture) -> None:
    for host in ("127.0.0.1", "::1"):
        for tcp in (False, True):
            assert await dns.addresses("web.default.svc.cluster.local", host=host, tcp=tcp) == ["10.96.0.7"]


async def test_kube_dns_is_registered_for_both_families(dns: Fixture) -> None:
    made = dns.api.objects["/api/v1/namespaces/kube-system/services/kube-dns"]
    assert made["spec"]["clusterIPs"] == ["10.96.0.10", "fd00:10:96::a"]
    assert dns.api.objects[OWN_SLICE]["endpoints"][0]["addresses"] == ["127.0.0.1"]
    assert dns.api.objects[OWN_SLICE + "-ipv6"]["endpoints"][0]["addresses"] == ["::1"]


async def test_a_change_is_seen_within_half_a_second(dns: Fixture) -> None:
    assert await dns.addresses("web.default.svc.cluster.local") == ["10.96.0.7"]  # packed by now
    dns.api.put(f"{SERVICES}/web", service("web", "10.96.0.8"))
    await dns.api.wake()
    async with asyncio.timeout(0.5):
        while await dns.addresses("web.default.svc.cluster.local") != ["10.96.0.8"]:
            await asyncio.sleep(0.005)


async def test_headless_endpoints_take_turns(dns: Fixture) -> None:
    dns.api.put(f"{SERVICES}/db", {"metadata": {"name": "db", "namespace": "default"}, "spec": {"clusterIP": "None"}})
    dns.api.put(
        f"{SLICES}/db-1",
        {
            "metadata": {"name": "db-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "db"}},
            "endpoints": [{"addresses": [f"10.244.0.{number}"]} for number in range(3)],
        },
    )
    await dns.api.wake()
    async with asyncio.timeout(1):
        while len(await dns.addresses("db.default.svc.cluster.local")) < 3:
            await asyncio.sleep(0.005)
    firsts = {(await dns.addresses("db.default.svc.cluster.local"))[0] for _ in range(3)}
    assert firsts == {"10.244.0.0", "10.244.0.1", "10.244.0.2"}


async def test_other_names_are_asked_upstream_and_kept(dns: Fixture) -> None:
    for host in ("127.0.0.1", "::1", "127.0.0.1"):
        assert await dns.addresses("www.example.com", host=host) == ["192.0.2.7"]
    assert dns.upstream.asked == 1
    assert (await dns.ask("no.example.com")).header.rcode == dnslib.RCODE.NXDOMAIN


async def test_external_name_is_followed_upstream(dns: Fixture) -> None:
    spec = {"type": "ExternalName", "externalName": "www.example.com"}
    dns.api.put(f"{SERVICES}/out", {"metadata": {"name": "out", "namespace": "default"}, "spec": spec})
    await dns.api.wake()
    async with asyncio.timeout(1):
        while len(found := await dns.addresses("out.default.svc.cluster.local")) < 2:
            await asyncio.sleep(0.005)
    assert found == ["www.example.com.", "192.0.2.7"]


async def test_without_upstream_the_answer_is_servfail_at_once() -> None:
    api = SmallServer()
    api.put("/api/v1/nodes/n1", {"metadata": {"name": "n1", "uid": "u1"}})
    config = Config(
        node_name="n1", node_addresses=("127.0.0.1",), cluster_ips=("10.96.0.10",), port=free_port(), upstream=()
    )
    task = asyncio.create_task(run(config, Client(InProcessTransport(api.handle, Identity("test")))))
    await until(lambda: is_ready(api) or task.done())
    response = await Fixture(api, _Upstream(), config.port).ask("www.example.com")
    assert response.header.rcode == dnslib.RCODE.SERVFAIL
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
