"""ResourceQuotas with the whole server and the controller manager's own rights: what admission lets in, and what the
status says of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from orchestrator.api.clock import SystemClock
from orchestrator.api.resources import (
    CONFIGMAPS,
    CUSTOMRESOURCEDEFINITIONS,
    RESOURCECLAIMS,
    RESOURCEQUOTAS,
    SECRETS,
    Resource,
)
from orchestrator.api.status import Forbidden, NotFound
from orchestrator.client.discovery import served
from orchestrator.client.informer import Informers
from orchestrator.controllers.context import Context
from orchestrator.controllers.garbagecollector import GarbageCollector
from orchestrator.controllers.resourcequota import ResourceQuotaController
from tests.whole_server import WholeServer, whole_server

TOYS = Resource("example.com", "v1", "toys", "Toy")
COUNT = "count/toys.example.com"


@asynccontextmanager
async def counted(folder: Path) -> AsyncIterator[tuple[WholeServer, Informers]]:
    """With the garbage collector, which follows the same resources and must not lose them to the quotas."""
    async with whole_server(folder) as server:
        client = server.client("system:kube-controller-manager")
        async with Informers(client) as informers, asyncio.TaskGroup() as group:
            context = Context(client, informers, SystemClock(), Random(1))
            controllers = (ResourceQuotaController(context), GarbageCollector(context))
            await informers.wait_synced()
            running = [group.create_task(each.run()) for each in controllers]
            async with asyncio.timeout(60):
                yield server, informers
            for task in running:
                task.cancel()


async def define(server: WholeServer) -> None:
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema}
    names = {"plural": "toys", "singular": "toy", "kind": "Toy", "listKind": "ToyList"}
    spec = {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [version]}
    await server.admin.create(CUSTOMRESOURCEDEFINITIONS, {"metadata": {"name": "toys.example.com"}, "spec": spec})
    while not await served(server.admin, "example.com", "v1"):
        await asyncio.sleep(0.02)


async def limit(server: WholeServer, **hard: str) -> None:
    body = {"metadata": {"name": "q", "namespace": "default"}, "spec": {"hard": hard}}
    await server.admin.create(RESOURCEQUOTAS, body)


async def until_used(server: WholeServer, wanted: Mapping[str, str]) -> None:
    found: Mapping[str, str] = {}
    try:
        async with asyncio.timeout(20):
            while found != wanted:
                quota = await server.admin.get(RESOURCEQUOTAS, "q", "default")
                found = (quota.get("status") or {}).get("used") or {}
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"used is {found}, not {wanted}")


def toy(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "default"}}


@pytest.mark.parametrize("is_defined_first", [True, False], ids=["definition-first", "quota-first"])
async def test_custom_resources(tmp_path: Path, is_defined_first: bool) -> None:
    async with counted(tmp_path) as (server, _):
        if is_defined_first:
            await define(server)
        await limit(server, **{COUNT: "1", "configmaps": "9"})
        if not is_defined_first:
            await until_used(server, {"configmaps": "0"})
            await define(server)
        await until_used(server, {COUNT: "0", "configmaps": "0"})
        await server.admin.create(TOYS, toy("one"))
        await until_used(server, {COUNT: "1", "configmaps": "0"})
        with pytest.raises(Forbidden, match=f"exceeded quota: q, requested: {COUNT}=1, used: {COUNT}=1, limited"):
            await server.admin.create(TOYS, toy("two"))
        await server.admin.delete(TOYS, "one", "default")
        await until_used(server, {COUNT: "0", "configmaps": "0"})
        await server.admin.create(TOYS, toy("two"))
        await until_used(server, {COUNT: "1", "configmaps": "0"})


async def test_what_is_no_longer_named_or_served_is_followed_by_others_alone(tmp_path: Path) -> None:
    async with counted(tmp_path) as (server, informers):
        await define(server)
        await limit(server, **{COUNT: "3"})
        await until_used(server, {COUNT: "0"})
        first = informers.shared(TOYS)
        informers.release(first)
        await server.admin.patch(RESOURCEQUOTAS, "q", "default", {"spec": {"hard": {COUNT: None, "secrets": "1"}}})
        await until_used(server, {"secrets": "0"})
        await owned_toy(server)
        await server.admin.delete(CONFIGMAPS, "owner", "default")
        while await is_there(server, "owned"):  # the garbage collector still hears of toys
            await asyncio.sleep(0.05)
        await server.admin.patch(RESOURCEQUOTAS, "q", "default", {"spec": {"hard": {COUNT: "3"}}})
        await until_used(server, {COUNT: "0", "secrets": "0"})
        await server.admin.delete(CUSTOMRESOURCEDEFINITIONS, "toys.example.com")
        while (now := informers.shared(TOYS)) is first:
            informers.release(now)
            await asyncio.sleep(0.1)
        informers.release(now)
        await server.admin.create(SECRETS, {"metadata": {"name": "s", "namespace": "default"}})
        await until_used(server, {COUNT: "0", "secrets": "1"})
        await define(server)
        await server.admin.create(TOYS, toy("one"))
        await until_used(server, {COUNT: "1", "secrets": "1"})


async def owned_toy(server: WholeServer) -> None:
    owner = await server.admin.create(CONFIGMAPS, {"metadata": {"name": "owner", "namespace": "default"}})
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}
    metadata = {"name": "owned", "namespace": "default", "ownerReferences": [reference]}
    await server.admin.create(TOYS, {"metadata": metadata})


async def is_there(server: WholeServer, name: str) -> bool:
    try:
        await server.admin.get(TOYS, name, "default")
    except NotFound:
        return False
    return True


async def test_devices_of_resource_claims(tmp_path: Path) -> None:
    claims, devices = "count/resourceclaims.resource.k8s.io", "gold.deviceclass.resource.k8s.io/devices"

    def claim(name: str, **exactly: Any) -> dict[str, Any]:
        request = {"name": "gpu", "exactly": {"deviceClassName": "gold", **exactly}}
        return {"metadata": {"name": name, "namespace": "default"}, "spec": {"devices": {"requests": [request]}}}

    async with counted(tmp_path) as (server, _):
        await limit(server, **{claims: "9", devices: "3"})
        await until_used(server, {claims: "0", devices: "0"})
        await server.admin.create(RESOURCECLAIMS, claim("one"))
        await server.admin.create(RESOURCECLAIMS, claim("two", count=2))
        await until_used(server, {claims: "2", devices: "3"})
        with pytest.raises(Forbidden, match=f"requested: {devices}=32, used: {devices}=3, limited: {devices}=3"):
            await server.admin.create(RESOURCECLAIMS, claim("three", allocationMode="All"))
        await server.admin.delete(RESOURCECLAIMS, "two", "default")
        await until_used(server, {claims: "1", devices: "1"})
