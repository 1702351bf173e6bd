"""The cloud of virtual machines against a real libvirtd: domains without an operating system, a network, a gateway.

The whole cloud controller runs in the libvirtd's own network namespace, with the files that a lab is installed with,
against a whole API server in this process, which that namespace reaches over the cable to the host.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from infra import pki
from infra.hypervisor.libvirtd import Libvirtd
from infra.install import cloud as install
from infra.topology import LIBVIRT, Topology
from orchestrator.api import conditions
from orchestrator.api.meta import Object
from orchestrator.api.resources import NODES, SERVICES
from orchestrator.client.client import Client
from orchestrator.cloud import node_plan
from orchestrator.cloud.hypervisors import Hypervisors
from orchestrator.cloud.libvirt import LibvirtConfig, LibvirtInstances, bridge_of
from orchestrator.cloud.provider import CloudError, Instance

ROOT = Path(__file__).resolve().parents[3]
LAB = "cl"
LIMIT_S = 30.0
INDEX = 30  # the highest: labs take the lowest that is free
V4, V6 = f"172.30.{INDEX}", f"fd00:172:30:{INDEX:x}:"
WORKER = 13  # of the address of worker-1: places before it are kept for control planes
MAC = "52:54:00:00:1e:0b"


def virsh(libvirtd: Libvirtd, *arguments: str, stdin: str | None = None) -> str:
    done = subprocess.run(
        ["virsh", "--quiet", "--connect", libvirtd.uri, *arguments],
        input=stdin, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"virsh {arguments}: {done.stderr}"
    return done.stdout


def define(libvirtd: Libvirtd, node: str, mac: str) -> None:
    virsh(
        libvirtd, "define", "/dev/stdin",
        stdin=f"""<domain type='qemu'><name>{LAB}-{node}</name><memory unit='MiB'>16</memory><vcpu>1</vcpu>
        <os><type arch='x86_64' machine='pc'>hvm</type></os><devices>
        <interface type='network'><mac address='{mac}'/><source network='{LAB}'/></interface></devices></domain>""",
    )  # fmt: skip


@pytest.fixture(scope="module")
def libvirtd() -> Iterator[Libvirtd]:
    folder = Path(tempfile.mkdtemp(prefix="cl-", dir="/tmp"))
    made = Libvirtd(folder / "hv", networks=(f"{V4}.0/24", f"{V6}:/64"))
    try:
        made.start()
        virsh(
            made, "net-define", "/dev/stdin",
            stdin=f"""<network><name>{LAB}</name><forward mode='open'/><bridge name='cl0' stp='off' delay='0'/>
            <dns><host ip='{V4}.{WORKER}'><hostname>worker-1</hostname></host>
            <host ip='{V6}:{WORKER:x}'><hostname>worker-1</hostname></host></dns>
            <ip address='{V4}.1' prefix='24'><dhcp><host mac='{MAC}' ip='{V4}.{WORKER}'/></dhcp></ip>
            <ip family='ipv6' address='{V6}:1' prefix='64'/></network>""",
        )  # fmt: skip
        virsh(made, "net-start", LAB)
        yield made
    finally:
        made.remove()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def worker(libvirtd: Libvirtd) -> Iterator[str]:
    define(libvirtd, "worker-1", MAC)
    virsh(libvirtd, "start", f"{LAB}-worker-1")
    yield "worker-1"
    for verb in ("destroy", "undefine"):
        subprocess.run(["virsh", "--connect", libvirtd.uri, verb, f"{LAB}-worker-1"], capture_output=True, check=False)


@pytest.fixture
async def hypervisors() -> AsyncIterator[Hypervisors]:
    made = Hypervisors()
    yield made
    await made.close()


async def test_a_domain_is_an_instance_as_long_as_it_is_defined(
    libvirtd: Libvirtd, worker: str, hypervisors: Hypervisors
) -> None:
    instances = LibvirtInstances(LAB, LibvirtConfig(uri=libvirtd.uri, zones={"worker-1": "b"}), hypervisors)
    running = Instance(
        name="worker-1",
        provider_id=f"sampan://{LAB}/worker-1",
        addresses=(("InternalIP", f"{V4}.{WORKER}"), ("InternalIP", f"{V6}:{WORKER:x}")),
        instance_type="1vcpu-16mib",
        zone="b",
        region="libvirt",
        is_shut_down=False,
    )
    assert await instances.get("worker-1", "") == running
    assert await instances.get("worker-1", running.provider_id) == running
    virsh(libvirtd, "suspend", f"{LAB}-worker-1")
    paused = await instances.get("worker-1", "")
    assert paused is not None and not paused.is_shut_down
    virsh(libvirtd, "destroy", f"{LAB}-worker-1")
    off = await instances.get("worker-1", "")
    assert off is not None and off.is_shut_down and off.addresses == running.addresses
    virsh(libvirtd, "undefine", f"{LAB}-worker-1")
    assert await instances.get("worker-1", "") is None
    assert await instances.get("worker-9", "") is None


async def test_a_libvirtd_that_is_down_proves_nothing_and_is_asked_again_when_it_is_back(
    libvirtd: Libvirtd, worker: str, hypervisors: Hypervisors, tmp_path: Path
) -> None:
    instances = LibvirtInstances(LAB, LibvirtConfig(uri=libvirtd.uri), hypervisors)
    assert await instances.get("worker-1", "") is not None
    await asyncio.to_thread(libvirtd.restart)
    assert await instances.get("worker-1", "") is not None
    nowhere = f"qemu:///system?socket={tmp_path}/none"
    with pytest.raises(CloudError, match=r"libvirt at qemu:///system.*none"):
        await LibvirtInstances(LAB, LibvirtConfig(uri=nowhere), hypervisors).get("worker-1", "")
    elsewhere = LibvirtConfig(uri=nowhere, uris={"worker-1": libvirtd.uri})
    assert await LibvirtInstances(LAB, elsewhere, hypervisors).get("worker-1", "") is not None


async def test_the_bridge_is_the_networks(libvirtd: Libvirtd, hypervisors: Hypervisors) -> None:
    assert await bridge_of(hypervisors, libvirtd.uri, LAB) == "cl0"
    with pytest.raises(CloudError, match="no-such"):
        await bridge_of(hypervisors, libvirtd.uri, "no-such")


# -- the whole controller ----------------------------------------------------------------------------------------------


API = r"""
import asyncio, json, sys
from msgspec.structs import replace
from pathlib import Path
from infra import pki
from infra.topology import LIBVIRT, Topology
from orchestrator.apiserver.access import AccessConfig
from orchestrator.apiserver.main import Config, running
folder, address = Path(sys.argv[1]), sys.argv[2]
async def main():
    keys = folder / "pki"
    config = Config(
        advertise_address=address, bind_addresses=(address,), port=6443, store_path=str(folder / "store.db"),
        tls_certificate_file=str(keys / "apiserver.crt"), tls_key_file=str(keys / "apiserver.key"),
        client_ca_file=str(keys / "ca.crt"),
        access=AccessConfig(service_account_signing_key_file=str(keys / "sa.key")),
    )
    async with running(config):
        print("up", flush=True)
        await asyncio.get_running_loop().create_future()
