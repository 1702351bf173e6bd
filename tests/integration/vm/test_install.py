"""A machine that somebody has becomes a node over SSH, is one again after a reboot, and is what it was afterwards.

It is the VM image without what only our image has (dependencies, container images), in a network of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from infra import pki
from infra.images.wheel import wheel
from infra.install import components, machines, packages, units, vm
from infra.install.connection import CommandError, SshError
from infra.install.machines import Known
from infra.install.ssh import Ssh
from infra.local.layout import Layout
from infra.progress import Steps
from infra.topology import MACHINES, Machine, Topology
from tests.e2e.lab import Lab, eventually
from tests.integration.vm import own
from tests.integration.vm.own import BOOT_S

pytestmark = [pytest.mark.wide, pytest.mark.timeout(7200)]

SLOW_S = 900.0
PSS_MIB_MAX = 250  # of a control plane that is its own worker
COMPONENTS = ("podman", "server", "node", "kubelet")


@dataclass
class Host:
    """The machine, as its owner has it, and the lab on it."""

    ssh: Ssh
    machine: Machine
    key: bytes
    lab: Lab
    steps: list[str]

    def run(self, script: str) -> str:
        return self.ssh.run(["sh", "-c", script]).decode().strip()

    @property
    def known(self) -> Known:
        found = machines.load(self.lab.name)
        assert found is not None
        return found

    def wanted(self) -> vm.Wanted:
        topology = self.known.topology
        return vm.wanted(topology, topology.control_plane, pki.load(Layout(self.lab.name).pki), wheel())

    def processes(self) -> dict[str, str]:
        names = " ".join(map(units.unit_name, COMPONENTS))
        return dict(
            zip(COMPONENTS, self.run(f"systemctl show --property=MainPID --value {names}").split(), strict=True)
        )


class Told(Steps):
    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []

    def note(self, what: str) -> None:
        self.notes.append(what)


@pytest.fixture(scope="module")
def machine() -> Iterator[Host]:
    name = f"own{os.getpid()}"
    with own.booted() as made:
        address = Machine(ssh=f"root@{made.ssh.host}")
        try:
            yield Host(made.ssh, address, made.key, Lab(name, made.folder / "kubeconfig"), [])
        finally:
            shutil.rmtree(Layout(name).folder, ignore_errors=True)


def up(machine: Host) -> list[str]:
    """What was said."""
    told = Told()
    wish = Topology(name=machine.lab.name, backend=MACHINES, workers=0, machines=(machine.machine,))
    machines.up(wish, machine.lab.kubeconfig, told, machine.key)
    return told.notes


@pytest.fixture(scope="module")
def node(machine: Host) -> Host:
    machine.run(f"rm -rf {' '.join(packages.PARTS)}; hostname owner")
    machine.steps += up(machine)
    return machine


def command(host: Host, verb: str, *options: str) -> str:
    """What `sampan` itself said, on both streams."""
    key = host.lab.kubeconfig.with_name("key")
    key.write_bytes(host.key)
    key.chmod(0o600)
    line = [host.lab.program, verb, "--name", host.lab.name, "--ssh-key", str(key), *options]
    done = subprocess.run(line, capture_output=True, text=True, timeout=SLOW_S, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return " ".join(said.split())


POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "held", "labels": {"app": "held"}},
    "spec": {
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 1,
        "containers": [
            {
                "name": "main",
                "image": "busybox:1",
                "command": ["sh", "-c", "trap exit TERM; while true; do sleep 1 & wait; done"],
                "resources": {"limits": {"memory": "24Mi", "cpu": "300m"}},
            }
        ],
    },
}


@pytest.fixture(scope="module")
def held(node: Host) -> Host:
    """A pod with limits, which runs."""
    node.lab.kubectl("apply", "-f", "-", stdin=json.dumps(POD))
    node.lab.kubectl("wait", "--for=condition=Ready", "pod/held", f"--timeout={SLOW_S:.0f}s", timeout_s=SLOW_S + 10)
    return node


def test_it_is_a_node_with_what_it_lacked(node: Host) -> None:
    told = "\n".join(node.steps)
    for step in (
        "/opt/sampan/lib (",
        "/usr/share/sampan/images (",
        "user sampan",
        "starting podman, server, node, kubelet",
    ):
        assert f"control-plane-1: {step}" in told, told
    (found,) = node.lab.json("get", "nodes")["items"]
    addresses = {entry["address"] for entry in found["status"]["addresses"] if entry["type"] == "InternalIP"}
    assert node.ssh.host in addresses
    assert node.run("hostname") == "owner"  # the machine's own name is its owner's


def test_again_there_is_nothing_to_do(node: Host) -> None:
    before = node.processes()
    assert [line for line in up(node) if line.startswith("control-plane-1: ")] == []
    assert node.processes() == before


def test_the_command_finds_it_as_it_is(node: Host) -> None:
    before = node.processes()
    options = ("--backend", "machines", "--machine", node.machine.ssh, "--kubeconfig", str(node.lab.kubeconfig))
    said = command(node, "up", *options)
    assert f"Lab {node.lab.name} is up after" in said
    assert "control-plane-1: " not in said
    assert node.processes() == before
    seen = json.loads(node.lab.sampan("status", "--name", node.lab.name, "-o", "json"))
    assert [(one["name"], one["state"], one["ready"]) for one in seen["nodes"]] == [
        ("control-plane-1", "yours", "True")
    ]


def test_limits_are_the_kernels(held: Host) -> None:
    read = ("cat", "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/cpu.max")
    assert held.lab.kubectl("exec", "held", "--", *read).split() == ["25165824", "30000", "100000"]


def test_a_container_that_takes_too_much_is_oomkilled(node: Host) -> None:
    greedy = {"name": "main", "image": "busybox:1", "command": ["tail", "/dev/zero"],
              "resources": {"limits": {"memory": "24Mi"}}}  # fmt: skip
    pod = {**POD, "metadata": {"name": "greedy"}, "spec": {"restartPolicy": "Never", "containers": [greedy]}}
    node.lab.kubectl("apply", "-f", "-", stdin=json.dumps(pod))

    def ended() -> dict[str, object]:
        (status,) = node.lab.json("get", "pod", "greedy")["status"]["containerStatuses"]
        return dict(status["state"]["terminated"])

    seen = eventually(ended, "the end of the container", SLOW_S)
    assert (seen["reason"], seen["exitCode"]) == ("OOMKilled", 137)
    node.lab.kubectl("delete", "pod", "greedy", "--grace-period=1")


def test_what_it_uses_is_known(held: Host) -> None:
    def usage() -> int:
        summary = json.loads(held.lab.kubectl("get", "--raw", "/api/v1/nodes/control-plane-1/proxy/stats/summary"))
        (found,) = [pod for pod in summary["pods"] if pod["podRef"]["name"] == "held"]
        return int(found["containers"][0]["memory"]["workingSetBytes"])

    assert 0 < eventually(usage, "its memory", SLOW_S) < 24 << 20


def test_a_restart_of_all_components_leaves_containers_alone(held: Host) -> None:
    inner = "for pid in $(pgrep -f '[t]rap exit TERM'); do echo $pid; done"
    before, processes = held.run(inner), held.processes()
    held.run(f"systemctl restart {' '.join(map(units.unit_name, COMPONENTS))}")
    assert not set(held.processes().values()) & set(processes.values())
    assert held.run(inner) == before != ""
    eventually(lambda: held.lab.kubectl("exec", "held", "--", "echo", "there"), "exec in it", SLOW_S)
    assert held.lab.json("get", "pod", "held")["status"]["containerStatuses"][0]["restartCount"] == 0


def test_a_changed_setting_starts_its_component_alone_again(held: Host) -> None:
    before, wish = held.processes(), held.wanted()
    path = f"{components.ETC}/kubelet.yaml"
    files = tuple(
        replace(file, content=file.content + b"pods_max: 99\n") if file.path == path else file for file in wish.files
    )
    topology = held.known.topology
    release = wish.release.name if wish.release else ""
    made = units.units(
        topology.name, wish.node, components.processes(topology, wish.node), files, release
    )  # fmt: skip
    address = tuple(unit for unit in wish.units if unit.name == units.unit_name("address"))
    said: list[str] = []
    done = vm.install(held.ssh, replace(wish, files=files, units=(*address, *made)), said.append)
    assert done == ("configuration (kubelet.yaml, sampan-kubelet.service)", "starting kubelet")
    after = held.processes()
    assert {name for name in COMPONENTS if before[name] != after[name]} == {"kubelet"}

    def capacity() -> bool:
        (found,) = held.lab.json("get", "nodes")["items"]
        return bool(found["status"]["capacity"]["pods"] == "99")

    eventually(capacity, "the new capacity", SLOW_S)


def test_components_are_small(held: Host) -> None:
    pids = " ".join(held.processes().values())
    script = f"for pid in {pids}; do grep ^Pss: /proc/$pid/smaps_rollup; done"
    total = sum(int(line.split()[1]) for line in held.run(script).splitlines()) // 1024
    assert total <= PSS_MIB_MAX


def test_after_a_reboot_the_pod_runs_again_with_its_limits(held: Host) -> None:
    boot = held.run("cat /proc/sys/kernel/random/boot_id")
    with pytest.raises((CommandError, SshError)):
        held.run("systemctl reboot; sleep 600")
    held.ssh.close()
    held.ssh.wait(BOOT_S, print)
    assert held.run("cat /proc/sys/kernel/random/boot_id") != boot
    eventually(lambda: held.lab.kubectl("get", "--raw", "/readyz"), "the API", SLOW_S)

    def restarted() -> bool:
        (status,) = held.lab.json("get", "pod", "held")["status"]["containerStatuses"]
        return bool(status["restartCount"] >= 1 and status["ready"])

    eventually(restarted, "the pod", SLOW_S)
    assert held.lab.kubectl("exec", "held", "--", "cat", "/sys/fs/cgroup/memory.max").strip() == "25165824"


def test_it_is_its_owners_again_afterwards(held: Host) -> None:
    user = held.known.topology.control_plane.user_id
    assert f"Lab {held.lab.name} is gone." in command(held, "down")
    assert not machines.down(held.lab.name, Told(), held.key)
    assert not Layout(held.lab.name).folder.exists()
    assert "sampan" not in held.lab.kubeconfig.read_text()
    assert own.left(held.run, user) == {}
