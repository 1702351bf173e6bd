"""Addresses and node ports of Services: what is given, what is refused, and that none is given twice."""

from __future__ import annotations

from copy import deepcopy
from random import Random
from typing import Any

import pytest

from orchestrator.api.clock import FixedClock
from orchestrator.api.meta import Object
from orchestrator.api.resources import IPADDRESSES, SERVICECIDRS, SERVICES, Resource
from orchestrator.api.status import AlreadyExists, InternalError, Invalid, NotFound
from orchestrator.api.wire import Identity
from orchestrator.apiserver.lookup import MemoryLookup
from orchestrator.apiserver.request import Attributes
from orchestrator.apiserver.strategies.node_ports import NodePorts
from orchestrator.apiserver.strategies.service import NODE_PORTS, ServiceAllocation, ports_in_use
from orchestrator.apiserver.strategies.service_addresses import ServiceAddresses
from orchestrator.store.memory import MemoryStore

DUAL = ("10.96.0.0/16", "fd00:10:96::/112")
PORTS = [{"port": 80, "protocol": "TCP"}]


def service(name: str = "web", **spec: Any) -> Object:
    return {"metadata": {"name": name, "namespace": "d"}, "spec": {"ports": deepcopy(PORTS), **spec}}


class Objects:
    """IPAddress objects by name, as the API would keep them: the first to create one has it."""

    def __init__(self, lookup: MemoryLookup) -> None:
        self.lookup = lookup

    async def create(self, resource: Resource, obj: Object) -> Object:
        if self.lookup.get(resource, "", obj["metadata"]["name"]) is not None:
            raise AlreadyExists(f"{obj['metadata']['name']} exists")
        return self.lookup.put(resource, obj)

    async def delete(self, resource: Resource, name: str) -> Object:
        found = self.lookup.get(resource, "", name)
        if found is None:
            raise NotFound(f"{name} not found")
        self.lookup.remove(resource, "", name)
        return found


class World:
    def __init__(self, cidrs: tuple[str, ...] = DUAL, ports: tuple[int, int] = NODE_PORTS) -> None:
        self.lookup = MemoryLookup()
        self.ports = NodePorts(
            MemoryStore(FixedClock()), *ports, Random(1), lambda: ports_in_use(self.lookup.list(SERVICES))
        )
        addresses = ServiceAddresses(Objects(self.lookup), self.lookup, cidrs, Random(1))
        self.strategy = ServiceAllocation(addresses, self.ports)

    async def write(self, new: Object, *, fails: bool = False, dry_run: bool = False) -> dict[str, Any]:
        name = new["metadata"]["name"]
        old = self.lookup.get(SERVICES, "d", name)
        attributes = self.attributes("UPDATE" if old else "CREATE", new, old, dry_run)
        await self.strategy.before_write(attributes)
        if not fails and not dry_run:
            self.lookup.put(SERVICES, new)
        await self.strategy.after_write(attributes, succeeded=not fails)
        return new["spec"]

    async def delete(self, name: str) -> None:
        old = self.lookup.get(SERVICES, "d", name)
        self.lookup.remove(SERVICES, "d", name)
        await self.strategy.after_write(self.attributes("DELETE", None, old), succeeded=True)

    def attributes(self, operation: str, new: Object | None, old: Object | None, dry_run: bool = False) -> Attributes:
        return Attributes(
            user=Identity("ann"), verb=operation.lower(), resource="services", namespace="d", operation=operation,
            object=new, old_object=old, dry_run=dry_run,
        )  # fmt: skip

    def addresses(self) -> dict[str, str]:
        """address → the Service that its object names."""
        return {one["metadata"]["name"]: one["spec"]["parentRef"]["name"] for one in self.lookup.list(IPADDRESSES)}

    async def taken_ports(self) -> set[int]:
        return {port for port in range(self.ports.first, self.ports.last + 1) if await self.ports.is_taken(port)}


