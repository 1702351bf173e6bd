from __future__ import annotations

from typing import Any

import pytest

from orchestrator.api import conditions
from orchestrator.api.meta import Object
from orchestrator.cloud import libvirt_disks, volume_plan
from orchestrator.cloud.libvirt_disks import Disk
from orchestrator.cloud.provider import Volume
from orchestrator.cloud.volume_plan import (
    PROVISIONED_BY,
    PROVISIONER,
    SELECTED_NODE,
    VOLUME_FINALIZER,
    NotProvisionable,
    check,
    is_let_go,
    is_to_be_deleted,
    persistent_volume,
    size_bytes,
    wants_disk,
)

MIB = 2**20
OURS = "disk.sampan.dev"
LATE = {"metadata": {"name": "standard"}, "provisioner": OURS, "volumeBindingMode": "WaitForFirstConsumer"}
SOON = {"metadata": {"name": "soon"}, "provisioner": OURS, "volumeBindingMode": "Immediate"}


def claim(size: str = "1Gi", *, node: str = "n1", mark: str = OURS, status: Any = None, **spec: Any) -> Object:
    annotations = {key: value for key, value in ((PROVISIONER, mark), (SELECTED_NODE, node)) if value}
    return {
        "metadata": {"name": "data", "namespace": "shop", "uid": "a8d5619e-1fc4", "annotations": annotations},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}, **spec},
        "status": status or {},
    }