asyncio.run(main())
"""
NODE = r"""
import socket, sys, threading
def serve(port):
    server = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
    while True:
        connection, peer = server.accept()
        connection.sendall(peer[0].removeprefix("::ffff:").encode()); connection.close()
for port in map(int, sys.argv[1:]): threading.Thread(target=serve, args=(port,)).start()
print("up", flush=True)
"""


class Vm:
    """What stands for the machine's network: a namespace on the lab's bridge, with the addresses of worker-1, in which
    the control plane's API server and the answering node port run."""

    def __init__(self, libvirtd: Libvirtd, folder: Path) -> None:
        self.libvirtd, self.folder = libvirtd, folder
        self.name = f"vm-{os.getpid() % 100000}"
        self.children: list[subprocess.Popen[str]] = []

    def up(self, topology: Topology) -> None:
        pki.ensure(self.folder / "pki", topology)
        sh("ip", "netns", "add", self.name)
        sh(
            *("ip", "-netns", self.libvirtd.netns, "link", "add", "vm0", "master", "cl0", "type", "veth"),
            *("peer", "name", "eth0", "netns", self.name),
        )
        sh("ip", "-netns", self.libvirtd.netns, "link", "set", "vm0", "up")
        inside = ("ip", "-netns", self.name)
        for link in ("lo", "eth0"):
            sh(*inside, "link", "set", link, "up")
        for number in (10, WORKER):
            sh(*inside, "address", "add", f"{V4}.{number}/24", "dev", "eth0")
            sh(*inside, "address", "add", f"{V6}:{number:x}/64", "dev", "eth0", "nodad")
        sh(*inside, "route", "add", "default", "via", f"{V4}.1")
        sh(*inside, "-6", "route", "add", "default", "via", f"{V6}:1")
        self.start("ip", "netns", "exec", self.name, sys.executable, "-c", API, str(self.folder), topology.server[8:-5])

    def start_controller(self, topology: Topology) -> None:
        settings = install.libvirt_settings(topology, self.libvirtd.uri)
        for file in install.files(topology, pki.load(self.folder / "pki"), self.folder, settings):
            Path(file.path).write_bytes(file.content)
        config = str(self.folder / "cloud-controller.yaml")
        program = (sys.executable, "-m", "orchestrator.cli", "cloud-controller", "--config", config)
        self.start("ip", "netns", "exec", self.libvirtd.netns, *program, log=self.folder / "cloud-controller.log")

    def start(self, *command: str, log: Path | None = None) -> None:
        output = log.open("w") if log else subprocess.PIPE
        child = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT if log else None, text=True, cwd=ROOT)
        self.children.append(child)
        if log is None:
            assert child.stdout is not None and child.stdout.readline() == "up\n"

    def down(self) -> None:
        for child in reversed(self.children):
            child.terminate()
            child.wait(20)
        sh("ip", "netns", "del", self.name)


