"""Claims to disks and back, against a whole API server: the cloud's controllers in their own role, and the controller
manager's in its own. The node's kubelet is played by the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import pytest

from orchestrator.api import meta
from orchestrator.api.clock import SystemClock
from orchestrator.api.meta import Object
from orchestrator.api.resources import (
    CSIDRIVERS,
    EVENTS,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODS,
    SERVICEACCOUNTS,
    STORAGECLASSES,
    VOLUMEATTACHMENTS,
    VOLUMEATTRIBUTESCLASSES,
    Resource,
)
from orchestrator.api.status import NotFound
from orchestrator.api.volumes import MANAGED_ATTACH
from orchestrator.client.client import Client
from orchestrator.client.informer import Informers
from orchestrator.cloud import main, volume_attacher, volume_provisioner, volume_resizer
from orchestrator.cloud.context import Context
from orchestrator.cloud.fake import FakeCloud
from orchestrator.cloud.fake_volumes import FakeVolumes
from orchestrator.controllers.attachdetach import AttachDetachController
from orchestrator.controllers.context import Context as ManagerContext
from orchestrator.controllers.volumebinder import VolumeBinder
from orchestrator.controllers.volumeprotection import VolumeProtection
from tests.whole_server import WholeServer, whole_server

LIMIT_S = 20.0
SPACE = "default"
T = TypeVar("T")


class Cluster:
    """The API as an administrator sees it, and the disks below."""

    def __init__(self, admin: Client, disks: FakeVolumes) -> None:
        self.admin, self.disks = admin, disks

    async def find(self, resource: Resource, name: str) -> Object | None:
        try:
            return await self.admin.get(resource, name, SPACE if resource.namespaced else "")
        except NotFound:
            return None

    async def until(self, look: Callable[[], Awaitable[T]], what: str) -> T:
        last: T | None = None
        try:
            async with asyncio.timeout(LIMIT_S):
                while not (last := await look()):
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"{what}: not in {LIMIT_S} s") from None
        return last

    async def node(self, name: str) -> None:
        made = {"metadata": {"name": name, "annotations": {MANAGED_ATTACH: "true"}}, "spec": {}}
        await self.admin.create(NODES, made)
        await self.set_status(name, {"conditions": [{"type": "Ready", "status": "True"}]})

    async def set_status(self, node: str, fields: dict[str, Any]) -> None:
        await self.admin.patch(NODES, node, "", {"status": fields}, subresource="status")

    async def claim(self, name: str = "data", size: str = "1Gi", **spec: Any) -> None:
        wanted = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}, **spec}
        made = {"metadata": {"name": name, "namespace": SPACE}, "spec": {"storageClassName": "soon", **wanted}}
        await self.admin.create(PERSISTENTVOLUMECLAIMS, made)

    async def bound(self, name: str = "data") -> Object:
        """The volume of a claim, once it is bound."""

        async def look() -> Object | None:
            claim = await self.find(PERSISTENTVOLUMECLAIMS, name)
            if claim is None or claim["status"].get("phase") != "Bound":
                return None
            return await self.find(PERSISTENTVOLUMES, claim["spec"]["volumeName"])

        found = await self.until(look, f"claim {name} is bound")
        assert found is not None
        return found

    async def pod(self, name: str, node: str, claim: str = "data") -> None:
        volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]
        spec = {"nodeName": node, "containers": [{"name": "c", "image": "i"}], "volumes": volumes}
        await self.admin.create(PODS, {"metadata": {"name": name, "namespace": SPACE}, "spec": spec})

    async def remove_pod(self, name: str) -> None:
        await self.admin.delete(PODS, name, SPACE, grace_period_s=0)

    async def attached(self, handle: str, node: str) -> None:
        """Until the node's kubelet may mount the disk."""

        async def look() -> bool:
            found = await self.find(NODES, node)
            entries = ((found or {}).get("status") or {}).get("volumesAttached") or ()
            return any(handle in entry["name"] for entry in entries)

        await self.until(look, f"{handle} is attached to {node}")
        assert handle in self.disks.nodes[node]

    async def detached(self, handle: str, node: str) -> None:
        async def look() -> bool:
            left = (await self.admin.list(VOLUMEATTACHMENTS)).items
            return not any(each["spec"]["nodeName"] == node for each in left)

        await self.until(look, f"{handle} is detached from {node}")
        assert handle not in self.disks.nodes.get(node, set())

    async def told(self, about: str, text: str) -> None:
        async def look() -> bool:
            events = (await self.admin.list(EVENTS)).items
            return any(each["involvedObject"]["name"] == about and text in each["message"] for each in events)

        await self.until(look, f"{about} is told {text!r}")

    async def gone(self, resource: Resource, name: str) -> None:
        async def look() -> bool:
            return await self.find(resource, name) is None

        await self.until(look, f"{name} is gone")


