"""Unmodified Python clients against the whole server: the official client, kr8s, and an operator written with kopf."""

from __future__ import annotations

import asyncio
import warnings
from typing import Any

import kopf
import kr8s
import pytest
from kubernetes import client as official
from kubernetes import config, dynamic, watch

from orchestrator.api.resources import CONFIGMAPS
from tests.whole_server import WholeServer

LIMIT_S = 20


async def test_the_official_client(server: WholeServer) -> None:
    path = str(server.kubeconfig("admin"))

    def use() -> None:
        api_client = config.new_client_from_config(path)
        core = official.CoreV1Api(api_client)
        assert {"default", "kube-system"} <= {item.metadata.name for item in core.list_namespace().items}
        body = official.V1ConfigMap(metadata=official.V1ObjectMeta(name="a"), data={"x": "1"})
        made = core.create_namespaced_config_map("default", body)
        assert core.patch_namespaced_config_map("a", "default", {"data": {"y": "2"}}).data == {"x": "1", "y": "2"}
        version = made.metadata.resource_version
        events = watch.Watch().stream(
            core.list_namespaced_config_map, "default", resource_version=version, timeout_seconds=1
        )
        assert [(event["type"], event["object"].metadata.name) for event in events] == [("MODIFIED", "a")]
        with pytest.raises(official.ApiException) as missing:
            core.read_namespaced_pod("none", "default")
        assert missing.value.status == 404
        found = dynamic.DynamicClient(api_client).resources.get(api_version="apps/v1", kind="Deployment")
        assert (found.name, list(found.get().items)) == ("deployments", [])
        core.delete_namespaced_config_map("a", "default")
        api_client.close()

    await asyncio.to_thread(use)


async def test_kr8s(server: WholeServer) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it says that it does not know this version yet
        api = await kr8s.asyncio.api(kubeconfig=str(server.kubeconfig("admin")))
    made = {"metadata": {"name": "a", "namespace": "default"}, "data": {"x": "1"}}
    obj = await kr8s.asyncio.objects.ConfigMap(made, api=api)
    await obj.create()
    await obj.patch({"data": {"y": "2"}})
    await obj.label({"tier": "front"})
    listed = [item async for item in api.get("configmaps", label_selector={"tier": "front"}, namespace="default")]
    assert [(item.name, dict(item.data)) for item in listed] == [("a", {"x": "1", "y": "2"})]
    await obj.delete()
    assert not await obj.exists()


async def test_an_operator_written_with_kopf(server: WholeServer) -> None:
    """It sees an object, keeps its state in annotations, posts an event, and holds a deletion by a finalizer."""
    registry, seen = kopf.OperatorRegistry(), []
    keys = server.folder / "pki"

    @kopf.on.login(registry=registry)
    def login(**_: Any) -> kopf.ConnectionInfo:
        return kopf.ConnectionInfo(
            server=f"https://127.0.0.1:{server.port}",
            ca_path=str(keys / "ca.crt"),
            certificate_path=str(keys / "admin.crt"),
            private_key_path=str(keys / "admin.key"),
        )

    @kopf.on.create("", "v1", "configmaps", registry=registry, labels={"mine": kopf.PRESENT})
    def created(name: str, patch: kopf.Patch, **_: Any) -> None:
        seen.append(("created", name))
        patch.setdefault("data", {})["seen"] = "yes"

    @kopf.on.delete("", "v1", "configmaps", registry=registry, labels={"mine": kopf.PRESENT})
    def deleted(name: str, **_: Any) -> None:
        seen.append(("deleted", name))

    stop, ready = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(
        kopf.operator(registry=registry, clusterwide=True, stop_flag=stop, ready_flag=ready, standalone=True)
    )
    try:
        async with asyncio.timeout(LIMIT_S):
            await ready.wait()
            metadata = {"name": "a", "namespace": "default", "labels": {"mine": ""}}
            await server.admin.create(CONFIGMAPS, {"metadata": metadata})
            while ((await server.admin.get(CONFIGMAPS, "a", "default")).get("data") or {}).get("seen") != "yes":
                await asyncio.sleep(0.05)
            await server.admin.delete(CONFIGMAPS, "a", "default")
            while ("deleted", "a") not in seen:
                await asyncio.sleep(0.05)
    finally:
        stop.set()
        await asyncio.wait([running], timeout=LIMIT_S)
    assert seen == [("created", "a"), ("deleted", "a")]
