"""Several API servers on one etcd: what one acknowledges, the other shows at once; whoever fails is not missed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from orchestrator.api.resources import (
    CONFIGMAPS,
    CUSTOMRESOURCEDEFINITIONS,
    ENDPOINTS,
    IPADDRESSES,
    SERVICECIDRS,
    SERVICES,
)
from orchestrator.api.status import ApiError, Conflict, Invalid
from tests.integration.apiserver.test_custom_resources import ROOT, call, crontab, definition, established, read
from tests.integration.store.test_etcd import EtcdServer
from tests.whole_server import WholeServer, whole_server


def configmap(name: str, **data: str) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": data}


async def counted(server: WholeServer, name: str, times: int) -> int:
    """Adds one to a number, again where another was quicker; how often it was."""
    lost = 0
    for _ in range(times):
        while True:
            found = await server.admin.get(CONFIGMAPS, name, "default")
            found["data"] = {"count": str(int(found["data"]["count"]) + 1)}
            try:
                await server.admin.update(CONFIGMAPS, found)
                break
            except Conflict:
                lost += 1
    return lost


async def test_a_read_sees_what_any_server_acknowledged(etcd: EtcdServer, tmp_path: Path) -> None:
    await (await etcd.store()).close()  # it answers
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    async with (
        whole_server(tmp_path / "one", (etcd.url,)) as one,
        whole_server(tmp_path / "two", (etcd.url,)) as two,
    ):
        for number in range(50):
            writer, reader = (one, two) if number % 2 else (two, one)
            await writer.admin.create(CONFIGMAPS, configmap(f"c{number}"))
            assert await reader.admin.get(CONFIGMAPS, f"c{number}", "default")
            found = await reader.admin.list(CONFIGMAPS, "default")
            assert f"c{number}" in [item["metadata"]["name"] for item in found.items]
        await one.admin.create(CONFIGMAPS, configmap("shared", count="0"))
        await asyncio.gather(counted(one, "shared", 30), counted(two, "shared", 30))
        assert (await two.admin.get(CONFIGMAPS, "shared", "default"))["data"] == {"count": "60"}


async def test_custom_resources_are_served_by_all(etcd: EtcdServer, tmp_path: Path) -> None:
    await (await etcd.store()).close()
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    async with (
        whole_server(tmp_path / "one", (etcd.url,)) as one,
        whole_server(tmp_path / "two", (etcd.url,)) as two,
    ):
        await one.admin.create(CUSTOMRESOURCEDEFINITIONS, definition())
        await established(one)
        async with asyncio.timeout(5):
            while (answer := await call(two, "POST", ROOT, crontab())).status == 404:
                await asyncio.sleep(0.01)
        assert answer.status == 201, answer.body
        assert read(await call(one, "GET", f"{ROOT}/one"))["spec"]["replicas"] == 2


async def test_without_etcd_nothing_is_pretended(etcd: EtcdServer, tmp_path: Path) -> None:
    await (await etcd.store()).close()
    (tmp_path / "one").mkdir()
    async with whole_server(tmp_path / "one", (etcd.url,)) as one:
        await one.admin.create(CONFIGMAPS, configmap("kept"))
        etcd.stop()
        answer = await call(one, "GET", "/api/v1/namespaces/default/configmaps/kept")
        assert answer.status == 503
        stale = await call(one, "GET", "/api/v1/namespaces/default/configmaps/kept?resourceVersion=0")
        assert stale.status == 200
        with pytest.raises(ApiError):
            await asyncio.wait_for(one.admin.create(CONFIGMAPS, configmap("lost")), 1.5)
        etcd.start()
        await (await etcd.store()).close()
        async with asyncio.timeout(15):
            while (await call(one, "GET", "/api/v1/namespaces/default/configmaps/kept")).status != 200:
                await asyncio.sleep(0.05)


def node_port(name: str, **spec: object) -> dict[str, object]:
    ports = [{"port": 80, "protocol": "TCP"}]
    metadata = {"name": name, "namespace": "default"}
    return {"metadata": metadata, "spec": {"type": "NodePort", "ports": ports, **spec}}


async def test_no_address_or_port_is_given_twice(etcd: EtcdServer, tmp_path: Path) -> None:
    await (await etcd.store()).close()
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    narrow = {"service_cluster_ip_ranges": ("10.96.0.0/26",), "service_node_ports": (30000, 30049)}
    async with (
        whole_server(tmp_path / "one", (etcd.url,), access=narrow) as one,
        whole_server(tmp_path / "two", (etcd.url,), access=narrow) as two,
    ):
        made = await asyncio.gather(
            *((one, two)[n % 2].admin.create(SERVICES, node_port(f"s{n}")) for n in range(60)), return_exceptions=True
        )
        specs = [found["spec"] for found in made if not isinstance(found, BaseException)]
        assert len(specs) == 50  # as many as there are ports
        assert {str(error) for error in made if isinstance(error, BaseException)} == {
            "Internal error occurred: failed to allocate a nodePort: range is full"
        }
        assert {spec["ports"][0]["nodePort"] for spec in specs} == set(range(30000, 30050))
        assert len({spec["clusterIP"] for spec in specs}) == 50
        taken = {item["metadata"]["name"] for item in (await two.admin.list(IPADDRESSES)).items}
        assert taken == {"10.96.0.1", *(spec["clusterIP"] for spec in specs)}  # the refused ones gave theirs back

        name, spec = next((found["metadata"]["name"], found["spec"]) for found in made if isinstance(found, dict))
        same = {"clusterIP": spec["clusterIP"], "ports": [{"port": 1, "nodePort": spec["ports"][0]["nodePort"]}]}
        for server in (one, two):
            with pytest.raises(Invalid, match="already allocated"):
                await server.admin.create(SERVICES, node_port("again", **same))
        await one.admin.delete(SERVICES, name, "default")
        won = await asyncio.gather(
            *(each.admin.create(SERVICES, node_port(f"w{n}", **same)) for n, each in enumerate((one, two))),
            return_exceptions=True,
        )
        assert sorted(isinstance(found, Invalid) for found in won) == [False, True]


async def named(server: WholeServer) -> list[str]:
    """The addresses behind the Service `kubernetes`."""
    found = await server.admin.get(ENDPOINTS, "kubernetes", "default")
    return [address["ip"] for subset in found.get("subsets") or () for address in subset["addresses"]]


async def test_all_servers_are_behind_the_service_kubernetes(etcd: EtcdServer, tmp_path: Path) -> None:
    await (await etcd.store()).close()
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    async with whole_server(tmp_path / "one", (etcd.url,), advertise_address="192.0.2.1") as one:
        assert await named(one) == ["192.0.2.1"]
        async with whole_server(tmp_path / "two", (etcd.url,), advertise_address="192.0.2.2") as two:
            assert await named(one) == await named(two) == ["192.0.2.1", "192.0.2.2"]
        assert await named(one) == ["192.0.2.1"]
        ready = (await one.admin.get(SERVICECIDRS, "kubernetes"))["status"]["conditions"]
        assert [(condition["type"], condition["status"]) for condition in ready] == [("Ready", "True")]