async def test_an_address_of_the_default_family() -> None:
    spec = await World().write(service(selector={"a": "b"}))
    assert spec["clusterIP"] == spec["clusterIPs"][0]
    assert spec["clusterIP"].startswith("10.96.")
    assert (spec["ipFamilies"], spec["ipFamilyPolicy"]) == (["IPv4"], "SingleStack")


@pytest.mark.parametrize(
    ("spec", "families", "policy"),
    [
        pytest.param({"ipFamilyPolicy": "PreferDualStack"}, ["IPv4", "IPv6"], "PreferDualStack", id="prefer"),
        pytest.param({"ipFamilyPolicy": "RequireDualStack"}, ["IPv4", "IPv6"], "RequireDualStack", id="require"),
        pytest.param({"ipFamilies": ["IPv6"]}, ["IPv6"], "SingleStack", id="v6-only"),
        pytest.param({"clusterIP": "fd00:10:96::5"}, ["IPv6"], "SingleStack", id="inferred-from-the-address"),
        pytest.param(
            {"ipFamilies": ["IPv6"], "ipFamilyPolicy": "PreferDualStack"},
            ["IPv6", "IPv4"],
            "PreferDualStack",
            id="v6-first",
        ),
        pytest.param({"clusterIP": "None", "selector": {"a": "b"}}, ["IPv4"], "SingleStack", id="headless"),
        pytest.param({"clusterIP": "None"}, ["IPv4", "IPv6"], "RequireDualStack", id="headless-without-selector"),
    ],
)
async def test_families(spec: dict[str, Any], families: list[str], policy: str) -> None:
    made = await World().write(service(**spec))
    assert (made["ipFamilies"], made["ipFamilyPolicy"]) == (families, policy)
    if made["clusterIP"] != "None":
        assert [("IPv6" if ":" in ip else "IPv4") for ip in made["clusterIPs"]] == families


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        pytest.param(
            {"clusterIP": "10.97.0.1"},
            'spec.clusterIPs: Invalid value: ["10.97.0.1"]: failed to allocate IP 10.97.0.1: the provided network '
            "does not match the current range",
            id="outside-the-range",
        ),
        pytest.param(
            {"clusterIP": "10.96.0.10"},
            'spec.clusterIPs: Invalid value: ["10.96.0.10"]: failed to allocate IP 10.96.0.10: provided IP is '
            "already allocated",
            id="taken",
        ),
        pytest.param(
            {"type": "NodePort", "ports": [{"port": 80, "nodePort": 80}]},
            "spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid "
            "ports is 30000-32767",
            id="port-outside-the-range",
        ),
        pytest.param(
            {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]},
            "spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated",
            id="port-taken",
        ),
        pytest.param(
            {"ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "SingleStack"},
            'spec.ipFamilyPolicy: Invalid value: "SingleStack": must be RequireDualStack or PreferDualStack when '
            "multiple IP families are specified",
            id="two-families-on-one-stack",
        ),
    ],
)
async def test_what_is_refused(spec: dict[str, Any], message: str) -> None:
    world = World()
    await world.write(service("dns", clusterIP="10.96.0.10", type="NodePort", ports=[{"port": 1, "nodePort": 30080}]))
    with pytest.raises(Invalid) as refused:
        await world.write(service(**spec))
    assert str(refused.value) == f'Service "web" is invalid: {message}'


async def test_a_cluster_of_one_family() -> None:
    world = World(("10.96.0.0/16",))
    with pytest.raises(Invalid):
        await world.write(service(ipFamilyPolicy="RequireDualStack"))
    assert (await world.write(service(ipFamilyPolicy="PreferDualStack")))["ipFamilies"] == ["IPv4"]


