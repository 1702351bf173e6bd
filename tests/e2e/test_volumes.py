"""Volumes that are the lab's disks: made on demand, moved with their pods, grown, and gone with their claims."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from tests.e2e.lab import WITHIN, Lab, eventually

Kubectl = Callable[..., str]
SAY_WHERE = "echo $HOSTNAME started >> /data/log; exec sleep 100000"


def claim(name: str, size: str = "64Mi", **spec: Any) -> dict[str, Any]:
    wanted = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}, **spec}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": wanted}


def container(command: str, **more: Any) -> dict[str, Any]:
    mounts = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]} if "volumeDevices" not in more else {}
    return {"name": "c", "image": "busybox:1", "command": ["sh", "-c", command], **mounts, **more}


def pod(name: str, of_claim: str, command: str = "exec sleep 100000", **spec: Any) -> dict[str, Any]:
    described = {
        "terminationGracePeriodSeconds": 0,
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": of_claim}}],
        "containers": [container(command)],
        **spec,
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": described}


def stateful_set() -> dict[str, Any]:
    template = {
        "metadata": {"labels": {"app": "db"}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [container(SAY_WHERE)]},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "db"},
        "spec": {
            "serviceName": "db",
            "selector": {"matchLabels": {"app": "db"}},
            "template": template,
            "volumeClaimTemplates": [claim("data")],
        },
    }


class Volumes:
    """kubectl in the test's namespace, and what it says of claims and pods."""

    def __init__(self, kubectl: Kubectl) -> None:
        self.kubectl = kubectl

    def apply(self, *objects: dict[str, Any]) -> None:
        self.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(objects))

    def get(self, kind: str, name: str) -> Any:
        return json.loads(self.kubectl("get", kind, name, "-o", "json"))

    def ready(self, name: str) -> str:
        """The node of a pod that has become ready."""
        self.kubectl("wait", "--for=condition=Ready", f"pod/{name}", WITHIN)
        return str(self.get("pod", name)["spec"]["nodeName"])

    def inside(self, name: str, command: str) -> str:
        return self.kubectl("exec", name, "--", "sh", "-c", command)

    def size_kib(self, name: str) -> int:
        return int(self.inside(name, "df -k /data | tail -n 1 | awk '{print $(NF-4)}'"))

    def disk(self, of_claim: str) -> tuple[str, str]:
        """(volume, handle)."""
        volume = self.get("pvc", of_claim)["spec"]["volumeName"]
        return volume, self.get("pv", volume)["spec"]["csi"]["volumeHandle"]

    def users(self, of_claim: str) -> list[str]:
        """The nodes that say they use the claim's disk."""
        handle = self.disk(of_claim)[1]
        nodes = json.loads(self.kubectl("get", "nodes", "-o", "json"))["items"]
        return [
            node["metadata"]["name"]
            for node in nodes
            if any(handle in name for name in node["status"].get("volumesInUse") or ())
        ]

    def events(self, about: str) -> str:
        return self.kubectl("get", "events", f"--field-selector=involvedObject.name={about}")


@pytest.fixture
def volumes(kubectl: Kubectl) -> Volumes:
    return Volumes(kubectl)


def test_claims_get_the_standard_class(lab: Lab) -> None:
    listed = eventually(lambda: lab.kubectl("get", "storageclass", "standard"), "the standard class")
    assert "standard (default)" in listed
    assert "disk.sampan.dev" in listed
    assert "WaitForFirstConsumer" in listed


def test_a_stateful_pod_keeps_its_data_on_another_node(lab: Lab, volumes: Volumes) -> None:
    volumes.apply(stateful_set())
    first = eventually(lambda: volumes.ready("db-0"), "the pod")
    volume, handle = volumes.disk("data-db-0")
    lab.kubectl("cordon", first)
    try:
        volumes.kubectl("delete", "pod", "db-0")
        second = eventually(lambda: volumes.ready("db-0"), "the pod on another node")
    finally:
        lab.kubectl("uncordon", first)
    assert second != first
    assert volumes.inside("db-0", "cat /data/log") == "db-0 started\n" * 2
    assert "SuccessfulAttachVolume" in volumes.events("db-0")
    assert volumes.users("data-db-0") == [second]
    attached = volumes.get("node", first)["status"].get("volumesAttached") or ()
    assert not any(handle in entry["name"] for entry in attached)

    volumes.kubectl("delete", "statefulset", "db")
    volumes.kubectl("delete", "pvc", "data-db-0")
    eventually(lambda: not _exists(lab, volume), "the volume is deleted with its claim")
    for node in (first, second):
        assert handle not in lab.sampan("ssh", "--name", lab.name, node, "ls", "/dev/disk/by-id", check=False)


