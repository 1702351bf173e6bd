"""DNS as the node's root process runs it: its own identity and rights at a whole API server.

Endpoints may have no loopback address, so the test lends this machine two addresses for as long as it runs.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.api import status
from orchestrator.api.meta import Object
from orchestrator.api.resources import ENDPOINTSLICES, NODES, SERVICES
from orchestrator.dns.main import Config, run
from tests.integration.dns.test_server import Fixture, _Upstream, free_port
from tests.whole_server import WholeServer, whole_server

ADDRESSES = ("198.51.100.53", "fd00:51:100::53")  # for documentation, and unique local


@pytest.fixture(autouse=True)
def node_addresses() -> Iterator[None]:
    for address in ADDRESSES:
        subprocess.run(["ip", "address", "replace", address, "dev", "lo", "nodad"][: 6 + (":" in address)], check=True)
    yield
    for address in ADDRESSES:
        subprocess.run(
            ["ip", "address", "delete", f"{address}/{128 if ':' in address else 32}", "dev", "lo"], check=True
        )


async def registered(server: WholeServer) -> Object:
    async with asyncio.timeout(10):
        while True:
            try:
                found = await server.admin.get(ENDPOINTSLICES, "kube-dns-n1", "kube-system")
                if found["endpoints"][0]["conditions"]["ready"]:
                    return found
            except status.NotFound:
                pass
            await asyncio.sleep(0.01)


async def test_a_node_registers_and_answers(tmp_path: Path) -> None:
    async with whole_server(tmp_path) as server:
        config = Config(
            node_name="n1",
            node_addresses=ADDRESSES,
            cluster_ips=("10.96.0.10", "fd00:10:96::a"),
            port=free_port(),
            upstream=(),
        )
        task = asyncio.create_task(run(config, server.client("system:kube-proxy")))
        try:
            await asyncio.sleep(0.05)  # it waits for its Node
            node = await server.admin.create(NODES, {"metadata": {"name": "n1"}})
            found = await registered(server)
            assert found["metadata"]["ownerReferences"][0]["uid"] == node["metadata"]["uid"]
            service = await server.admin.get(SERVICES, "kube-dns", "kube-system")
            assert service["spec"]["clusterIPs"] == ["10.96.0.10", "fd00:10:96::a"]
            assert service["spec"]["internalTrafficPolicy"] == "Local"
            fixture = Fixture(None, _Upstream(), config.port)  # type: ignore[arg-type]
            async with asyncio.timeout(5):
                while await fixture.addresses("kubernetes.default.svc.cluster.local", host=ADDRESSES[0]) != [
                    "10.96.0.1"
                ]:
                    await asyncio.sleep(0.01)
            own = "kube-dns.kube-system.svc.cluster.local"
            assert await fixture.addresses(own, kind="AAAA", host=ADDRESSES[1]) == ["fd00:10:96::a"]
            # Somebody takes the registration away: it comes back.
            await server.admin.delete(ENDPOINTSLICES, "kube-dns-n1", "kube-system")
            await server.admin.delete(SERVICES, "kube-dns", "kube-system")
            await registered(server)
            async with asyncio.timeout(5):
                while await fixture.addresses(own, host=ADDRESSES[0]) != ["10.96.0.10"]:
                    await asyncio.sleep(0.01)
            assert not task.done()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        found = await server.admin.get(ENDPOINTSLICES, "kube-dns-n1", "kube-system")
        assert found["endpoints"][0]["conditions"]["ready"] is False