async def test_a_failed_write_gives_everything_back() -> None:
    world = World()
    wanted = service(clusterIP="10.96.0.20", type="NodePort", ports=[{"port": 80, "nodePort": 30001}])
    await world.write(deepcopy(wanted), fails=True)
    await world.write(deepcopy(wanted), dry_run=True)
    half = deepcopy(wanted)
    half["spec"]["ports"].append({"port": 81, "nodePort": 1})
    with pytest.raises(Invalid):
        await world.write(half)
    await world.write(deepcopy(wanted))


async def test_an_update_keeps_what_it_does_not_name() -> None:
    world = World()
    first = deepcopy(await world.write(service(type="NodePort", selector={"a": "b"})))
    second = await world.write(service(type="NodePort", selector={"a": "c"}))
    assert second["clusterIP"] == first["clusterIP"]
    assert second["ports"][0]["nodePort"] == first["ports"][0]["nodePort"]
    plain = deepcopy(second) | {"type": "ClusterIP"}
    third = await world.write({"metadata": {"name": "web", "namespace": "d"}, "spec": plain})
    assert "nodePort" not in third["ports"][0] and third["clusterIP"] == first["clusterIP"]
    named = deepcopy(third) | {"type": "ExternalName", "externalName": "example.org"}
    fourth = await world.write({"metadata": {"name": "web", "namespace": "d"}, "spec": named})
    assert "clusterIP" not in fourth and "ipFamilies" not in fourth
    await world.write(service("other", clusterIP=first["clusterIP"]))


async def test_a_deleted_service_frees_its_address() -> None:
    world = World()
    spec = await world.write(service())
    await world.delete("web")
    assert (await world.write(service("other", clusterIP=spec["clusterIP"])))["clusterIP"] == spec["clusterIP"]


async def test_one_port_number_for_two_protocols() -> None:
    ports = [{"port": 53, "protocol": "UDP", "nodePort": 30053}, {"port": 53, "protocol": "TCP", "nodePort": 30053}]
    assert (await World().write(service(type="NodePort", ports=ports)))["ports"] == ports


async def test_a_local_load_balancer_has_a_health_check_port() -> None:
    spec = await World().write(service(type="LoadBalancer", externalTrafficPolicy="Local"))
    assert 30000 <= spec["healthCheckNodePort"] <= 32767
    assert 30000 <= spec["ports"][0]["nodePort"] <= 32767


async def test_each_address_has_an_object_while_it_is_taken() -> None:
    world = World()
    spec = await world.write(service(ipFamilyPolicy="RequireDualStack", type="NodePort", selector={"a": "b"}))
    assert world.addresses() == dict.fromkeys(spec["clusterIPs"], "web")
    made = world.lookup.get(IPADDRESSES, "", spec["clusterIPs"][1])
    assert made is not None
    assert made["metadata"]["labels"] == {
        "ipaddress.kubernetes.io/ip-family": "IPv6",
        "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
    }
    assert made["spec"]["parentRef"] == {"resource": "services", "namespace": "d", "name": "web"}
    assert await world.taken_ports() == {spec["ports"][0]["nodePort"]}
    single = {**deepcopy(spec), "ipFamilyPolicy": "SingleStack"}
    after = await world.write({"metadata": {"name": "web", "namespace": "d"}, "spec": single})
    assert world.addresses() == {after["clusterIP"]: "web"}
    await world.delete("web")
    assert world.addresses() == {} and await world.taken_ports() == set()


async def test_a_service_that_waited_for_its_finalizers_gives_everything_back() -> None:
    world = World()
    spec = await world.write(service(type="NodePort"))
    old = {"metadata": {"name": "web", "namespace": "d", "finalizers": ["a/b"]}, "spec": spec}
    gone = {"metadata": {"name": "web", "namespace": "d", "deletionTimestamp": "2026-01-01T00:00:00Z"}, "spec": spec}
    await world.strategy.after_write(world.attributes("UPDATE", gone, old), succeeded=True)
    assert world.addresses() == {} and await world.taken_ports() == set()