def _exists(lab: Lab, volume: str) -> bool:
    return bool(lab.kubectl("get", "pv", volume, "--ignore-not-found"))


def test_a_claim_grows_with_what_is_in_it(volumes: Volumes) -> None:
    """Where the node may not grow a mounted file system, as it is told in an event, the pod's next start does."""
    volumes.apply(claim("data"), pod("p", "data", "echo kept > /data/log; exec sleep 100000"))
    volumes.ready("p")
    before = volumes.size_kib("p")
    volumes.kubectl("patch", "pvc", "data", "-p", '{"spec":{"resources":{"requests":{"storage":"256Mi"}}}}')
    grown = '"storage":"256Mi"'

    def outcome() -> str:
        if grown in volumes.kubectl("get", "pvc", "data", "-o", "jsonpath={.status.capacity}"):
            return "grown"
        return "later" if "no CAP_SYS_RESOURCE" in volumes.events("p") else ""

    if eventually(outcome, "the file system grows, or is said to grow later") == "later":
        assert "FileSystemResizePending" in volumes.kubectl("get", "pvc", "data", "-o", "json")
        volumes.kubectl("delete", "pod", "p")
        eventually(lambda: not volumes.users("data"), "the node lets go")
        volumes.apply(pod("p", "data"))
        volumes.ready("p")
    assert volumes.size_kib("p") > 2 * before
    assert volumes.inside("p", "cat /data/log") == "kept\n"
    status = eventually(
        lambda: found if "conditions" not in (found := volumes.get("pvc", "data")["status"]) else None, "no condition"
    )
    assert status["capacity"] == {"storage": "256Mi"}
    assert "allocatedResourceStatuses" not in status


def test_how_full_a_claim_is_can_be_asked(namespace: str, volumes: Volumes) -> None:
    fill = "dd if=/dev/zero of=/data/file bs=1M count=20; sync; exec sleep 100000"
    volumes.apply(claim("data"), pod("p", "data", fill))
    node = volumes.ready("p")

    def used() -> int:
        summary = json.loads(volumes.kubectl("get", "--raw", f"/api/v1/nodes/{node}/proxy/stats/summary"))
        (mine,) = [each for each in summary["pods"] if each["podRef"]["namespace"] == namespace]
        (found,) = mine["volume"]
        assert found["pvcRef"] == {"name": "data", "namespace": namespace}
        assert found["usedBytes"] + found["availableBytes"] <= found["capacityBytes"] <= 64 * 2**20
        return int(found["usedBytes"])

    eventually(lambda: used() >= 20 * 2**20, "what was written is counted")
    metrics = volumes.kubectl("get", "--raw", f"/api/v1/nodes/{node}/proxy/metrics")
    assert f'kubelet_volume_stats_used_bytes{{namespace="{namespace}",persistentvolumeclaim="data"}}' in metrics


def test_two_nodes_do_not_share_a_disk(lab: Lab, volumes: Volumes) -> None:
    volumes.apply(claim("data"), pod("first", "data"))
    node = volumes.ready("first")
    other = next(name for name in lab.nodes() if name.startswith("worker") and name != node)
    volumes.apply(pod("second", "data", nodeName=other), pod("beside", "data", nodeName=node))
    volumes.ready("beside")  # one node may share it with itself
    volume = volumes.disk("data")[0]
    eventually(
        lambda: (
            f'Multi-Attach error for volume "{volume}" Volume is already used by pod(s)' in volumes.events("second")
        ),
        "the refusal is told",
    )
    volumes.kubectl("delete", "pod", "first", "beside")
    assert eventually(lambda: volumes.ready("second"), "the disk is free") == other


