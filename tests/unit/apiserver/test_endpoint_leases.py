"""API servers over one store name each other behind the Service `kubernetes`, as long as they live."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from orchestrator.api.clock import FixedClock
from orchestrator.api.resources import ENDPOINTS, ENDPOINTSLICES
from orchestrator.apiserver import endpoint_leases
from orchestrator.apiserver.endpoint_leases import LEASES, ServerEndpoints, endpoint_slice
from orchestrator.store.interface import Item
from orchestrator.store.memory import MemoryStore
from tests.apiserver_fixture import Served, serving

ONE, TWO = "192.0.2.1", "192.0.2.2"


class Cluster:
    def __init__(self, served: Served, clock: FixedClock) -> None:
        self.served, self.clock = served, clock

    def server(self, address: str) -> ServerEndpoints:
        return ServerEndpoints(self.served.store, self.served.client, self.served.server.lookup, address, 6443)

    async def ended(self, address: str) -> None:
        """Time passes, and the store drops the lease."""
        self.clock.advance(10 * endpoint_leases.LEASE_S)
        async with asyncio.timeout(20):
            while await self.served.store.get(f"{LEASES}{address}") is not None:
                await asyncio.sleep(0.01)

    async def named(self) -> tuple[list[str], list[str]]:
        """The addresses in Endpoints and in EndpointSlice."""
        found = await self.served.client.get(ENDPOINTS, "kubernetes", "default")
        sliced = await self.served.client.get(ENDPOINTSLICES, "kubernetes", "default")
        addresses = [address["ip"] for subset in found.get("subsets") or () for address in subset["addresses"]]
        return addresses, [address for one in sliced.get("endpoints") or () for address in one["addresses"]]


@pytest_asyncio.fixture
async def cluster() -> AsyncIterator[Cluster]:
    clock = FixedClock()
    async with serving(MemoryStore(clock), clock) as served:
        yield Cluster(served, clock)


async def test_each_server_that_lives_is_named(cluster: Cluster) -> None:
    one, two = cluster.server(ONE), cluster.server(TWO)
    await one.renew()
    assert await cluster.named() == ([ONE], [ONE])
    await two.renew()
    assert await cluster.named() == ([ONE, TWO], [ONE, TWO])
    revision = (await cluster.served.client.get(ENDPOINTS, "kubernetes", "default"))["metadata"]["resourceVersion"]
    await one.renew()
    same = (await cluster.served.client.get(ENDPOINTS, "kubernetes", "default"))["metadata"]["resourceVersion"]
    assert same == revision  # nothing changed, nothing written


async def test_a_server_that_ends_goes_at_once(cluster: Cluster) -> None:
    one, two = cluster.server(ONE), cluster.server(TWO)
    await one.renew()
    await two.renew()
    await one.leave()
    assert await cluster.named() == ([TWO], [TWO])
    await two.leave()
    assert await cluster.named() == ([], [])
    await two.leave()  # nothing left to take away


async def test_a_server_that_dies_goes_with_its_lease(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_leases, "LEASE_S", 1.0)
    one, two = cluster.server(ONE), cluster.server(TWO)
    await one.renew()
    await two.renew()
    await cluster.ended(ONE)
    await two.renew()
    assert await cluster.named() == ([TWO], [TWO])
    await one.renew()  # it was only slow
    assert await cluster.named() == ([ONE, TWO], [ONE, TWO])


async def test_what_somebody_else_wrote_is_put_right(cluster: Cluster) -> None:
    one = cluster.server(ONE)
    await one.renew()
    found = await cluster.served.client.get(ENDPOINTS, "kubernetes", "default")
    found["subsets"][0]["addresses"] = [{"ip": "192.0.2.99"}]
    found["metadata"]["labels"] = {"mine": "kept"}
    await cluster.served.client.update(ENDPOINTS, found)
    await cluster.served.client.delete(ENDPOINTSLICES, "kubernetes", "default")
    await one.renew()
    assert await cluster.named() == ([ONE], [ONE])
    labels = (await cluster.served.client.get(ENDPOINTS, "kubernetes", "default"))["metadata"]["labels"]
    assert labels == {"mine": "kept", "endpointslice.kubernetes.io/skip-mirror": "true"}


async def test_another_family_makes_another_slice(cluster: Cluster) -> None:
    one = cluster.server(ONE)
    await one.renew()
    await one.leave()
    await cluster.server("2001:db8::1").renew()
    sliced = await cluster.served.client.get(ENDPOINTSLICES, "kubernetes", "default")
    assert (sliced["addressType"], sliced["endpoints"][0]["addresses"]) == ("IPv6", ["2001:db8::1"])
    assert endpoint_slice([ONE, "2001:db8::1"], 6443)["endpoints"] == [
        {"addresses": [ONE], "conditions": {"ready": True}}
    ]


async def test_a_lease_that_ends_while_it_is_renewed_is_made_anew(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, store = cluster.server(ONE), cluster.served.store
    await one.renew()
    real = store.get

    async def ending(key: str) -> Item | None:
        found = await real(key)
        if found is not None:
            monkeypatch.setattr(store, "get", real)
            await store.delete(key, expected=found.revision)
        return found

    monkeypatch.setattr(store, "get", ending)
    await one.renew()
    assert await real(f"{LEASES}{ONE}") is not None
    assert await cluster.named() == ([ONE], [ONE])
