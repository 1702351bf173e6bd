"""A lab on two machines that somebody has, by the command: nothing is made, and nothing is left on them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.install import machines
from infra.install.ssh import Ssh
from infra.libvirt import keys
from infra.local.layout import Layout
from tests.e2e.lab import Lab, eventually
from tests.integration.vm import own

pytestmark = [pytest.mark.wide, pytest.mark.timeout(7200)]

UP_TIMEOUT_S = 3600.0
SERVED_S = 900.0
# These machines are of our image, which brings libraries in a folder of ours; it goes with the rest (`own.left`).
LOOK = "ls -A /etc/systemd/system; ls -A /opt | grep -v -x sampan; nft list ruleset"
TWO_OF_THEM = """\
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      tolerations: [{operator: Exists}]
      containers: [{name: web, image: "nginx:1"}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80}]
"""


@dataclass
class Machines:
    """Two hosts, control plane first, and the lab on them."""

    ssh: list[Ssh]
    key: Path
    lab: Lab

    @property
    def options(self) -> list[str]:
        return [option for each in self.ssh for option in ("--machine", f"root@{each.host}")]

    def sampan(self, verb: str, *options: str) -> str:
        """What it said, on both streams."""
        line = [self.lab.program, verb, "--name", self.lab.name, "--ssh-key", str(self.key), *options]
        done = subprocess.run(line, capture_output=True, text=True, timeout=UP_TIMEOUT_S, check=False)
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        return " ".join(said.split())

    def up(self, *machines: str) -> str:
        options = machines or self.options
        return self.sampan("up", "--backend", "machines", "--kubeconfig", str(self.lab.kubeconfig), *options)

    def processes(self) -> list[str]:
        """Of each machine, what systemd runs for the lab."""
        return [run(ssh, "systemctl show --property=Id,MainPID 'sampan-*.service'") for ssh in self.ssh]

    def addresses(self, node: str) -> list[str]:
        """Of the web server's pod on that node, in both families."""
        found = self.lab.json("get", "pods", "-l", "app=web", f"--field-selector=spec.nodeName={node}")["items"]
        return [each["ip"] for each in found[0]["status"]["podIPs"]]


def run(ssh: Ssh, script: str) -> str:
    return ssh.run(["sh", "-c", script]).decode().strip()


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Machines]:
    user = keys.ssh_pair()
    key = tmp_path / "key"
    key.write_bytes(user["ssh"])
    key.chmod(0o600)
    lab = Lab(f"hosts{os.getpid()}", tmp_path / "kubeconfig")
    with own.site(workers=1) as site, ThreadPoolExecutor() as pool:
        reached = [site.start(node, user=user)[0] for node in site.place.nodes]
        list(pool.map(lambda each: each.wait(own.BOOT_S, print), reached))
        try:
            yield Machines(reached, key, lab)
        finally:
            for each in reached:
                each.close()
            shutil.rmtree(Layout(lab.name).folder, ignore_errors=True)


def test_two_machines_are_a_cluster_and_afterwards_their_owners(hosts: Machines) -> None:
    lab = hosts.lab
    before = [run(ssh, LOOK) for ssh in hosts.ssh]
    said = hosts.up()
    assert f"Lab {lab.name} is up" in said
    assert lab.nodes() == ["control-plane-1", "worker-1"]
    lab.kubectl("apply", "-f", "-", stdin=TWO_OF_THEM)
    lab.kubectl("rollout", "status", "daemonset/web", f"--timeout={SERVED_S:.0f}s", timeout_s=SERVED_S + 10)
    there, here = hosts.addresses("control-plane-1"), run(hosts.ssh[1], "cat /proc/sys/kernel/random/boot_id")
    for address in [*there, lab.json("get", "service", "web")["spec"]["clusterIP"]]:
        place = f"[{address}]" if ":" in address else address
        command = f"python3 -c \"import urllib.request as u; print(u.urlopen('http://{place}', timeout=9).status)\""
        eventually(lambda command=command: run(hosts.ssh[1], command) == "200", f"{address} from the worker", SERVED_S)

    known, processes = machines.load(lab.name), hosts.processes()
    assert known is not None
    again = hosts.up()
    assert "control-plane-1: " not in again
    assert "worker-1: " not in again
    assert hosts.processes() == processes
    assert run(hosts.ssh[1], "cat /proc/sys/kernel/random/boot_id") == here

    hosts.up("--machine", f"root@{hosts.ssh[0].host}")
    assert lab.nodes() == ["control-plane-1"]
    worker = known.topology.nodes[1]
    assert own.left(lambda script: run(hosts.ssh[1], script), worker.user_id) == {}
    assert hosts.up(*hosts.options).count("worker-1: ") > 0
    eventually(lambda: hosts.addresses("worker-1"), "the pod on the worker that came back", SERVED_S)

    assert f"Lab {lab.name} is gone." in hosts.sampan("down")
    for ssh, node in zip(hosts.ssh, known.topology.nodes, strict=True):
        assert own.left(lambda script, ssh=ssh: run(ssh, script), node.user_id) == {}
    assert [run(ssh, LOOK) for ssh in hosts.ssh] == before
    assert not Layout(lab.name).folder.exists()
