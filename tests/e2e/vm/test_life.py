"""A lab of one control plane and one worker, each a virtual machine, from `up` to `down`: the real command, Pulumi,
provider, libvirt and guests. The tests are its life in order; each needs the one before.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.lab import eventually
from tests.e2e.vm.machines import VmLab, leftovers

# Guests without KVM on a busy machine boot in minutes.
pytestmark = pytest.mark.timeout(1800)
LIMITS = """
apiVersion: v1
kind: Pod
metadata: {name: limited}
spec:
  containers:
  - name: c
    image: busybox:1
    command: [sleep, "3600"]
    resources: {limits: {memory: 64Mi, cpu: 500m}}
"""

DATABASE = """
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec:
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 64Mi}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: database}
spec:
  strategy: {type: Recreate}
  selector: {matchLabels: {app: database}}
  template:
    metadata: {labels: {app: database}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: c
        image: busybox:1
        command: [sh, -c, "echo started >> /data/log; exec sleep 100000"]
        volumeMounts: [{name: data, mountPath: /data}]
      volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VmLab]:
    made = VmLab(f"life{os.getpid()}", tmp_path_factory.mktemp("life") / "kubeconfig")
    try:
        yield made
    finally:
        made.sampan("down", "--name", made.name, timeout_s=600)


def test_up(lab: VmLab) -> None:
    said = lab.up("--backend", "libvirt", "--workers", "1")
    assert "node worker-1 is Ready" in said.replace("\n", " ")
    nodes = {node["metadata"]["name"]: node for node in lab.json("get", "nodes")["items"]}
    assert set(nodes) == {"control-plane-1", "worker-1"}
    worker = nodes["worker-1"]
    assert worker["spec"]["providerID"] == f"sampan://{lab.name}/worker-1"
    assert [taint["key"] for taint in worker["spec"].get("taints", [])] == []
    addresses = {entry["address"] for entry in worker["status"]["addresses"] if entry["type"] == "InternalIP"}
    machine = lab.topology.node("worker-1")
    assert addresses == {machine.address_v4, machine.address_v6}


def test_an_up_without_change_changes_nothing(lab: VmLab) -> None:
    began = time.monotonic()
    said = lab.up()
    seconds = time.monotonic() - began
    print(f"up without change: {seconds:.1f} s")
    assert not re.search(r"\b(made|changed|removed|is Ready)\b", said), said


def test_a_deployment_and_its_service_answer(lab: VmLab) -> None:
    lab.kubectl("create", "deployment", "web", "--image=nginx:1", "--replicas=2")
    lab.kubectl("expose", "deployment", "web", "--port=80")
    lab.kubectl("rollout", "status", "deployment/web", "--timeout=240s", timeout_s=250)
    lab.kubectl("run", "client", "--image=busybox:1", "--command", "--", "sleep", "3600")
    lab.kubectl("wait", "--for=condition=Ready", "pod/client", "--timeout=240s", timeout_s=250)
    eventually(
        lambda: "nginx" in lab.kubectl("exec", "client", "--", "timeout", "5", "wget", "-qO-", "http://web"), "web"
    )


def test_limits_of_a_pod_are_the_kernels(lab: VmLab) -> None:
    lab.kubectl("apply", "-f", "-", stdin=LIMITS)
    lab.kubectl("wait", "--for=condition=Ready", "pod/limited", "--timeout=240s", timeout_s=250)
    script = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max"
    assert lab.kubectl("exec", "limited", "--", "sh", "-c", script).split() == [str(64 << 20), "50000", "100000"]

    more = {"memory": "160Mi", "cpu": "700m"}
    change = {"spec": {"containers": [{"name": "c", "resources": {"limits": more, "requests": more}}]}}
    lab.kubectl("patch", "pod", "limited", "--subresource=resize", "-p", json.dumps(change))

    def actuated() -> bool:
        return bool(lab.json("get", "pod", "limited")["status"]["containerStatuses"][0]["resources"]["limits"] == more)

    eventually(actuated, "a running container has more", timeout_s=120)
    script += " /sys/fs/cgroup/memory.swap.max"
    found = lab.kubectl("exec", "limited", "--", "sh", "-c", script).split()
    assert found == [str(160 << 20), "70000", "100000", "0"]
    assert lab.json("get", "pod", "limited")["status"]["containerStatuses"][0]["restartCount"] == 0


