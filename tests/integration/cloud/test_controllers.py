"""The cloud controllers against a whole API server, under the identity and the role that they have in a lab."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from orchestrator.api import conditions, meta, status
from orchestrator.api.clock import SystemClock
from orchestrator.api.meta import Object
from orchestrator.api.resources import EVENTS, NODES, SERVICES
from orchestrator.client.client import Client
from orchestrator.client.informer import Informers
from orchestrator.cloud import main, node_plan, service_plan
from orchestrator.cloud.context import Context
from orchestrator.cloud.fake import FakeCloud
from orchestrator.cloud.provider import CloudError, Route
from tests.unit.cloud.objects import instance
from tests.whole_server import WholeServer, whole_server

LIMIT_S = 10.0
UNINITIALIZED = {"key": node_plan.UNINITIALIZED, "value": "true", "effect": "NoSchedule"}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[WholeServer]:
    async with whole_server(tmp_path) as running:
        yield running


@asynccontextmanager
async def controllers(server: WholeServer, fake: FakeCloud) -> AsyncIterator[None]:
    client = server.client("system:cloud-controller-manager")
    async with Informers(client) as informers:
        context = Context(fake.cloud, client, informers, SystemClock())
        work = asyncio.create_task(main.run_all(context, main.Config(lab="lab", node_monitor_period_s=0.05)))
        try:
            yield
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)


async def until(look: Callable[[], Any], what: str) -> Any:
    """The first true answer of an async look."""
    last: Any = None
    try:
        async with asyncio.timeout(LIMIT_S):
            while not (last := await look()):
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"{what}: not in {LIMIT_S} s") from None
    return last


async def register(client: Client, name: str = "worker-1", number: int = 11, **spec: Any) -> None:
    """As a kubelet with an external cloud provider does."""
    labels = {"kubernetes.io/hostname": name}
    base = {"taints": [UNINITIALIZED], "podCIDRs": [f"10.244.{number}.0/24", f"fd00:10:244:{number}::/64"]}
    base["podCIDR"] = base["podCIDRs"][0]
    await client.create(NODES, {"metadata": {"name": name, "labels": labels}, "spec": base | spec})
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": ""}
    told = {"conditions": [ready], "addresses": [{"type": "Hostname", "address": name}]}
    await client.patch(NODES, name, "", {"status": told}, subresource="status")


def initialized(client: Client, name: str = "worker-1") -> Callable[[], Any]:
    async def look() -> Object | None:
        node = await client.get(NODES, name)
        has_addresses = len(node["status"].get("addresses") or ()) == 3
        return None if node_plan.has_taint(node, node_plan.UNINITIALIZED) or not has_addresses else node

    return look


async def reasons(client: Client, kind: str, name: str) -> list[str]:
    events = (await client.list(EVENTS)).items
    mine = [one for one in events if one["involvedObject"]["kind"] == kind and one["involvedObject"]["name"] == name]
    return [one["reason"] for one in mine]


def has_reason(client: Client, kind: str, name: str, reason: str) -> Callable[[], Any]:
    async def look() -> bool:
        return reason in await reasons(client, kind, name)

    return look


# -- nodes -------------------------------------------------------------------------------------------------------------


async def test_a_node_is_completed_as_soon_as_it_registers(server: WholeServer) -> None:
    fake = FakeCloud()
    fake.machines["worker-1"] = instance()
    async with controllers(server, fake):
        await register(server.admin)
        node = await until(initialized(server.admin), "initialized")
        assert node["spec"]["providerID"] == "sampan://lab/worker-1"
        assert meta.labels(node)["topology.kubernetes.io/zone"] == "a"
        assert meta.labels(node)["node.kubernetes.io/instance-type"] == "namespace"
        assert [entry["address"] for entry in node["status"]["addresses"]] == [
            "172.29.0.11",
            "fd00:172:29::11",
            "worker-1",
        ]
        await until(has_reason(server.admin, "Node", "worker-1", "Synced"), "event")


async def test_a_machine_that_the_cloud_hears_of_late_is_waited_for(server: WholeServer) -> None:
    fake = FakeCloud()
    fake.broken = "the cloud is down"
    async with controllers(server, fake):
        await register(server.admin)
        await asyncio.sleep(0.2)
        assert node_plan.has_taint(await server.admin.get(NODES, "worker-1"), node_plan.UNINITIALIZED)
        fake.machines["worker-1"] = instance()
        fake.broken = ""
        await until(initialized(server.admin), "initialized")


async def test_the_node_of_a_machine_that_is_gone_is_deleted_and_of_a_cloud_that_is_down_is_not(
    server: WholeServer,
) -> None:
    fake = FakeCloud()
    fake.machines["worker-1"] = instance()
    async with controllers(server, fake):
        await register(server.admin)
        await until(initialized(server.admin), "initialized")
        fake.broken = "the cloud is down"
        await asyncio.sleep(0.4)
        await server.admin.get(NODES, "worker-1")
        fake.machines.clear()
        fake.broken = ""

        async def gone() -> bool:
            return not (await server.admin.list(NODES)).items

        await until(gone, "the Node is deleted")
        await until(has_reason(server.admin, "Node", "worker-1", "DeletingNode"), "event")


async def test_a_node_made_by_hand_stays_while_it_is_ready(server: WholeServer) -> None:
    """As the API's own tests make them: no machine, no provider id, Ready."""
    async with controllers(server, FakeCloud()):
        await register(server.admin, "by-hand", taints=[])
        await asyncio.sleep(0.4)
        await server.admin.get(NODES, "by-hand")
        lost = {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown", "message": ""}
        await server.admin.patch(NODES, "by-hand", "", {"status": {"conditions": [lost]}}, subresource="status")

        async def gone() -> bool:
            return not (await server.admin.list(NODES)).items

        await until(gone, "nobody is there")


async def test_a_machine_that_is_off_is_tainted_until_its_kubelet_is_ready(server: WholeServer) -> None:
    fake = FakeCloud()
    fake.machines["worker-1"] = instance(is_shut_down=True)
    async with controllers(server, fake):
        await register(server.admin)

        async def tainted() -> bool:
            return node_plan.has_taint(await server.admin.get(NODES, "worker-1"), node_plan.SHUTDOWN)

        async def untainted() -> bool:
            return not await tainted()

        await until(tainted, "tainted")
        lost = {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown", "message": ""}
        await server.admin.patch(NODES, "worker-1", "", {"status": {"conditions": [lost]}}, subresource="status")
        fake.machines["worker-1"] = instance()
        await asyncio.sleep(0.2)
        assert await tainted(), "its kubelet has not said that it is ready"
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": ""}
        await server.admin.patch(NODES, "worker-1", "", {"status": {"conditions": [ready]}}, subresource="status")
        await until(untainted, "untainted")


# -- routes ------------------------------------------------------------------------------------------------------------


def network(client: Client, name: str, want: tuple[str, str]) -> Callable[[], Any]:
    async def look() -> bool:
        node = await client.get(NODES, name)
        found = conditions.find(node["status"].get("conditions"), "NetworkUnavailable")
        return found is not None and (found["status"], found["reason"]) == want

    return look


async def test_routes_come_and_go_with_nodes_and_each_node_says_so(server: WholeServer) -> None:
    fake = FakeCloud()
    fake.routes = {Route("10.244.99.0/24", "172.29.0.99")}
    fake.machines = {"worker-1": instance(), "worker-2": instance("worker-2", 12)}
    async with controllers(server, fake):
        await register(server.admin)
        await register(server.admin, "worker-2", 12)
        for name in fake.machines:
            await until(network(server.admin, name, ("False", "RouteCreated")), f"routes of {name}")
        both = {Route("10.244.11.0/24", "172.29.0.11"), Route("fd00:10:244:11::/64", "fd00:172:29::11")}
        other = {Route("10.244.12.0/24", "172.29.0.12"), Route("fd00:10:244:12::/64", "fd00:172:29::12")}
        assert fake.routes == both | other
        del fake.machines["worker-2"]

        async def only_one() -> bool:
            return fake.routes == both

        await until(only_one, "routes of the node that went are gone")


async def test_a_route_that_cannot_be_made_is_told_and_tried_again(server: WholeServer) -> None:
    fake = FakeCloud()
    fake.machines["worker-1"] = instance()
    refused = asyncio.Event()

    class Refusing:
        def __init__(self) -> None:
            self.known = fake.cloud.routes

        async def list(self) -> frozenset[Route]:
            assert self.known is not None
            return await self.known.list()

        async def create(self, route: Route) -> None:
            if not refused.is_set():
                raise CloudError("no room for a route")
            assert self.known is not None
            await self.known.create(route)

        async def delete(self, route: Route) -> None:
            raise AssertionError("nothing is to be deleted")

    cloud = replace(fake.cloud, routes=Refusing())
    client = server.client("system:cloud-controller-manager")
    async with Informers(client) as informers:
        work = asyncio.create_task(
            main.run_all(Context(cloud, client, informers, SystemClock()), main.Config(lab="lab"))
        )
        try:
            await register(server.admin)
            await until(network(server.admin, "worker-1", ("True", "NoRouteCreated")), "told")
            await until(has_reason(server.admin, "Node", "worker-1", "FailedToCreateRoute"), "event")
            refused.set()
            await until(network(server.admin, "worker-1", ("False", "RouteCreated")), "made after all")
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)


# -- services ----------------------------------------------------------------------------------------------------------


async def create(client: Client, name: str = "web", **spec: Any) -> Object:
    base = {"type": "LoadBalancer", "selector": {"app": name}, "ports": [{"port": 80, "targetPort": 80}]}
    metadata = {"name": name, "namespace": "default"}
    return await client.create(SERVICES, {"metadata": metadata, "spec": base | spec})


def ingress(client: Client, name: str = "web") -> Callable[[], Any]:
    async def look() -> list[str]:
        found = (await client.get(SERVICES, name, "default"))["status"]["loadBalancer"].get("ingress") or []
        return [entry["ip"] for entry in found]

    return look


def has_ingress(client: Client, name: str, want: list[str]) -> Callable[[], Any]:
    async def look() -> bool:
        return await ingress(client, name)() == want

    return look


async def patch(client: Client, spec: dict[str, Any], name: str = "web") -> Object:
    return await client.patch(SERVICES, name, "default", {"spec": spec})


async def test_a_service_gets_its_addresses_and_says_so(server: WholeServer) -> None:
    fake = FakeCloud()
    async with controllers(server, fake):
        await create(server.admin)
        addresses = await until(ingress(server.admin), "addresses")
        assert addresses == ["172.29.0.200"]
        service = await server.admin.get(SERVICES, "web", "default")
        assert service["status"]["loadBalancer"]["ingress"] == [{"ip": "172.29.0.200", "ipMode": "VIP"}]
        assert meta.finalizers(service) == [service_plan.FINALIZER]
        (made,) = fake.balancers.values()
        assert made.ports[0].node_port == service["spec"]["ports"][0]["nodePort"]
        for reason in ("EnsuringLoadBalancer", "UnAvailableLoadBalancer", "EnsuredLoadBalancer"):
            await until(has_reason(server.admin, "Service", "web", reason), reason)


async def test_it_goes_before_its_service_does(server: WholeServer) -> None:
    fake = FakeCloud()
    async with controllers(server, fake):
        await create(server.admin)
        await until(ingress(server.admin), "addresses")
        fake.broken = "the cloud is down"
        await server.admin.delete(SERVICES, "web", "default")
        await until(has_reason(server.admin, "Service", "web", "SyncLoadBalancerFailed"), "told")
        assert meta.is_deleting(await server.admin.get(SERVICES, "web", "default"))
        fake.broken = ""

        async def gone() -> bool:
            try:
                await server.admin.get(SERVICES, "web", "default")
            except status.NotFound:
                return True
            return False

        await until(gone, "the Service is gone")
        assert fake.balancers == {}
        await until(has_reason(server.admin, "Service", "web", "DeletedLoadBalancer"), "event")


TYPES: dict[str, dict[str, Any]] = {
    "ClusterIP": {"type": "ClusterIP"},
    "NodePort": {"type": "NodePort"},
    "ExternalName": {"type": "ExternalName", "externalName": "example.com"},
}


@pytest.mark.parametrize("other", list(TYPES))
async def test_a_changed_type_takes_it_away_and_back(server: WholeServer, other: str) -> None:
    fake = FakeCloud()
    async with controllers(server, fake):
        await create(server.admin)
        await until(ingress(server.admin), "addresses")
        await patch(server.admin, TYPES[other])

        async def clean() -> Object | None:
            service = await server.admin.get(SERVICES, "web", "default")
            return None if meta.finalizers(service) or service["status"]["loadBalancer"] else service

        service = await until(clean, "no trace in the Service")
        assert fake.balancers == {}
        assert ("nodePort" in service["spec"]["ports"][0]) == (other == "NodePort")
        for field in ("allocateLoadBalancerNodePorts", "healthCheckNodePort", "loadBalancerClass"):
            assert field not in service["spec"]
        await patch(server.admin, {"type": "LoadBalancer", "externalName": None})
        assert await until(ingress(server.admin), "addresses again") == ["172.29.0.200"]


async def test_what_it_asks_for_follows_the_service(server: WholeServer) -> None:
    fake = FakeCloud()
    fake.machines = {"worker-1": instance(), "worker-2": instance("worker-2", 12)}
    async with controllers(server, fake):
        await register(server.admin)
        await register(server.admin, "worker-2", 12)
        for name in fake.machines:
            await until(initialized(server.admin, name), name)
        await create(server.admin)
        await until(ingress(server.admin), "addresses")
        await patch(
            server.admin,
            {
                "externalTrafficPolicy": "Local",
                "sessionAffinity": "ClientIP",
                "loadBalancerSourceRanges": ["10.0.0.0/8"],
                "ports": [{"name": "a", "port": 443, "targetPort": 80}, {"name": "b", "port": 53, "protocol": "UDP"}],
            },
        )

        async def changed() -> bool:
            (made,) = fake.balancers.values()
            return made.health_check_port > 0 and made.affinity_s == 10800 and len(made.ports) == 2

        await until(changed, "changed")
        (made,) = fake.balancers.values()
        assert made.source_ranges == ("10.0.0.0/8",)
        assert [backend.node for backend in made.backends] == ["worker-1", "worker-2"]
        exclude = {"metadata": {"labels": {service_plan.EXCLUDED: "true"}}}
        await server.admin.patch(NODES, "worker-2", "", exclude)

        async def excluded() -> bool:
            (made,) = fake.balancers.values()
            return [backend.node for backend in made.backends] == ["worker-1"]

        await until(excluded, "the excluded node is no backend")
        await until(has_reason(server.admin, "Service", "web", "UpdatedLoadBalancer"), "event")
        await patch(server.admin, {"loadBalancerIP": "172.29.0.222"})
        await until(has_ingress(server.admin, "web", ["172.29.0.222"]), "the asked address")


async def test_who_finds_no_address_waits_for_one(server: WholeServer) -> None:
    fake = FakeCloud(ranges=["172.29.0.200-172.29.0.200"])
    async with controllers(server, fake):
        await create(server.admin)
        await until(ingress(server.admin), "addresses")
        await create(server.admin, "late")
        await until(has_reason(server.admin, "Service", "late", "SyncLoadBalancerFailed"), "told")
        assert await ingress(server.admin, "late")() == []
        await server.admin.delete(SERVICES, "web", "default")
        await until(has_ingress(server.admin, "late", ["172.29.0.200"]), "its turn")


async def test_a_restart_changes_no_address(server: WholeServer) -> None:
    fake = FakeCloud()
    async with controllers(server, fake):
        for name in ("one", "two", "three"):
            await create(server.admin, name, ipFamilyPolicy="SingleStack")
            await until(ingress(server.admin, name), name)
        before = {name: await ingress(server.admin, name)() for name in ("one", "two", "three")}
    await patch(server.admin, TYPES["ClusterIP"], "one")
    again = FakeCloud()  # one that remembers nothing
    async with controllers(server, again):
        await create(server.admin, "four")
        await until(ingress(server.admin, "four"), "four")

        async def all_there() -> bool:
            return len(again.balancers) == 3

        await until(all_there, "restored")
        for name in ("two", "three"):
            assert await ingress(server.admin, name)() == before[name]

        async def clean() -> bool:
            return not meta.finalizers(await server.admin.get(SERVICES, "one", "default"))

        await until(clean, "what changed meanwhile is cleaned up")
        assert {one.held[0] for one in again.balancers.values()} == {"172.29.0.200", "172.29.0.201", "172.29.0.202"}
        assert await ingress(server.admin, "four")() == before["one"]


async def test_two_that_hold_one_address_are_parted(server: WholeServer) -> None:
    """As after somebody has edited a status, or two controllers have worked at once."""
    for name in ("older", "younger"):
        await create(server.admin, name)
        told = {"status": {"loadBalancer": {"ingress": [{"ip": "172.29.0.200"}]}}}
        await server.admin.patch(SERVICES, name, "default", told, subresource="status")
        await asyncio.sleep(1.1 if name == "older" else 0)  # creation times are whole seconds
    async with controllers(server, FakeCloud()):
        await until(has_ingress(server.admin, "younger", ["172.29.0.201"]), "parted")
        assert await ingress(server.admin, "older")() == ["172.29.0.200"]


async def test_a_class_means_somebody_else(server: WholeServer) -> None:
    fake = FakeCloud()
    async with controllers(server, fake):
        await create(server.admin, "theirs", loadBalancerClass="example.com/other")
        await create(server.admin)
        await until(ingress(server.admin), "ours is served")
        assert [one.service for one in fake.balancers.values()] == ["default/web"]
        assert meta.finalizers(await server.admin.get(SERVICES, "theirs", "default")) == []


async def test_without_node_ports_it_says_what_to_do(server: WholeServer) -> None:
    fake = FakeCloud()
    async with controllers(server, fake):
        await create(server.admin, allocateLoadBalancerNodePorts=False)
        await until(has_reason(server.admin, "Service", "web", "SyncLoadBalancerFailed"), "told")
        await patch(server.admin, {"allocateLoadBalancerNodePorts": True})
        await until(ingress(server.admin), "served")


async def test_a_status_that_somebody_has_emptied_is_filled_again(server: WholeServer) -> None:
    async with controllers(server, FakeCloud()):
        await create(server.admin)
        await until(ingress(server.admin), "addresses")
        emptied = {"status": {"loadBalancer": {"ingress": None}}}
        await server.admin.patch(SERVICES, "web", "default", emptied, subresource="status")
        await until(ingress(server.admin), "filled again")