def volume(
    phase: str = "Released", *, policy: str = "Delete", by: str = OURS, deleting: bool = False, **spec: Any
) -> Object:
    described: Object = {"name": "pv", "annotations": {PROVISIONED_BY: by}, "finalizers": [VOLUME_FINALIZER]}
    if deleting:
        described["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    source = {"driver": OURS, "volumeHandle": "vol-1"}
    return {
        "metadata": described,
        "spec": {"csi": source, "persistentVolumeReclaimPolicy": policy, **spec},
        "status": {"phase": phase},
    }


@pytest.mark.parametrize(
    ("wish", "storage_class", "wants"),
    [
        pytest.param(claim(), LATE, True, id="its-node-is-chosen"),
        pytest.param(claim(node=""), LATE, False, id="its-node-is-not-chosen-yet"),
        pytest.param(claim(node=""), SOON, True, id="its-class-does-not-wait"),
        pytest.param(claim(mark="other.example"), LATE, False, id="marked-for-another"),
        pytest.param(claim(mark=""), LATE, False, id="not-marked-yet"),
        pytest.param(claim(volumeName="pv"), LATE, False, id="bound"),
        pytest.param(claim(), {**LATE, "provisioner": "other.example"}, False, id="another's-class"),
        pytest.param(claim(), None, False, id="no-class"),
    ],
)
def test_wants_disk(wish: Object, storage_class: Object | None, wants: bool) -> None:
    assert wants_disk(wish, storage_class) is wants


@pytest.mark.parametrize(
    ("wish", "storage_class", "why"),
    [
        (claim(accessModes=["ReadWriteMany"]), LATE, "access mode ReadWriteMany is not supported"),
        (claim(dataSource={"kind": "VolumeSnapshot", "name": "s"}), LATE, "from VolumeSnapshot s: it begins blank"),
        (claim(), {**LATE, "parameters": {"type": "ssd"}}, "parameter 'type' of the class is not known"),
        (claim(), {**LATE, "parameters": {"csi.storage.k8s.io/fstype": "ntfs"}}, "'ntfs' is none of ext3, ext4, xfs"),
    ],
)
def test_what_no_disk_is_is_refused(wish: Object, storage_class: Object, why: str) -> None:
    with pytest.raises(NotProvisionable) as refused:
        check(wish, storage_class)
    assert why in str(refused.value)


def test_access_by_one_node_or_pod_is_what_a_disk_is_for() -> None:
    check(claim(accessModes=["ReadWriteOnce"]), {**LATE, "parameters": {"csi.storage.k8s.io/fstype": "xfs"}})
    check(claim(accessModes=["ReadWriteOncePod"]), LATE)


@pytest.mark.parametrize(
    ("size", "wanted"), [("1Gi", 1024 * MIB), ("1", 16 * MIB), ("100M", 96 * MIB), ("16777217", 17 * MIB)]
)
def test_disks_have_whole_units_and_what_was_asked_for_at_least(size: str, wanted: int) -> None:
    assert size_bytes(claim(size)) == wanted


def test_a_volume_is_bound_to_its_claim_from_the_start() -> None:
    made = persistent_volume(claim(), LATE, Volume(name="vol-1", size_bytes=1024 * MIB))
    spec = made["spec"]
    assert made["metadata"] == {
        "name": "pvc-a8d5619e-1fc4",
        "annotations": {PROVISIONED_BY: OURS},
        "finalizers": [VOLUME_FINALIZER],
    }
    assert spec["claimRef"]["uid"] == "a8d5619e-1fc4"
    assert spec["capacity"] == {"storage": "1Gi"}
    assert spec["csi"] == {"driver": OURS, "volumeHandle": "vol-1", "fsType": "ext4"}
    assert "nodeAffinity" not in spec


def test_a_device_has_no_file_system() -> None:
    made = persistent_volume(claim(volumeMode="Block"), LATE, Volume(name="vol-1", size_bytes=MIB))
    assert made["spec"]["volumeMode"] == "Block"
    assert "fsType" not in made["spec"]["csi"]


@pytest.mark.parametrize(
    ("disk", "operator"),
    [
        (Volume(name="v", size_bytes=MIB, reach=("n1", "n2")), "In"),
        (Volume(name="v", size_bytes=MIB, beyond=("n1", "n2")), "NotIn"),
    ],
)
def test_a_volume_says_which_nodes_can_have_it(disk: Volume, operator: str) -> None:
    affinity = persistent_volume(claim(), LATE, disk)["spec"]["nodeAffinity"]
    expression = affinity["required"]["nodeSelectorTerms"][0]["matchExpressions"][0]
    assert expression == {"key": "kubernetes.io/hostname", "operator": operator, "values": ["n1", "n2"]}


@pytest.mark.parametrize(
    ("of", "deleted", "let_go"),
    [
        pytest.param(volume(), True, False, id="released"),
        pytest.param(volume("Bound"), False, False, id="bound"),
        pytest.param(volume("Bound", deleting=True), False, False, id="deleted-by-hand-and-still-bound"),
        pytest.param(volume(deleting=True), True, False, id="deleted-by-hand"),
        pytest.param(volume("Available", deleting=True), True, False, id="deleted-before-it-was-bound"),
        pytest.param(volume("Available"), False, False, id="free"),
        pytest.param(volume(policy="Retain"), False, False, id="to-be-kept"),
        pytest.param(volume(policy="Retain", deleting=True), False, True, id="to-be-kept-though-its-object-goes"),
        pytest.param(volume(by="other.example"), False, False, id="made-by-another"),
    ],
)
def test_is_to_be_deleted(of: Object, deleted: bool, let_go: bool) -> None:
    assert (is_to_be_deleted(of), is_let_go(of)) == (deleted, let_go)


def test_expansion_goes_from_the_disk_to_the_node() -> None:
    held = {"phase": "Bound", "capacity": {"storage": "1Gi"}}
    small, wish = volume("Bound", capacity={"storage": "1Gi"}), claim("2Gi", status=held)
    assert volume_plan.is_to_grow(wish, small)
    patch = volume_plan.resizing(wish, "now")["status"]
    assert patch["allocatedResources"] == {"storage": "2Gi"}
    assert patch["allocatedResourceStatuses"] == {"storage": "ControllerResizeInProgress"}
    assert [each["type"] for each in patch["conditions"]] == ["Resizing"]

    wish["status"] = held | {"conditions": patch["conditions"]}
    large = volume("Bound", capacity={"storage": "2Gi"})
    assert not volume_plan.is_to_grow(wish, large)
    told = volume_plan.disk_grown(wish, large, "later")
    assert told is not None
    assert told["status"]["allocatedResourceStatuses"] == {"storage": "NodeResizePending"}
    pending = conditions.find(told["status"]["conditions"], "FileSystemResizePending")
    assert pending is not None
    assert pending["message"].startswith("Waiting for user to (re-)start a pod")
    wish["status"] = held | {"conditions": told["status"]["conditions"]}
    assert volume_plan.disk_grown(wish, large, "later still") is None


def test_a_device_has_grown_with_its_disk() -> None:
    held = {"phase": "Bound", "capacity": {"storage": "1Gi"}, "conditions": [{"type": "Resizing", "status": "True"}]}
    large = volume("Bound", capacity={"storage": "2Gi"}, volumeMode="Block")
    told = volume_plan.disk_grown(claim("2Gi", status=held), large, "now")
    assert told is not None
    assert told["status"] == {
        "capacity": {"storage": "2Gi"},
        "conditions": None,
        "allocatedResourceStatuses": {"storage": None},
    }


DOMAIN = """\
<domain><devices>
  <disk type='file' device='disk'><source file='/p/root'/><target dev='vda' bus='virtio'/></disk>
  <disk type='file' device='disk'><source file='/p/vol-1'/><target dev='vdc' bus='virtio'/><serial>vol-1</serial></disk>
  <disk type='file' device='cdrom'><target dev='hda' bus='ide'/></disk>
</devices></domain>"""


def test_disks_of_a_domain() -> None:
    disks = libvirt_disks.parse(DOMAIN)
    assert libvirt_disks.with_serial(disks, "vol-1") == Disk("vol-1", "vdc", "/p/vol-1")
    assert libvirt_disks.with_serial(disks, "vol-2") is None
    assert libvirt_disks.free_target(disks) == "vdb"
    full = [Disk("", f"vd{letter}", "") for letter in "abcdefghijklmnopqrstuvwxyz"]
    assert libvirt_disks.free_target(full) == "vdaa"
    written = f"<domain><devices>{libvirt_disks.disk_xml(Disk('vol-9', 'vdb', '/p/a&b'))}</devices></domain>"
    assert libvirt_disks.parse(written) == (Disk("vol-9", "vdb", "/p/a&b"),)
