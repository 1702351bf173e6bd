"""Packets through the proxy's rules: a node with two endpoints and a client, each a network namespace of this test.

The node's namespace runs the transactions; endpoints answer over TCP with their own address and the client's.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from orchestrator.proxy.endpoints import Here, choose
from orchestrator.proxy.ruleset import rules_of, skeleton
from orchestrator.proxy.services import Endpoint, parse_service
from orchestrator.proxy.transaction import Committed

HOSTS = {  # name: (address of each family on its link to the node, the node's address there)
    "ep1": ("10.244.1.2", "fd00:10:244:1::2", "10.244.1.1", "fd00:10:244:1::1"),
    "ep2": ("10.244.1.6", "fd00:10:244:1:1::2", "10.244.1.5", "fd00:10:244:1:1::1"),
    "client": ("192.0.2.2", "2001:db8::2", "192.0.2.1", "2001:db8::1"),
}
SERVER = r"""
import socket, sys, threading
def serve(family, address):
    server = socket.socket(family, socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6: server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    server.bind((address, 8080)); server.listen()
    sys.stdout.write("up\n"); sys.stdout.flush()
    while True:
        connection, peer = server.accept()
        connection.sendall(f"{connection.getsockname()[0]} {peer[0]}".encode()); connection.close()
threading.Thread(target=serve, args=(socket.AF_INET6, "::")).start()
serve(socket.AF_INET, "0.0.0.0")
"""
ASK = """
import socket, sys
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5) as s: print(s.recv(200).decode())
except ConnectionRefusedError: print("refused")
except TimeoutError: print("timeout")
except OSError as error: print(error)
"""
Ask = Callable[..., str]


def sh(*args: str) -> str:
    return subprocess.run(args, check=True, capture_output=True, text=True).stdout


class Net:
    """The namespaces, named by this process so that two runs do not meet."""

    def __init__(self) -> None:
        self.prefix = f"px{os.getpid() % 100000}"
        self.servers: list[subprocess.Popen[str]] = []

    def ns(self, name: str) -> str:
        return f"{self.prefix}-{name}"

    def run(self, name: str, *command: str) -> str:
        return sh("ip", "netns", "exec", self.ns(name), *command)

    def up(self) -> None:
        for name in ("node", *HOSTS):
            sh("ip", "netns", "add", self.ns(name))
            self.run(name, "ip", "link", "set", "lo", "up")
            self.run(name, "sysctl", "-qw", "net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0")
        for index, (name, (v4, v6, gateway4, gateway6)) in enumerate(HOSTS.items()):
            link = f"n{index}"
            self.run("node", "ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", self.ns(name))
            for where, device, four, six in (("node", link, gateway4, gateway6), (name, "eth0", v4, v6)):
                self.run(where, "ip", "addr", "add", f"{four}/30", "dev", device)
                self.run(where, "ip", "addr", "add", f"{six}/80", "dev", device, "nodad")
                self.run(where, "ip", "link", "set", device, "up")
            self.run(name, "ip", "route", "add", "default", "via", gateway4)
            self.run(name, "ip", "-6", "route", "add", "default", "via", gateway6)
        self.run("node", "ip", "route", "add", "default", "via", HOSTS["client"][0])
        self.run("node", "ip", "-6", "route", "add", "default", "via", HOSTS["client"][1])
        self.run("node", "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        for name in ("ep1", "ep2"):
            command = ["ip", "netns", "exec", self.ns(name), sys.executable, "-c", SERVER]
            server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            self.servers.append(server)
            assert server.stdout is not None
            assert [server.stdout.readline().strip() for _ in range(2)] == ["up", "up"]

    def down(self) -> None:
        for server in self.servers:
            server.kill()
            server.wait()
        for name in ("node", *HOSTS):
            subprocess.run(["ip", "netns", "del", self.ns(name)], check=False, capture_output=True)

    def ask(self, source: str, address: str, port: int = 80) -> list[str]:
        return self.run(source, sys.executable, "-c", ASK, address, str(port)).split()

    def commit(self, commands: list[str]) -> None:
        subprocess.run(
            ["ip", "netns", "exec", self.ns("node"), "nft", "-f", "-"],
            input="\n".join(commands),
            check=True,
            text=True,
        )


@pytest.fixture(scope="module")
def net() -> Iterator[Net]:
    made = Net()
    try:
        made.up()
        yield made
    finally:
        made.down()


@pytest.fixture
def proxy(net: Net) -> Iterator[Callable[..., None]]:
    """`proxy(spec, names)` makes the table hold one dual-stack service with these endpoints."""
    committed = Committed()
    net.commit(skeleton(["10.244.0.0/16", "fd00:10:244::/56"]))

    def sync(names: list[str], **spec: Any) -> None:
        base = {
            "type": "ClusterIP",
            "clusterIP": "10.96.0.7",
            "clusterIPs": ["10.96.0.7", "fd00:10:96::7"],
            "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30080}],
        }
        status = {"loadBalancer": {"ingress": [{"ip": address} for address in spec.pop("ingress", [])]}}
        ports = parse_service({"metadata": {"namespace": "d", "name": "web"}, "spec": base | spec, "status": status})
        wanted = {}
        for port in ports:
            addresses = [HOSTS[name][0 if port.family == "4" else 1] for name in names]
            endpoints = [Endpoint(address, 8080, "n1") for address in addresses]
            wanted[port.family] = rules_of(port, choose(port, endpoints, Here("n1")))
        net.commit(committed.change(wanted))

    yield sync
    net.commit(["delete table inet sampan-proxy"])


@pytest.mark.parametrize("family", [0, 1], ids=["ipv4", "ipv6"])
def test_cluster_ip_spreads_over_all_endpoints(net: Net, proxy: Callable[..., None], family: int) -> None:
    proxy(["ep1", "ep2"])
    address = ["10.96.0.7", "fd00:10:96::7"][family]
    found = {net.ask("client", address)[0] for _ in range(30)}
    assert found == {HOSTS["ep1"][family], HOSTS["ep2"][family]}


def test_a_pod_keeps_its_address_and_the_outside_is_masqueraded(net: Net, proxy: Callable[..., None]) -> None:
    proxy(["ep2"])
    assert net.ask("ep1", "10.96.0.7") == ["10.244.1.6", "10.244.1.2"]
    assert net.ask("client", "10.96.0.7") == ["10.244.1.6", "10.244.1.5"]
    assert net.ask("node", "10.96.0.7")[0] == "10.244.1.6", "from the node itself, through the output hook"


def test_hairpin(net: Net, proxy: Callable[..., None]) -> None:
    proxy(["ep1"])
    assert net.ask("ep1", "10.96.0.7") == ["10.244.1.2", "10.244.1.1"]
    assert net.ask("ep1", "fd00:10:96::7")[0] == "fd00:10:244:1::2"


def test_node_port_on_every_address_of_the_node(net: Net, proxy: Callable[..., None]) -> None:
    proxy(["ep1"], type="NodePort")
    assert net.ask("client", "192.0.2.1", 30080)[0] == "10.244.1.2"
    assert net.ask("client", "2001:db8::1", 30080)[0] == "fd00:10:244:1::2"
    assert net.ask("ep2", "10.244.1.5", 30080)[0] == "10.244.1.2"


def test_external_policy_local_keeps_the_client_address(net: Net, proxy: Callable[..., None]) -> None:
    proxy(["ep1"], type="NodePort", externalTrafficPolicy="Local")
    assert net.ask("client", "192.0.2.1", 30080) == ["10.244.1.2", "192.0.2.2"]


def test_source_ranges_keep_others_from_a_load_balancers_address(net: Net, proxy: Callable[..., None]) -> None:
    balancer = {"type": "LoadBalancer", "ingress": ["203.0.113.7", "2001:db8:9::7"]}
    proxy(["ep1"], **balancer, loadBalancerSourceRanges=["192.0.0.0/8", "192.0.2.0/24", "2001:db8::/32"])
    assert net.ask("client", "203.0.113.7")[0] == HOSTS["ep1"][0]
    assert net.ask("client", "2001:db8:9::7")[0] == HOSTS["ep1"][1]
    proxy(["ep1"], **balancer, loadBalancerSourceRanges=["192.0.2.0/25", "192.0.3.0/24", "2001:db8:1::/48"])
    assert net.ask("client", "203.0.113.7")[0] == HOSTS["ep1"][0]
    assert net.ask("client", "2001:db8:9::7") == ["timeout"]


def test_no_endpoint_is_refused_at_once_from_everywhere(net: Net, proxy: Callable[..., None]) -> None:
    proxy([], type="NodePort")
    for source, address, port in (
        ("client", "10.96.0.7", 80),
        ("ep1", "fd00:10:96::7", 80),
        ("node", "10.96.0.7", 80),
        ("client", "192.0.2.1", 30080),
    ):
        assert net.ask(source, address, port) == ["refused"], (source, address)


def test_a_port_that_the_service_has_not_is_refused(net: Net, proxy: Callable[..., None]) -> None:
    proxy(["ep1"])
    assert net.ask("client", "10.96.0.7", 81) == ["refused"]


def test_affinity_holds_while_endpoints_come_and_go(net: Net, proxy: Callable[..., None]) -> None:
    sticky = {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}}
    proxy(["ep1", "ep2"], **sticky)
    (first,) = {net.ask("client", "10.96.0.7")[0] for _ in range(10)}
    name = "ep1" if first == HOSTS["ep1"][0] else "ep2"
    proxy([name], **sticky)
    assert {net.ask("client", "10.96.0.7")[0] for _ in range(5)} == {first}
    proxy(["ep1", "ep2"], **sticky)
    assert {net.ask("client", "10.96.0.7")[0] for _ in range(10)} == {first}
    other = "ep2" if name == "ep1" else "ep1"
    proxy([other], **sticky)
    assert net.ask("client", "10.96.0.7")[0] == HOSTS[other][0]


async def test_no_connection_is_lost_while_endpoints_change(net: Net, proxy: Callable[..., None]) -> None:
    proxy(["ep1"])
    answers: list[list[str]] = []

    async def ask() -> None:
        for _ in range(15):
            answers.append(await asyncio.to_thread(net.ask, "client", "10.96.0.7"))

    async def change() -> None:
        for names in (["ep1", "ep2"], ["ep2"], ["ep1", "ep2"], ["ep1"]) * 4:
            await asyncio.to_thread(proxy, names)

    await asyncio.gather(ask(), change())
    assert len(answers) == 15
    assert all(len(answer) == 2 for answer in answers), answers