def handle_of(volume: Object) -> str:
    return str(volume["spec"]["csi"]["volumeHandle"])


def unique_name(volume: Object) -> str:
    return f"kubernetes.io/csi/disk.sampan.dev^{handle_of(volume)}"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[WholeServer]:
    async with whole_server(tmp_path) as running:
        yield running


@pytest.fixture
async def cluster(server: WholeServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cluster]:
    for module in (volume_attacher, volume_provisioner, volume_resizer):
        monkeypatch.setattr(module, "RETRY_S", 0.05)
    monkeypatch.setattr(volume_attacher, "LOOK_S", 0.05)
    disks = FakeVolumes()
    cloud_client = server.client("system:cloud-controller-manager")
    manager_client = server.client("system:kube-controller-manager")
    clock = SystemClock()
    async with Informers(cloud_client) as cloud_informers, Informers(manager_client) as informers:
        manager = ManagerContext(manager_client, informers, clock, Random(1))
        cloud = Context(FakeCloud().cloud, cloud_client, cloud_informers, clock)
        running = [
            *main.volume_controllers(cloud, disks),
            VolumeBinder(manager),
            VolumeProtection(manager),
            AttachDetachController(manager),
        ]
        await cloud_informers.wait_synced()
        await informers.wait_synced()
        tasks = [asyncio.create_task(each.run()) for each in running]
        made = Cluster(server.admin, disks)
        soon = {"metadata": {"name": "soon"}, "provisioner": "disk.sampan.dev", "allowVolumeExpansion": True}
        await server.admin.create(STORAGECLASSES, soon)
        await server.admin.create(SERVICEACCOUNTS, {"metadata": {"name": "default", "namespace": SPACE}})
        for name in ("n1", "n2"):
            await made.node(name)
        try:
            yield made
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_class_of_attributes_stays_while_a_claim_has_it(cluster: Cluster) -> None:
    for name in ("gold", "silver"):
        made = {"metadata": {"name": name}, "driverName": "disk.sampan.dev", "parameters": {"iops": "9"}}
        await cluster.admin.create(VOLUMEATTRIBUTESCLASSES, made)
    await cluster.claim(volumeAttributesClassName="gold")
    await cluster.bound()  # the manager has seen it
    for name in ("gold", "silver"):
        await cluster.admin.delete(VOLUMEATTRIBUTESCLASSES, name)
    await cluster.gone(VOLUMEATTRIBUTESCLASSES, "silver")  # which came after the other one
    kept = await cluster.find(VOLUMEATTRIBUTESCLASSES, "gold")
    assert kept is not None
    assert meta.is_deleting(kept)
    await cluster.admin.delete(PERSISTENTVOLUMECLAIMS, "data", SPACE)
    await cluster.gone(VOLUMEATTRIBUTESCLASSES, "gold")


