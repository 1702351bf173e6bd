"""A lab that outgrows its hypervisor: the worker's machine is another libvirtd's, in a network namespace of its own.

The cable between the two bridges is the owner's work, as labs/cluster/README.md says: VXLAN over an IP network, which
is a pair of veth here.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra.hypervisor.libvirtd import Libvirtd
from infra.libvirt.arguments import bridge
from tests.e2e.lab import eventually, run
from tests.e2e.vm.machines import VmLab, leftovers, netns
from tests.integration.own_libvirtd import own_libvirtd

pytestmark = [pytest.mark.wide, pytest.mark.timeout(3600)]
NODES = ("control-plane-1", "worker-1")
ROAD = ("192.168.77.1", "192.168.77.2")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[VmLab]:
    made = VmLab(f"two{os.getpid()}", tmp_path / "kubeconfig")
    try:
        yield made
    finally:
        made.sampan("down", "--name", made.name, timeout_s=900)


@pytest.fixture
def second(lab: VmLab) -> Iterator[Libvirtd]:
    """Ends before the lab goes: `down` is the test's own."""
    with own_libvirtd() as made:
        yield made


def ip(namespace: str, *arguments: str) -> None:
    run("ip", *(("-netns", namespace) if namespace else ()), *arguments)


@contextmanager
def joined(lab: VmLab, second: Libvirtd) -> Iterator[None]:
    """A road between the two, and over it the cable between the lab's bridges, word by word as the README has it."""
    name, first = bridge(lab.topology), netns(lab)
    near, far, cable = f"near{os.getpid() % 100000}", f"far{os.getpid() % 100000}", f"cable{os.getpid() % 100000}"
    ip(second.netns, "link", "add", name, "type", "bridge")
    ip(second.netns, "link", "set", name, "up")
    ip("", "link", "add", near, "type", "veth", "peer", "name", far, "netns", second.netns)
    ends = (("", near, ROAD[0], ROAD[1], first), (second.netns, far, ROAD[1], ROAD[0], second.netns))
    for namespace, link, here, there, inner in ends:
        ip(namespace, "address", "add", f"{here}/30", "dev", link)
        ip(namespace, "link", "set", link, "up")
        vxlan = ("type", "vxlan", "id", "30", "dstport", "4789", "local", here, "remote", there)
        ip(namespace, "link", "add", cable, *vxlan)
        if inner != namespace:
            ip(namespace, "link", "set", cable, "netns", inner)
        ip(inner, "link", "set", cable, "mtu", "1500", "master", name, "up")
    try:
        yield
    finally:
        ip(first, "link", "delete", cable)  # all else goes with the second one's namespace


def pod(node: str) -> dict[str, object]:
    containers = [
        {"name": "web", "image": "nginx:1"},
        {"name": "client", "image": "busybox:1", "command": ["sleep", "100000"]},
    ]
    spec = {"nodeName": node, "tolerations": [{"operator": "Exists"}], "containers": containers}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": node}, "spec": spec}


def listed(libvirtd: Libvirtd, what: str) -> list[str]:
    command = ["virsh", "--quiet", "--connect", libvirtd.uri, what, "--all", "--name"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def test_a_worker_on_another_hypervisor(lab: VmLab, second: Libvirtd) -> None:
    lab.up("--backend", "libvirt", "--workers", "0")
    with joined(lab, second):
        grows_and_goes(lab, second)


def grows_and_goes(lab: VmLab, second: Libvirtd) -> None:
    lab.configure('hypervisors["worker-1"]', second.uri)
    said = lab.up("--workers", "1").replace("\n", " ")
    assert "node worker-1 is Ready" in said
    assert "machine control-plane-1" not in said
    topology = lab.topology
    assert listed(second, "list") == [f"{lab.name}-worker-1"]
    assert f"{lab.name}-worker-1" not in lab.virsh("list", "--all", "--name")
    nodes = {node["metadata"]["name"]: node for node in lab.json("get", "nodes")["items"]}
    assert set(nodes) == set(NODES)
    assert nodes["worker-1"]["spec"]["providerID"] == f"sampan://{lab.name}/worker-1"

    for node in NODES:
        lab.kubectl("apply", "-f", "-", stdin=json.dumps(pod(node)))
    lab.kubectl("wait", "--for=condition=Ready", *(f"pod/{node}" for node in NODES), "--timeout=300s", timeout_s=310)
    for here, there in (NODES, NODES[::-1]):
        for entry in lab.json("get", "pod", there)["status"]["podIPs"]:
            address = entry["ip"]
            url = f"http://[{address}]" if ":" in address else f"http://{address}"
            wget = ("exec", here, "-c", "client", "--", "timeout", "5", "wget", "-qO-", url)
            eventually(lambda asked=wget: "nginx" in lab.kubectl(*asked), f"{url} from {here}", timeout_s=120)
    assert "is Ready" not in lab.up()

    lab.sampan("down", "--name", lab.name, timeout_s=900)
    assert leftovers(lab, topology) == []
    assert [listed(second, what) for what in ("list", "net-list", "pool-list")] == [[], [], []]
