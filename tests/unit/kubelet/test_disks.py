"""The kubelet's disks: what it says it uses, what it waits for, when it lets go, and how claims grow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from orchestrator.api.meta import Object
from orchestrator.api.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES
from orchestrator.client.client import Client
from orchestrator.client.events import EventRecorder
from orchestrator.kubelet import diskgrowth, disks
from orchestrator.kubelet.dirs import Dirs
from orchestrator.kubelet.disks import Disks, NotAttached
from orchestrator.kubelet.fakeporter import FakePorter
from orchestrator.kubelet.porter import DiskMount, PodKey, PorterFailure
from tests.apiserver_fixture import serving

HANDLE = "vol-0123456789abcdef"
NAME = f"kubernetes.io/csi/disk.sampan.dev^{HANDLE}"
POD: Object = {
    "metadata": {"name": "p", "namespace": "default", "uid": "u"},
    "spec": {"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]},
}
LIMIT_S = 5.0


@dataclass
class Node:
    """This node as the API has it; `attach` is what the controller does when it hears of a use."""

    client: Client
    porter: FakePorter
    attach: bool = True
    written: list[list[str] | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.disks = Disks(self.client, EventRecorder(self.client, "kubelet"), self.porter, self.report, lambda: [POD])

    async def report(self, in_use: list[str] | None) -> Object:
        self.written.append(in_use)
        return self.having(*(in_use or ())) if self.attach else self.having()

    def having(self, *names: str) -> Object:
        number = str(100 + len(self.written))
        attached = [{"name": name, "devicePath": ""} for name in names]
        return {"metadata": {"resourceVersion": number}, "status": {"volumesAttached": attached}}

    async def use(self, uid: str = "u") -> None:
        await self.disks.claim(uid, HANDLE)
        await self.porter.mount_disk(PodKey(uid, "default", "p"), "data", DiskMount(handle=HANDLE, fs_type="ext4"))


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with serving() as served:
        yield Node(served.client, FakePorter(Dirs(tmp_path / "root", tmp_path / "logs")))


async def test_a_disk_is_in_use_from_before_it_is_mounted_until_it_is_let_go(node: Node) -> None:
    await node.use("u")
    await node.use("another")
    assert node.written == [[NAME]]
    await node.disks.release(PodKey("u", "default", "p"))
    assert node.disks.in_use == [NAME]
    await node.disks.release(PodKey("another", "default", "p"))
    assert node.written == [[NAME], None]
    assert node.porter.disk_users == {}


async def test_what_is_not_attached_is_waited_for(node: Node) -> None:
    node.attach = False
    claiming = asyncio.create_task(node.disks.claim("u", HANDLE))
    await asyncio.sleep(0)
    node.disks.node_changed(node.having())
    assert not claiming.done()
    node.disks.node_changed(node.having(NAME))
    await asyncio.wait_for(claiming, LIMIT_S)


async def test_what_was_attached_before_our_word_was_heard_does_not_count(node: Node) -> None:
    """The controller took the disk away in the very moment: the answer to our write tells, an older event does not."""
    node.attach = False
    claiming = asyncio.create_task(node.disks.claim("u", HANDLE))
    async with asyncio.timeout(LIMIT_S):
        while not node.written:
            await asyncio.sleep(0)
    await asyncio.sleep(0)
    node.disks.node_changed({**node.having(NAME), "metadata": {"resourceVersion": "7"}})
    await asyncio.sleep(0.01)
    assert not claiming.done()
    claiming.cancel()


async def test_nobody_waits_for_ever(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disks, "ATTACH_PATIENCE_S", 0.01)
    node.attach = False
    with pytest.raises(NotAttached, match=f"disk {HANDLE} was not attached"):
        await node.disks.claim("u", HANDLE)


async def test_a_disk_that_something_still_holds_stays_in_use(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    await node.use()

    async def refuse(handle: str) -> None:
        raise PorterFailure(f"{handle} is still mounted")

    monkeypatch.setattr(node.porter, "release_disk", refuse)
    with pytest.raises(PorterFailure, match="still mounted"):
        await node.disks.release(PodKey("u", "default", "p"))
    assert node.disks.in_use == [NAME]
    monkeypatch.undo()
    await node.disks.release(PodKey("u", "default", "p"))
    assert node.disks.in_use is None


async def test_a_kubelet_that_starts_again_knows_what_is_in_use(node: Node) -> None:
    await node.use()
    again = Node(node.client, node.porter)
    await again.disks.recover()
    assert again.disks.in_use == [NAME]
    await again.disks.release_unknown({"u"})
    assert again.disks.in_use == [NAME]
    await again.disks.release_unknown(set())
    assert again.disks.in_use is None
    assert node.porter.disk_users == {}


async def bound(client: Client, size: str) -> tuple[Object, Object]:
    """The claim `data` of 1 GiB, whose volume has another size."""
    spec = {"accessModes": ["ReadWriteOnce"], "storageClassName": ""}
    request = {"requests": {"storage": "1Gi"}}
    wanted = {**spec, "resources": request, "volumeName": "pv"}
    await client.create(PERSISTENTVOLUMECLAIMS, {"metadata": {"name": "data", "namespace": "default"}, "spec": wanted})
    status = {
        "phase": "Bound",
        "capacity": {"storage": "1Gi"},
        "conditions": [{"type": "FileSystemResizePending", "status": "True"}],
        "allocatedResourceStatuses": {"storage": "NodeResizePending"},
    }
    claim = await client.patch(PERSISTENTVOLUMECLAIMS, "data", "default", {"status": status}, subresource="status")
    volume: dict[str, Any] = {
        **spec,
        "capacity": {"storage": size},
        "claimRef": {"namespace": "default", "name": "data"},
        "csi": {"driver": "disk.sampan.dev", "volumeHandle": HANDLE},
    }
    return claim, await client.create(PERSISTENTVOLUMES, {"metadata": {"name": "pv"}, "spec": volume})


async def grown(node: Node, size: str) -> Object:
    """The claim, once its volume of that size has been followed."""
    await bound(node.client, size)
    await node.use()
    following = asyncio.create_task(node.disks.run())
    try:
        async with asyncio.timeout(LIMIT_S):
            while True:
                found = await node.client.get(PERSISTENTVOLUMECLAIMS, "data", "default")
                if found["status"]["capacity"]["storage"] == size:
                    return found
                await asyncio.sleep(0.01)
    finally:
        following.cancel()


async def test_a_file_system_follows_its_volume(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disks, "LOOK_S", 0.01)
    claim = await grown(node, "2Gi")
    assert node.porter.grown == {HANDLE: 2 * 2**30}
    assert "conditions" not in claim["status"]
    assert "allocatedResourceStatuses" not in claim["status"]


async def test_what_cannot_grow_now_is_not_said_to_have_grown(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another pod may have the disk mounted still, when the next mounts it: then its file system is as it was."""

    async def refuse(handle: str, size_bytes: int) -> None:
        raise PorterFailure("not while it is mounted")

    monkeypatch.setattr(node.porter, "grow_disk", refuse)
    claim, volume = await bound(node.client, "2Gi")
    await node.use()
    await node.disks.grow(claim, volume, POD)
    found = await node.client.get(PERSISTENTVOLUMECLAIMS, "data", "default")
    assert found["status"]["capacity"] == {"storage": "1Gi"}
    monkeypatch.undo()
    await node.disks.grow(claim, volume, POD)
    found = await node.client.get(PERSISTENTVOLUMECLAIMS, "data", "default")
    assert found["status"]["capacity"] == {"storage": "2Gi"}


def test_conditions_of_others_stay() -> None:
    claim = {"status": {"conditions": [{"type": "Resizing"}, {"type": "Other"}]}}
    patch = diskgrowth.finished(claim, {"spec": {"capacity": {"storage": "2Gi"}}})
    assert patch["status"]["conditions"] == [{"type": "Other"}]
