"""Addresses and node ports of Services: what is given, what is refused, and that none is given twice."""

from __future__ import annotations

from copy import deepcopy
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.api.meta import Object
from orchestrator.api.resources import SERVICES
from orchestrator.api.status import Invalid
from orchestrator.api.wire import Identity
from orchestrator.apiserver.lookup import MemoryLookup
from orchestrator.apiserver.request import Attributes
from orchestrator.apiserver.strategies.pool import Full, Pool, Taken
from orchestrator.apiserver.strategies.service import ServiceAllocation

DUAL = ("10.96.0.0/16", "fd00:10:96::/112")
PORTS = [{"port": 80, "protocol": "TCP"}]


def service(name: str = "web", **spec: Any) -> Object:
    return {"metadata": {"name": name, "namespace": "d"}, "spec": {"ports": deepcopy(PORTS), **spec}}


class World:
    def __init__(self, cidrs: tuple[str, ...] = DUAL) -> None:
        self.lookup = MemoryLookup()
        self.strategy = ServiceAllocation(self.lookup, cidrs, Random(1))

    async def write(self, new: Object, *, fails: bool = False, dry_run: bool = False) -> dict[str, Any]:
        name = new["metadata"]["name"]
        old = self.lookup.get(SERVICES, "d", name)
        attributes = Attributes(
            user=Identity("ann"),
            verb="create",
            resource="services",
            namespace="d",
            operation="UPDATE" if old else "CREATE",
            object=new,
            old_object=old,
            dry_run=dry_run,
        )
        await self.strategy.before_write(attributes)
        if not fails and not dry_run:
            self.lookup.put(SERVICES, new)
        await self.strategy.after_write(attributes, succeeded=not fails)
        return new["spec"]


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
    world.lookup.remove(SERVICES, "d", "web")
    assert (await world.write(service("other", clusterIP=spec["clusterIP"])))["clusterIP"] == spec["clusterIP"]


async def test_one_port_number_for_two_protocols() -> None:
    ports = [{"port": 53, "protocol": "UDP", "nodePort": 30053}, {"port": 53, "protocol": "TCP", "nodePort": 30053}]
    assert (await World().write(service(type="NodePort", ports=ports)))["ports"] == ports


async def test_a_local_load_balancer_has_a_health_check_port() -> None:
    spec = await World().write(service(type="LoadBalancer", externalTrafficPolicy="Local"))
    assert 30000 <= spec["healthCheckNodePort"] <= 32767
    assert 30000 <= spec["ports"][0]["nodePort"] <= 32767


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 7), st.booleans()), max_size=40))
def test_a_pool_never_has_two_owners(steps: list[tuple[str, int, bool]]) -> None:
    pool = Pool(10, 17, 2, Random(0))
    shown: dict[int, str] = {}
    for owner, offset, written in steps:
        value = 10 + offset
        try:
            pool.reserve(value, owner)
        except Taken:
            assert value in shown and shown[value] != owner
            continue
        assert shown.get(value, owner) == owner
        if written:
            pool.observe(owner, set(), {value})
            shown[value] = owner
        pool.settle(value, owner, written=written)
    taken = set(shown)
    for _ in range(8 - len(taken)):
        taken.add(pool.reserve_any("z"))
    assert taken == set(range(10, 18))
    with pytest.raises(Full):
        pool.reserve_any("z")
