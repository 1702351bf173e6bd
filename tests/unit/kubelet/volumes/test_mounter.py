"""Volumes of pods, by type, against objects in an API server in memory and a fake porter."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from orchestrator.api.clock import FixedClock
from orchestrator.api.meta import Object
from orchestrator.api.resources import CONFIGMAPS, PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, SECRETS
from orchestrator.client.events import EventRecorder
from orchestrator.client.informer import Informers
from orchestrator.kubelet.dirs import Dirs
from orchestrator.kubelet.disks import Disks
from orchestrator.kubelet.downwardapi import NodeFacts
from orchestrator.kubelet.fakeporter import FakePorter
from orchestrator.kubelet.objects import Objects
from orchestrator.kubelet.tokens import Tokens
from orchestrator.kubelet.volumes import mounter
from orchestrator.kubelet.volumes.volume import Mounted, Place, VolumeFailure
from tests.apiserver_fixture import serving

CLAIM = {
    "volumeName": "pv",
    "accessModes": ["ReadWriteOnce"],
    "resources": {"requests": {"storage": "1Gi"}},
    "storageClassName": "",
}


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    """A pod's place, with the objects that the tests' volumes name."""
    dirs = Dirs(tmp_path / "root", tmp_path / "logs")
    pod: dict[str, Any] = {
        "metadata": {"name": "p", "namespace": "default", "uid": "u", "labels": {"a": "b"}},
        "spec": {},
    }
    async with serving() as served, Informers(served.client) as informers:
        for resource, body in (
            (CONFIGMAPS, {"data": {"one": "1", "two": "2"}, "binaryData": {"raw": base64.b64encode(b"\xff").decode()}}),
            (SECRETS, {"data": {"pw": base64.b64encode(b"hunter2").decode()}}),
            (PERSISTENTVOLUMECLAIMS, {"spec": CLAIM}),
        ):
            await served.client.create(resource, {"metadata": {"name": "x", "namespace": "default"}, **body})
        bound = {"status": {"phase": "Bound"}}
        await served.client.patch(PERSISTENTVOLUMECLAIMS, "x", "default", bound, subresource="status")
        volume = {"hostPath": {"path": "/srv/data"}, "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]}
        await served.client.create(PERSISTENTVOLUMES, {"metadata": {"name": "pv"}, "spec": volume})
        clock, porter = FixedClock(), FakePorter(dirs)

        async def attached(in_use: list[str] | None) -> Object:
            """A node whose controller attaches what it says is in use."""
            return {"status": {"volumesAttached": [{"name": name, "devicePath": ""} for name in in_use or ()]}}

        yield Place(
            pod=pod,
            client=served.client,
            disks=Disks(served.client, EventRecorder(served.client, "kubelet"), porter, attached, lambda: [pod]),
            dirs=dirs.of(pod),
            porter=porter,
            objects=Objects(served.client, informers, lambda uid: None),
            tokens=Tokens(served.client, clock),
            facts=NodeFacts("n1", ("1.2.3.4",), {"cpu": "4"}),
            clock=clock,
            pod_ips=("10.0.0.2",),
        )


async def mounted(place: Place, **volume: Any) -> Mounted:
    place.pod["spec"]["volumes"] = [{"name": "v", **volume}]
    return (await mounter.mount_all(place))["v"]


def files(found: Mounted) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in Path(found.path).iterdir() if file.is_file()}


async def test_config_map(place: Place) -> None:
    assert files(await mounted(place, configMap={"name": "x"})) == {"one": b"1", "two": b"2", "raw": b"\xff"}
    chosen = await mounted(place, configMap={"name": "x", "items": [{"key": "one", "path": "uno", "mode": 0o400}]})
    assert files(chosen) == {"uno": b"1"}
    assert Path(chosen.path, "uno").stat().st_mode & 0o777 == 0o400


async def test_secret_is_in_memory(place: Place) -> None:
    assert files(await mounted(place, secret={"secretName": "x"})) == {"pw": b"hunter2"}
    assert isinstance(place.porter, FakePorter)
    assert place.porter.mounts[("u", "v")][0] == "tmpfs"


async def test_projection_of_several_sources(place: Place) -> None:
    field = {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}
    sources = [
        {"configMap": {"name": "x", "items": [{"key": "one", "path": "one"}]}},
        {"secret": {"name": "x"}},
        {"downwardAPI": {"items": [field]}},
    ]
    assert files(await mounted(place, projected={"sources": sources})) == {
        "one": b"1",
        "pw": b"hunter2",
        "labels": b'a="b"',
    }


async def test_what_is_missing_is_named(place: Place) -> None:
    for volume, message in (
        ({"configMap": {"name": "gone"}}, 'configmap "gone" not found'),
        ({"secret": {"secretName": "gone"}}, 'secret "gone" not found'),
        ({"configMap": {"name": "x", "items": [{"key": "no", "path": "n"}]}}, "non-existent config key: no"),
        ({"persistentVolumeClaim": {"claimName": "gone"}}, 'persistentvolumeclaim "gone" not found'),
        ({"flocker": {}}, "no volume plugin matched"),
    ):
        with pytest.raises(VolumeFailure, match=message):
            await mounted(place, **volume)
    assert files(await mounted(place, configMap={"name": "gone", "optional": True})) == {}


async def test_a_claim_is_its_volume(place: Place) -> None:
    assert await mounted(place, persistentVolumeClaim={"claimName": "x"}) == Mounted("/srv/data")


async def test_empty_dir_keeps_what_is_in_it(place: Place) -> None:
    found = await mounted(place, emptyDir={})
    assert Path(found.path).stat().st_mode & 0o777 == 0o777
    Path(found.path, "f").write_text("kept")
    assert files(await mounted(place, emptyDir={})) == {"f": b"kept"}


async def test_empty_dir_in_memory_has_its_size(place: Place) -> None:
    await mounted(place, emptyDir={"medium": "Memory", "sizeLimit": "1Mi"})
    assert isinstance(place.porter, FakePorter)
    assert place.porter.mounts[("u", "v")] == ("tmpfs", 2**20)


async def test_files_belong_to_the_group_of_the_pod(place: Place) -> None:
    pod = {**place.pod, "spec": {"securityContext": {"fsGroup": 2000}}}
    grouped = replace(place, pod=pod)
    found = await mounted(grouped, configMap={"name": "x", "defaultMode": 0o400})
    assert Path(found.path, "one").stat().st_mode & 0o777 == 0o440
    assert isinstance(place.porter, FakePorter)
    assert {(user, group) for _, user, group, _ in place.porter.owned} == {(None, 2000)}


def mount_of(found: Mounted, env: dict[str, str] | None = None, **wanted: Any) -> Any:
    container = {"name": "c", "volumeMounts": [{"name": "v", "mountPath": "/there", **wanted}]}
    return mounter.container_mounts(container, {"v": found}, env or {})[0]


def test_sub_paths(tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "out").symlink_to("/etc")
    found = Mounted(str(volume))
    assert mount_of(found, subPath="a/b").source == str(volume / "a/b")
    assert (volume / "a/b").is_dir()
    assert mount_of(found, {"POD": "p-0"}, subPathExpr="$(POD)/logs").source == str(volume / "p-0/logs")
    for bad in ({"subPath": "../x"}, {"subPath": "out/passwd"}, {"subPath": "/etc"}, {"subPathExpr": "$(NOPE)"}):
        with pytest.raises(VolumeFailure):
            mount_of(found, **bad)


def test_modes_of_mounts() -> None:
    assert mount_of(Mounted("/v", read_only=True)).read_only
    assert mount_of(Mounted("/v"), readOnly=True).read_only
    assert mount_of(Mounted("/v"), mountPropagation="HostToContainer").propagation == "rslave"
    assert mount_of(Mounted("image:1", is_image=True)).is_image