async def test_a_disk_comes_moves_and_goes_with_its_claim(cluster: Cluster) -> None:
    await cluster.claim()
    volume = await cluster.bound()
    handle = handle_of(volume)
    assert cluster.disks.disks[handle].size_bytes == 2**30
    assert volume["metadata"]["annotations"]["pv.kubernetes.io/provisioned-by"] == "disk.sampan.dev"
    await cluster.told("data", f"Successfully provisioned volume {meta.name(volume)}")

    await cluster.pod("first", "n1")
    await cluster.attached(handle, "n1")
    await cluster.told("first", f'AttachVolume.Attach succeeded for volume "{meta.name(volume)}"')
    await cluster.set_status("n1", {"volumesInUse": [unique_name(volume)]})
    await cluster.remove_pod("first")
    await cluster.pod("second", "n2")
    await cluster.told("second", "Volume is already exclusively attached to one node")
    assert handle in cluster.disks.nodes["n1"]  # its kubelet has not let go
    await cluster.set_status("n1", {"volumesInUse": None})
    await cluster.attached(handle, "n2")
    assert handle not in cluster.disks.nodes["n1"]

    await cluster.admin.delete(PERSISTENTVOLUMECLAIMS, "data", SPACE)
    assert await cluster.find(PERSISTENTVOLUMES, meta.name(volume))  # the claim is in use, and so is kept
    await cluster.remove_pod("second")
    await cluster.gone(PERSISTENTVOLUMES, meta.name(volume))
    assert cluster.disks.disks == {}
    assert not any(cluster.disks.nodes.values())
    assert cluster.disks.created == [handle]


async def test_attachments_that_others_made_are_left_alone(cluster: Cluster) -> None:
    source = {"persistentVolumeName": "elsewhere"}
    spec = {"attacher": "other.example.com", "nodeName": "n1", "source": source}
    await cluster.admin.create(VOLUMEATTACHMENTS, {"metadata": {"name": "foreign"}, "spec": spec})
    await cluster.claim()
    volume = await cluster.bound()
    beside = {**spec, "source": {"persistentVolumeName": meta.name(volume)}}
    await cluster.admin.create(VOLUMEATTACHMENTS, {"metadata": {"name": "beside"}, "spec": beside})
    await cluster.pod("first", "n1")
    await cluster.attached(handle_of(volume), "n1")
    await cluster.remove_pod("first")

    async def only_others() -> bool:
        left = (await cluster.admin.list(VOLUMEATTACHMENTS)).items
        assert {"foreign", "beside"} <= {meta.name(each) for each in left}
        return len(left) == 2

    await cluster.until(only_others, "the controller's own is gone")


async def test_two_pods_on_two_nodes_are_told_of_each_other(cluster: Cluster) -> None:
    await cluster.claim()
    volume = await cluster.bound()
    await cluster.pod("first", "n1")
    await cluster.attached(handle_of(volume), "n1")
    await cluster.pod("second", "n2")
    name = meta.name(volume)
    await cluster.told("second", f'Multi-Attach error for volume "{name}" Volume is already used by pod(s) first')