def test_a_claim_is_a_disk_of_the_machine(lab: VmLab) -> None:
    """Attached while the machine runs, and grown under the pod that uses it."""
    lab.kubectl("apply", "-f", "-", stdin=DATABASE)
    lab.kubectl("rollout", "status", "deployment/database", "--timeout=240s", timeout_s=250)
    handle = disk_of(lab)
    assert handle in lab.virsh("domblklist", f"{lab.name}-worker-1")
    lab.kubectl("patch", "pvc", "data", "-p", '{"spec":{"resources":{"requests":{"storage":"256Mi"}}}}')
    size = "df -k /data | tail -n 1 | awk '{print $(NF-4)}'"
    eventually(
        lambda: int(lab.kubectl("exec", "deployment/database", "--", "sh", "-c", size)) > 200_000,
        "the file system has grown",
        timeout_s=240,
    )
    assert lab.json("get", "pvc", "data")["status"]["capacity"] == {"storage": "256Mi"}
    assert lab.kubectl("exec", "deployment/database", "--", "cat", "/data/log") == "started\n"


def disk_of(lab: VmLab) -> str:
    volume = lab.json("get", "pvc", "data")["spec"]["volumeName"]
    return str(lab.json("get", "pv", volume)["spec"]["csi"]["volumeHandle"])


def test_a_snapshot_puts_machines_and_pods_back(lab: VmLab) -> None:
    boots = {
        node["metadata"]["name"]: node["status"]["nodeInfo"]["bootID"] for node in lab.json("get", "nodes")["items"]
    }
    lab.kubectl("create", "configmap", "then", "--from-literal=key=value")
    saved = json.loads(lab.sampan("snapshot", "save", "--name", lab.name, "calm", "-o", "json", timeout_s=600))
    lab.kubectl("create", "configmap", "since", "--from-literal=key=value")
    lab.kubectl("delete", "deployment/web", "configmap/then")
    lab.kubectl("wait", "--for=delete", "pod", "-l", "app=web", "--timeout=240s", timeout_s=250)
    began = time.monotonic()
    lab.sampan("snapshot", "restore", "--name", lab.name, "calm", timeout_s=600)
    print(f"snapshot: machines paused {saved['paused_s']} s, restored in {time.monotonic() - began:.1f} s")
    assert {"then"} == {"then", "since"} & {item["metadata"]["name"] for item in lab.json("get", "configmaps")["items"]}
    assert lab.pods_are_ready("app=web", 2)
    eventually(
        lambda: "nginx" in lab.kubectl("exec", "client", "--", "timeout", "5", "wget", "-qO-", "http://web"), "web"
    )
    assert {
        node["metadata"]["name"]: node["status"]["nodeInfo"]["bootID"] for node in lab.json("get", "nodes")["items"]
    } == boots
    for node in boots:
        asked = time.time()
        clock = float(lab.sampan("ssh", "--name", lab.name, node, "date", "+%s.%N"))
        assert asked - 2 < clock < time.time() + 2, f"{node}'s clock is {clock - time.time():.1f} s off"
    said = lab.up()
    assert not re.search(r"\b(made|changed|removed|is Ready)\b", said), said
    lab.sampan("snapshot", "delete", "--name", lab.name, "calm")


def test_no_secret_is_in_the_state_in_clear(lab: VmLab) -> None:
    secrets = [line for line in lab.admin_kubeconfig().split() if len(line) > 200]
    secrets += [line for line in lab.ssh_key().splitlines() if len(line) > 60]
    assert len(secrets) >= 5
    files = [file for file in (lab.state / ".pulumi").rglob("*") if file.is_file()]
    assert any(lab.name in file.name for file in files)
    for file in files:
        content = file.read_text(errors="replace")
        assert "PRIVATE KEY" not in content, file
        assert not [secret for secret in secrets if secret in content], file


def test_a_preview_says_which_node_changes_and_why(lab: VmLab, tmp_path: Path) -> None:
    """With a template of the API server changed in a copy of the checkout: it reaches the control plane alone."""
    copy = lab.checkout_copy(tmp_path)
    template = copy / "templates/components/api-server.yaml.j2"
    template.write_text(template.read_text() + "# another line\n")
    said = lab.preview(copy)
    changed = set(re.findall(r"~ pulumi-python:dynamic/sampan:NodeInstall: \(update\)\s+\[id=([^\]]+)\]", said))
    assert changed == {"control-plane-1"}, said
    assert "~ /etc/sampan/api-server.yaml" in said
    assert "kubelet.yaml" not in "".join(line for line in said.splitlines() if line.strip().startswith("~"))