def test_groups_and_users_are_those_of_the_pod(volumes: Volumes) -> None:
    who = {"runAsUser": 1234, "runAsGroup": 2000, "fsGroup": 3000}
    volumes.apply(claim("data"), pod("p", "data", "touch /data/file; exec sleep 100000", securityContext=who))
    volumes.ready("p")
    assert volumes.inside("p", "stat -c %u:%g /data /data/file").split() == ["0:3000", "1234:3000"]


def test_a_device_is_given_as_it_is(volumes: Volumes) -> None:
    device = container(
        "echo hello > /dev/data; exec sleep 100000", volumeDevices=[{"name": "data", "devicePath": "/dev/data"}]
    )
    volumes.apply(claim("raw", "32Mi", volumeMode="Block"), pod("p", "raw", containers=[device]))
    volumes.ready("p")
    assert volumes.inside("p", "test -b /dev/data && head -c 5 /dev/data") == "hello"
    assert volumes.inside("p", "dd if=/dev/data of=/dev/null bs=1M 2>&1 | head -n 1") == "32+0 records in\n"


def test_an_ephemeral_volume_comes_and_goes_with_its_pod(lab: Lab, volumes: Volumes) -> None:
    template = {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "32Mi"}}}}
    made = pod("p", "", "echo there > /data/file; exec sleep 100000")
    made["spec"]["volumes"] = [{"name": "data", "ephemeral": {"volumeClaimTemplate": template}}]
    volumes.apply(made)
    volumes.ready("p")
    assert volumes.inside("p", "cat /data/file") == "there\n"
    volume = volumes.disk("p-data")[0]
    volumes.kubectl("delete", "pod", "p")
    eventually(lambda: not volumes.kubectl("get", "pvc", "p-data", "--ignore-not-found"), "the claim goes")
    eventually(lambda: not _exists(lab, volume), "and its volume")


def test_what_a_disk_cannot_be_is_refused(volumes: Volumes) -> None:
    volumes.apply(claim("many", accessModes=["ReadWriteMany"]), pod("p", "many"))
    eventually(lambda: "access mode ReadWriteMany is not supported" in volumes.events("many"), "the refusal is told")


def test_a_pod_that_has_ended_keeps_no_disk(volumes: Volumes) -> None:
    volumes.apply(claim("data"), pod("p", "data", "echo done > /data/log", restartPolicy="Never"))
    volumes.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/p", WITHIN)
    eventually(lambda: not volumes.users("data"), "the node lets go")
    volumes.apply(pod("next", "data"))
    volumes.ready("next")
    assert volumes.inside("next", "cat /data/log") == "done\n"


def test_a_kubelet_that_starts_again_knows_its_disks(lab: Lab, volumes: Volumes) -> None:
    volumes.apply(claim("data"), pod("p", "data"))
    node = volumes.ready("p")
    lab.sampan("fault", "kill-component", "kubelet", "--node", node, "--name", lab.name)
    eventually(lambda: volumes.inside("p", "touch /data/file && ls /data/file"), "the node serves again")
    assert volumes.users("data") == [node]
    volumes.kubectl("delete", "pod", "p")
    eventually(lambda: not volumes.users("data"), "the node lets go")


def test_a_node_that_dies_gives_its_disks_back(lab: Lab, volumes: Volumes) -> None:
    """The node comes back with nothing; its pod is started there again, on the same disk."""
    volumes.apply(claim("data"), pod("p", "data", SAY_WHERE))
    node = volumes.ready("p")
    started = volumes.get("pod", "p")["status"]["containerStatuses"][0]["containerID"]
    eventually(lambda: volumes.inside("p", "cat /data/log; sync") == "p started\n", "its data has been written")
    lab.sampan("fault", "kill-node", node, "--name", lab.name)  # a machine loses what it has not written to its disk
    lab.sampan("fault", "heal", "--name", lab.name)
    eventually(
        lambda: (
            volumes.get("pod", "p")["status"]["containerStatuses"][0]["containerID"] != started
            and volumes.inside("p", "cat /data/log") == "p started\n" * 2
        ),
        "the pod runs again with its data",
    )