async def test_a_node_that_is_out_of_service_loses_its_disks(cluster: Cluster) -> None:
    await cluster.claim()
    volume = await cluster.bound()
    await cluster.pod("first", "n1")
    await cluster.attached(handle_of(volume), "n1")
    lost = [{"type": "Ready", "status": "Unknown"}]
    await cluster.set_status("n1", {"volumesInUse": [unique_name(volume)], "conditions": lost})
    await cluster.remove_pod("first")
    await cluster.pod("second", "n2")
    await cluster.told("second", "Multi-Attach error")
    taint = [{"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}]
    await cluster.admin.patch(NODES, "n1", "", {"spec": {"taints": taint}})
    await cluster.attached(handle_of(volume), "n2")


async def test_what_the_cloud_refuses_is_told_and_tried_again(cluster: Cluster) -> None:
    cluster.disks.refuse = "the pool is full"
    await cluster.claim()
    await cluster.told("data", 'failed to provision volume with StorageClass "soon": the pool is full')
    cluster.disks.refuse = ""
    volume = await cluster.bound()
    cluster.disks.refuse = "no slot is free"
    await cluster.pod("p", "n1")
    await cluster.told("p", f'AttachVolume.Attach failed for volume "{meta.name(volume)}" : no slot is free')
    cluster.disks.refuse = ""
    await cluster.attached(handle_of(volume), "n1")
    cluster.disks.held.add(handle_of(volume))
    await cluster.remove_pod("p")

    async def error() -> str:
        (attachment,) = (await cluster.admin.list(VOLUMEATTACHMENTS)).items
        return str((attachment["status"].get("detachError") or {}).get("message") or "")

    assert "is still mounted on node n1" in await cluster.until(error, "the refusal is in the status")
    cluster.disks.held.clear()
    await cluster.detached(handle_of(volume), "n1")


async def test_a_node_that_lost_its_disks_is_given_them_again(cluster: Cluster) -> None:
    await cluster.claim()
    handle = handle_of(await cluster.bound())
    await cluster.pod("p", "n1")
    await cluster.attached(handle, "n1")
    cluster.disks.nodes["n1"].clear()  # as after a power failure

    async def back() -> bool:
        return handle in cluster.disks.nodes["n1"]

    await cluster.until(back, "it is attached again")


async def test_a_claim_that_grows_waits_for_its_node(cluster: Cluster) -> None:
    await cluster.claim()
    volume = await cluster.bound()
    size = {"spec": {"resources": {"requests": {"storage": "3Gi"}}}}
    await cluster.admin.patch(PERSISTENTVOLUMECLAIMS, "data", SPACE, size)

    async def pending() -> Object | None:
        claim = await cluster.find(PERSISTENTVOLUMECLAIMS, "data")
        status = (claim or {}).get("status") or {}
        return status if (status.get("allocatedResourceStatuses") or {}).get("storage") == "NodeResizePending" else None

    status = await cluster.until(pending, "the node's turn")
    assert status is not None
    assert status["capacity"] == {"storage": "1Gi"}
    assert status["allocatedResources"] == {"storage": "3Gi"}
    assert [each["type"] for each in status["conditions"]] == ["FileSystemResizePending"]
    assert cluster.disks.disks[handle_of(volume)].size_bytes == 3 * 2**30
    grown = await cluster.find(PERSISTENTVOLUMES, meta.name(volume))
    assert grown is not None
    assert grown["spec"]["capacity"] == {"storage": "3Gi"}
    await cluster.told("data", "Require file system resize of volume on node")


async def test_a_volume_deleted_by_hand_goes_when_its_claim_has(cluster: Cluster) -> None:
    await cluster.claim()
    volume = await cluster.bound()
    await cluster.admin.delete(PERSISTENTVOLUMES, meta.name(volume))
    assert cluster.disks.disks
    await cluster.admin.delete(PERSISTENTVOLUMECLAIMS, "data", SPACE)
    await cluster.gone(PERSISTENTVOLUMES, meta.name(volume))
    assert cluster.disks.disks == {}


async def test_what_is_to_be_retained_stays(cluster: Cluster) -> None:
    await cluster.claim()
    volume = await cluster.bound()
    keep = {"spec": {"persistentVolumeReclaimPolicy": "Retain"}}
    await cluster.admin.patch(PERSISTENTVOLUMES, meta.name(volume), "", keep)
    await cluster.admin.delete(PERSISTENTVOLUMECLAIMS, "data", SPACE)

    async def released() -> bool:
        found = await cluster.find(PERSISTENTVOLUMES, meta.name(volume))
        return found is not None and found["status"].get("phase") == "Released"

    await cluster.until(released, "the volume is released")
    await cluster.admin.delete(PERSISTENTVOLUMES, meta.name(volume))
    await cluster.gone(PERSISTENTVOLUMES, meta.name(volume))
    assert list(cluster.disks.disks) == [handle_of(volume)]


async def test_a_class_is_made_once_and_then_the_users(cluster: Cluster, server: WholeServer) -> None:
    async def made() -> bool:
        driver = await cluster.find(CSIDRIVERS, "disk.sampan.dev")
        return driver is not None and bool(meta.annotations(driver))

    await cluster.until(made, "the driver and the class are there")
    standard = await cluster.find(STORAGECLASSES, "standard")
    assert standard is not None
    assert standard["volumeBindingMode"] == "WaitForFirstConsumer"
    await cluster.admin.delete(STORAGECLASSES, "standard")
    client = server.client("system:cloud-controller-manager")
    async with Informers(client) as informers:
        await main.VolumeDriver(Context(FakeCloud().cloud, client, informers, SystemClock())).run()
    assert await cluster.find(STORAGECLASSES, "standard") is None