def test_a_bigger_worker_alone_restarts(lab: VmLab) -> None:
    before = {node["metadata"]["name"]: node["status"] for node in lab.json("get", "nodes")["items"]}
    lab.configure("worker.memoryMib", "1700")
    said = lab.up()
    assert "machine worker-1 changed" in said.replace("\n", " ")
    assert "machine control-plane-1" not in said
    after = {node["metadata"]["name"]: node["status"] for node in lab.json("get", "nodes")["items"]}
    assert after["control-plane-1"]["nodeInfo"]["bootID"] == before["control-plane-1"]["nodeInfo"]["bootID"]
    eventually(
        lambda: lab.memory_mib("worker-1") > 1550, "the worker's Node says what memory it has now", timeout_s=240
    )
    eventually(lambda: lab.pods_are_ready("app=web", 2), "its pods have come back", timeout_s=300)


def test_a_machine_destroyed_behind_pulumis_back_is_brought_back(lab: VmLab) -> None:
    lab.virsh("destroy", f"{lab.name}-worker-1")
    lab.virsh("undefine", f"{lab.name}-worker-1")
    said = lab.up("--refresh").replace("\n", " ")
    assert "machine worker-1 made" in said
    assert "node worker-1 is Ready" in said
    assert {node["metadata"]["name"] for node in lab.json("get", "nodes")["items"]} == {"control-plane-1", "worker-1"}
    eventually(lambda: lab.pods_are_ready("app=web", 2), "its pods have come back", timeout_s=300)


def test_what_a_claim_holds_outlives_its_machine(lab: VmLab) -> None:
    """The worker has been another machine twice by now: a bigger one, and a new one."""
    eventually(lambda: lab.pods_are_ready("app=database", 1), "its pod has come back", timeout_s=300)

    def log() -> list[str]:
        return lab.kubectl("exec", "deployment/database", "--", "cat", "/data/log").split()

    # The pod is Ready by its old machine's word until the new one's kubelet has seen it.
    eventually(lambda: len(log()) >= 2, "it has been started on the same disk again", timeout_s=300)
    assert set(log()) == {"started"}
    handle = disk_of(lab)
    assert handle in lab.virsh("vol-list", lab.name)
    lab.kubectl("delete", "deployment", "database")
    lab.kubectl("delete", "pvc", "data", "--timeout=120s", timeout_s=130)
    eventually(lambda: handle not in lab.virsh("vol-list", lab.name), "the disk goes with its claim", timeout_s=120)
    assert handle not in lab.virsh("domblklist", f"{lab.name}-worker-1")


def test_status_tells_of_both(lab: VmLab) -> None:
    seen = json.loads(lab.sampan("status", "--name", lab.name, "-o", "json"))
    assert [(node["name"], node["state"], node["ready"]) for node in seen["nodes"]] == [
        ("control-plane-1", "running", "True"),
        ("worker-1", "running", "True"),
    ]
    running = {(one["node"], one["name"]) for one in seen["components"] if one["state"] == "running"}
    assert {("control-plane-1", "server"), ("worker-1", "kubelet"), ("worker-1", "node")} <= running


def test_a_shell_and_the_logs(lab: VmLab) -> None:
    assert lab.sampan("ssh", "--name", lab.name, "worker-1", "hostname").strip() == "worker-1"
    assert "sampan" in lab.sampan("ssh", "--name", lab.name, "--user", "sampan", "worker-1", "id")
    assert lab.sampan("logs", "--name", lab.name, "--node", "worker-1", "--tail", "5", "kubelet").strip()


def test_down_leaves_nothing(lab: VmLab) -> None:
    topology = lab.topology
    lab.sampan("down", "--name", lab.name, timeout_s=600)
    assert leftovers(lab, topology) == []
    contexts = subprocess.run(
        ["kubectl", f"--kubeconfig={lab.kubeconfig}", "config", "get-contexts", "-o", "name"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert f"sampan-{lab.name}" not in contexts.stdout
