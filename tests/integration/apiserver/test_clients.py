"""Unmodified Python clients against the whole server: the official one, kr8s, lightkube, and kopf."""

from __future__ import annotations

import asyncio
import warnings
from typing import Any

import kopf
import kr8s
import lightkube
import pytest
from kubernetes import client as official
from kubernetes import config, dynamic, watch
from lightkube.models.apps_v1 import DeploymentSpec
from lightkube.models.core_v1 import Container, PodSpec, PodTemplateSpec
from lightkube.models.meta_v1 import LabelSelector, ObjectMeta
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.core_v1 import ConfigMap
from lightkube.types import PatchType

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


async def test_lightkube(server: WholeServer) -> None:
    """Its asynchronous client: create, list by label in pages, apply of two managers, all patches, scale, a watch."""
    config = lightkube.KubeConfig.from_file(server.kubeconfig("admin"))
    client = lightkube.AsyncClient(config, namespace="default")
    try:
        metadata = ObjectMeta(name="a", labels={"tier": "front"})
        made = await client.create(ConfigMap(metadata=metadata, data={"x": "1"}))
        for number in range(5):
            await client.create(ConfigMap(metadata=ObjectMeta(name=f"more-{number}", labels={"tier": "back"})))
        listed = [item.metadata.name async for item in client.list(ConfigMap, labels={"tier": "back"}, chunk_size=2)]
        assert listed == [f"more-{number}" for number in range(5)]

        version = made.metadata.resourceVersion
        seen: list[tuple[str, str]] = []

        async def follow() -> None:
            async for kind, item in client.watch(ConfigMap, labels={"tier": "front"}, resource_version=version):
                seen.append((kind, item.metadata.name))
                if kind == "DELETED":
                    return

        following = asyncio.create_task(follow())
        await client.patch(ConfigMap, "a", {"data": {"y": "2"}}, patch_type=PatchType.MERGE)
        await client.patch(ConfigMap, "a", {"data": {"z": "3"}})
        removal = [{"op": "remove", "path": "/data/x"}]
        patched = await client.patch(ConfigMap, "a", removal, patch_type=PatchType.JSON)
        assert patched.data == {"y": "2", "z": "3"}

        applied = ConfigMap(metadata=ObjectMeta(name="a"), data={"y": "of one"})
        with pytest.raises(lightkube.ApiError) as conflict:
            await client.apply(applied, field_manager="one")
        assert (conflict.value.status.code, conflict.value.status.reason) == (409, "Conflict")
        await client.apply(applied, field_manager="one", force=True)
        applied = ConfigMap(metadata=ObjectMeta(name="a"), data={"w": "of two"})
        both = await client.apply(applied, field_manager="two")
        assert both.data == {"w": "of two", "y": "of one", "z": "3"}
        await client.delete(ConfigMap, "a")
        async with asyncio.timeout(LIMIT_S):
            await following
        assert seen == [("MODIFIED", "a")] * 5 + [("DELETED", "a")]

        template = PodTemplateSpec(
            metadata=ObjectMeta(labels={"app": "web"}), spec=PodSpec([Container("c", image="nginx:1")])
        )
        spec = DeploymentSpec(selector=LabelSelector(matchLabels={"app": "web"}), template=template)
        await client.create(Deployment(metadata=ObjectMeta(name="web"), spec=spec))
        scale = await client.patch(Deployment.Scale, "web", {"spec": {"replicas": 3}}, patch_type=PatchType.MERGE)
        assert (scale.spec.replicas, (await client.get(Deployment, "web")).spec.replicas) == (3, 3)
        with pytest.raises(lightkube.ApiError) as missing:
            await client.get(Deployment, "none")
        assert missing.value.status.message == 'deployments.apps "none" not found'
    finally:
        await client.aclose()