async def test_a_dry_run_takes_nothing() -> None:
    world = World()
    spec = await world.write(service(type="NodePort"), dry_run=True)
    assert (spec["clusterIP"], spec["ports"][0]["nodePort"]) == ("10.96.0.0", 32769)
    assert world.addresses() == {} and await world.taken_ports() == set()
    await world.write(service("one", type="NodePort", ports=[{"port": 1, "nodePort": 30001}]))
    with pytest.raises(Invalid):
        await world.write(service(type="NodePort", ports=[{"port": 1, "nodePort": 30001}]), dry_run=True)
    assert await world.taken_ports() == {30001}


async def test_an_address_that_another_server_took_is_not_given() -> None:
    """Its object is in the store, and not yet in this server's cache: the next address is given."""
    world, found = World(("10.96.0.0/30",)), []

    class Behind(Objects):
        async def create(self, resource: Resource, obj: Object) -> Object:
            name = obj["metadata"]["name"]
            found.append(name)
            if name == found[0]:
                raise AlreadyExists(name)
            return await super().create(resource, obj)

    addresses = ServiceAddresses(Behind(world.lookup), world.lookup, ("10.96.0.0/30",), Random(1))
    world.strategy = ServiceAllocation(addresses, world.ports)
    spec = await world.write(service())
    assert (spec["clusterIP"], len(found)) == (found[1], 2)
    with pytest.raises(Invalid, match="provided IP is already allocated"):
        await world.write(service("other", clusterIP=found[0]))
    with pytest.raises(InternalError, match='failed to allocate a serviceIP for Service "more": range is full'):
        await world.write(service("more"))


async def test_all_addresses_and_ports_are_given_out_once() -> None:
    world = World(("10.96.0.0/27",), (30000, 30019))
    ports = [{"port": 80, "protocol": "TCP"}]
    made = [await world.write(service(f"s{n}", type="NodePort", ports=deepcopy(ports))) for n in range(20)]
    assert {spec["ports"][0]["nodePort"] for spec in made} == set(range(30000, 30020))
    made += [await world.write(service(f"s{n}")) for n in range(20, 30)]
    assert sorted(spec["clusterIP"].rpartition(".")[2].zfill(2) for spec in made) == [f"{n:02}" for n in range(1, 31)]
    upper = [int(spec["clusterIP"].rpartition(".")[2]) for spec in made[:14]]
    assert min(upper) > 16  # the lower band goes last
    for spec in ({"clusterIP": "None", "type": "ClusterIP"}, {"type": "NodePort", "clusterIP": ""}):
        if spec["type"] == "NodePort":
            with pytest.raises(InternalError):
                await world.write(service("over", **spec, ports=deepcopy(ports)))
        else:
            await world.write(service("headless", **spec))
    assert len(world.addresses()) == 30


async def test_ranges_of_ready_service_cidrs_are_used_as_well() -> None:
    world = World(("10.96.0.0/30",))
    more: Object = {"metadata": {"name": "more"}, "spec": {"cidrs": ["10.97.0.0/24"]}}
    world.lookup.put(SERVICECIDRS, more)
    with pytest.raises(Invalid, match="the provided network does not match the current range"):
        await world.write(service(clusterIP="10.97.0.7"))
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    world.lookup.put(SERVICECIDRS, {**more, "status": ready})
    assert (await world.write(service(clusterIP="10.97.0.7")))["clusterIP"] == "10.97.0.7"
    for number in range(3):
        await world.write(service(f"s{number}"))
    assert sum(text.startswith("10.97.0.") for text in world.addresses()) == 2
    with pytest.raises(Invalid, match=r"is not in the valid range. The range of valid IPs is 10.97.0.0/24"):
        await world.write(service("edge", clusterIP="10.97.0.255"))
    world.lookup.remove(SERVICECIDRS, "", "more")
    with pytest.raises(Invalid):
        await world.write(service("late", clusterIP="10.97.0.9"))