def sh(*command: str) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


async def eventually(look: Callable[[], Awaitable[bool]], what: str) -> None:
    try:
        async with asyncio.timeout(LIMIT_S):
            while not await look():
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"{what}: not in {LIMIT_S} s") from None


async def test_the_whole_controller_in_the_hypervisors_network(libvirtd: Libvirtd, worker: str, tmp_path: Path) -> None:
    topology = Topology(name=LAB, backend=LIBVIRT, index=INDEX, workers=1)
    assert topology.node(worker).address_v4 == f"{V4}.{WORKER}"
    vm = Vm(libvirtd, tmp_path)
    try:
        vm.up(topology)
        admin = tmp_path / "admin.kubeconfig"
        admin.write_text(pki.kubeconfig(tmp_path / "pki", topology.server, "admin", cluster="c", user="u"))
        vm.start_controller(topology)
        client = Client.from_kubeconfig(admin)
        try:
            await live(client, vm, worker)
        finally:
            await client.close()
    finally:
        vm.down()


async def live(client: Client, vm: Vm, worker: str) -> None:
    """A node registers and is completed; a service is served and goes; the machine is switched off, then gone."""
    taint = {"key": node_plan.UNINITIALIZED, "value": "true", "effect": "NoSchedule"}
    cidrs = ["10.244.1.0/24", "fd00:10:244:1::/64"]
    spec = {"taints": [taint], "podCIDR": cidrs[0], "podCIDRs": cidrs}
    await client.create(NODES, {"metadata": {"name": worker}, "spec": spec})

    async def node() -> Object:
        return await client.get(NODES, worker)

    async def is_complete() -> bool:
        found = await node()
        told = [entry["address"] for entry in found["status"].get("addresses") or ()]
        network = conditions.find(found["status"].get("conditions"), "NetworkUnavailable")
        has_routes = network is not None and network["status"] == "False"
        return not node_plan.has_taint(found, node_plan.UNINITIALIZED) and len(told) == 2 and has_routes

    await eventually(is_complete, "the node is completed")
    routes = sh("ip", "netns", "exec", vm.libvirtd.netns, "ip", "route", "show", "dev", "cl0")
    assert f"10.244.1.0/24 via {V4}.{WORKER} proto 84 metric {1024 + INDEX}" in routes

    ports = [{"port": 80, "targetPort": 80}]
    service = {"type": "LoadBalancer", "ipFamilyPolicy": "SingleStack", "selector": {"a": "b"}, "ports": ports}
    made = await client.create(SERVICES, {"metadata": {"name": "web", "namespace": "default"}, "spec": service})
    vm.start("ip", "netns", "exec", vm.name, sys.executable, "-c", NODE, str(made["spec"]["ports"][0]["nodePort"]))

    async def is_told() -> bool:
        found = (await client.get(SERVICES, "web", "default"))["status"]["loadBalancer"].get("ingress") or []
        return [entry["ip"] for entry in found] == [f"{V4}.200"]

    async def is_served() -> bool:
        return ask(f"{V4}.200") not in ("", f"{V4}.1")  # from the host, with its own address

    async def is_refused() -> bool:
        return ask(f"{V4}.200") == ""

    await eventually(is_told, "the service has its address")
    await eventually(is_served, "the host reaches it")
    await client.delete(SERVICES, "web", "default")
    await eventually(is_refused, "it is gone")

    async def is_tainted() -> bool:
        return node_plan.has_taint(await node(), node_plan.SHUTDOWN)

    async def is_gone() -> bool:
        return not (await client.list(NODES)).items

    virsh(vm.libvirtd, "destroy", f"{LAB}-{worker}")
    await eventually(is_tainted, "a machine that is off is tainted")
    virsh(vm.libvirtd, "undefine", f"{LAB}-{worker}")
    await eventually(is_gone, "the node of a machine that is gone goes")


def ask(address: str) -> str:
    """What answers there, which is our own address as seen by the node; nothing where nobody does."""
    try:
        with socket.create_connection((address, 80), timeout=2) as connection:
            return connection.recv(200).decode()
    except OSError:
        return ""
