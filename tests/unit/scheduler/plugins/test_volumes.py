"""Plugins that look at volumes: where a claim can be had, and by whom."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.api.meta import Object
from orchestrator.scheduler.plugins.volumebinding import VolumeBinding
from tests.unit.scheduler.world import ZONE, World, node, pod


def claim(
    name: str = "data", *, volume: str = "", storage: str = "1Gi", storage_class: str = "local", **more: Any
) -> Object:
    annotations = {"pv.kubernetes.io/bind-completed": "yes"} if volume else {}
    return {
        "metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}", "annotations": annotations},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": storage_class,
            "resources": {"requests": {"storage": storage}},
            **({"volumeName": volume} if volume else {}),
            **more,
        },
    }


def volume(
    name: str, zone: str = "", storage: str = "2Gi", labels: dict[str, str] | None = None, **more: Any
) -> Object:
    terms = [{"matchExpressions": [{"key": ZONE, "operator": "In", "values": [zone]}]}]
    affinity = {"nodeAffinity": {"required": {"nodeSelectorTerms": terms}}} if zone else {}
    spec = {"accessModes": ["ReadWriteOnce"], "storageClassName": "local", "capacity": {"storage": storage}}
    return {
        "metadata": {"name": name, "labels": labels or {}},
        "spec": {**spec, **affinity, **more},
        "status": {"phase": "Available"},
    }


def storage_class(name: str = "local", provisioner: str = "kubernetes.io/no-provisioner", **more: Any) -> Object:
    return {
        "metadata": {"name": name},
        "provisioner": provisioner,
        "volumeBindingMode": "WaitForFirstConsumer",
        **more,
    }


def world(*objects: Object) -> World:
    made = World(node("a", zone="za"), node("b", zone="zb"))
    for obj in (storage_class(), *objects):
        name = obj["metadata"]["name"]
        if "provisioner" in obj:
            made.listers.classes.put(name, obj)
        elif "capacity" in obj["spec"]:
            made.listers.volumes.put(name, obj)
        else:
            made.listers.claims.put(f"default/{name}", obj)
    return made


def using(*claims: str, **spec: Any) -> Object:
    volumes = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in claims]
    return pod("p", volumes=volumes, **spec)


NO_VOLUMES = "2 node(s) didn't find available persistent volumes to bind"


@pytest.mark.parametrize(
    ("objects", "placed"),
    [
        pytest.param([claim(volume="v"), volume("v", "zb")], "b", id="where-its-volume-is"),
        pytest.param([claim(), volume("v", "zb")], "b", id="where-a-free-volume-is"),
        pytest.param([claim(storage="3Gi"), volume("v", "zb")], NO_VOLUMES, id="too-small"),
        pytest.param([claim(), volume("v", "zb", claimRef={"name": "x", "namespace": "y"})], NO_VOLUMES, id="taken"),
        pytest.param(
            [
                claim(selector={"matchLabels": {"tier": "fast"}}),
                volume("v", "za"),
                volume("w", "zb", labels={"tier": "fast"}),
            ],
            "b",
            id="selector",
        ),
        pytest.param(
            [
                claim(storage_class="csi"),
                storage_class(
                    "csi",
                    "csi.example.com",
                    allowedTopologies=[{"matchLabelExpressions": [{"key": ZONE, "values": ["zb"]}]}],
                ),
            ],
            "b",
            id="where-one-can-be-made",
        ),
        pytest.param(
            [claim(storage_class="none")],
            "pod has unbound immediate PersistentVolumeClaims",
            id="bound-at-once-or-never",
        ),
        pytest.param(
            [claim(volume="gone")],
            "2 node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)",
            id="volume-is-gone",
        ),
        pytest.param(
            [claim(volume="v"), volume("v", "zc")],
            "2 node(s) didn't match PersistentVolume's node affinity",
            id="volume-is-elsewhere",
        ),
        pytest.param([claim(volume="v"), volume("v", labels={ZONE: "zb"})], "b", id="zone-label-of-the-volume"),
        pytest.param(
            [claim(volume="v"), volume("v", labels={ZONE: "zx__zy"})],
            "2 node(s) had no available volume zone",
            id="zones",
        ),
    ],
)
def test_one_claim(objects: list[Object], placed: str) -> None:
    said = world(*objects).place(using("data"))
    assert said in (placed, f"0/2 nodes are available: {placed}.")


def test_two_claims_need_two_volumes_on_one_node() -> None:
    claims = (claim("one"), claim("two"))
    assert NO_VOLUMES in world(*claims, volume("v", "za"), volume("w", "zb")).place(using("one", "two"))
    assert world(*claims, volume("v", "zb"), volume("w", "zb")).place(using("one", "two")) == "b"


def test_a_promised_volume_is_not_promised_again() -> None:
    made = world(claim("one"), claim("two"), volume("v", "za"))
    plugin = made.framework.plugin("VolumeBinding")
    assert isinstance(plugin, VolumeBinding)
    plan = plugin.reserve(made.cycle(using("one")), "a")
    assert [binding.volume and binding.volume["metadata"]["name"] for binding in plan] == ["v"]
    assert NO_VOLUMES in made.place(using("two"))
    plugin.release(plan)
    assert made.place(using("two")) == "a"


def test_read_write_once_pod_has_one_pod() -> None:
    made = world(claim(volume="v", accessModes=["ReadWriteOncePod"]), volume("v"))
    assert made.assume(using("data")) in ("a", "b")
    assert "same name and ReadWriteOncePod access mode" in made.place(
        pod("q", volumes=using("data")["spec"]["volumes"])
    )


def test_a_disk_is_not_shared_unless_all_read() -> None:
    def with_disk(name: str, **more: Any) -> Object:
        return pod(name, volumes=[{"name": "d", "gcePersistentDisk": {"pdName": "disk", **more}}])

    made = World(node("a"))
    made.assume(with_disk("first", readOnly=True))
    assert made.place(with_disk("second", readOnly=True)) == "a"
    assert made.place(with_disk("third")) == "0/1 nodes are available: 1 node(s) had no available disk."


def test_a_node_attaches_no_more_than_its_driver_can() -> None:
    csi = {"csi": {"driver": "csi.example.com", "volumeHandle": "1"}}
    other = {"csi": {"driver": "csi.example.com", "volumeHandle": "2"}}
    made = world(claim("one", volume="v"), claim("two", volume="w"), volume("v", **csi), volume("w", **other))
    for name in ("a", "b"):
        drivers = [{"name": "csi.example.com", "allocatable": {"count": 1}}]
        made.listers.csi_nodes.put(name, {"metadata": {"name": name}, "spec": {"drivers": drivers}})
    first = made.assume(using("one"))
    second = pod("q", volumes=using("two")["spec"]["volumes"])
    assert made.feasible(second) == [name for name in ("a", "b") if name != first]
