"""A gateway for real: packets through its rules, to nodes and from clients that are network namespaces of this test.

The gateway's namespace has a bridge to two nodes and a link to an outside client. A child of this test runs the Gateway
in there, taking orders on standard input; each node answers on its node port with its name and the client's address.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
NODES = {"n1": ("172.29.77.11", "fd00:172:29:77::11"), "n2": ("172.29.77.12", "fd00:172:29:77::12")}
GUEST = ("172.29.77.13", "fd00:172:29:77::13")  # a machine of the nodes' network that is no node
CLIENT = ("198.51.100.2", "2001:db8:77::2")
GATEWAY = ("172.29.77.1", "fd00:172:29:77::1")
V4, V6 = "172.29.77.200", "fd00:172:29:77::200"
NODE_PORT, HEALTH_PORT = 30080, 32000
MANY = 40  # connections, each led to a node by chance: that one of two gets none happens once in 10^11
SERVER = r"""
import http.server, json, socket, sys, threading, urllib.parse
name, state = sys.argv[1], {"healthy": True}
def tcp(port):
    server = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64)
    while True:
        connection, peer = server.accept()
        connection.sendall(json.dumps([name, peer[0].removeprefix("::ffff:")]).encode()); connection.close()
def udp(port):
    server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    server.bind(("::", port))
    while True:
        _, peer = server.recvfrom(100)
        server.sendto(json.dumps([name, peer[0].removeprefix("::ffff:")]).encode(), peer)
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if state["healthy"] else 503)
        self.send_header("content-length", "0"); self.end_headers()
    def log_message(self, *_): pass
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
for port in (30080,): threading.Thread(target=tcp, args=(port,), daemon=True).start()
threading.Thread(target=udp, args=(30080,), daemon=True).start()
threading.Thread(target=Server(("::", 32000), Health).serve_forever, daemon=True).start()
print("up", flush=True)
for line in sys.stdin:
    state["healthy"] = line.strip() == "healthy"
    print("done", flush=True)
"""
GATEWAY_PROCESS = r"""
import asyncio, json, sys
from orchestrator.cloud.gateway import Gateway
from orchestrator.cloud.gateway_addresses import Range
from orchestrator.cloud.gateway_routes import GatewayRoutes
from orchestrator.cloud.gateway_rules import Place
from orchestrator.cloud.programs import PacketFilter
from orchestrator.cloud.provider import Backend, CloudError, LoadBalancer, Route, ServicePort
async def main():
    place = Place(table="gw", bridge="br0", addresses=("172.29.77.1", "fd00:172:29:77::1"),
                  networks=("172.29.77.0/24", "fd00:172:29:77::/64"))
    ranges = [Range.parse("172.29.77.200-172.29.77.202"), Range.parse("fd00:172:29:77::200-fd00:172:29:77::202")]
    gateway, routes = Gateway(place, ranges, PacketFilter()), GatewayRoutes("br0", 1024)
    def wish(fields):
        return LoadBalancer(**fields | {
            "families": tuple(fields["families"]), "held": tuple(fields.get("held", ())),
            "source_ranges": tuple(fields.get("source_ranges", ())),
            "ports": tuple(ServicePort(*one) for one in fields["ports"]),
            "backends": tuple(Backend(name, tuple(addresses)) for name, addresses in fields["backends"])})
    async def order(verb, argument):
        if verb == "restore": return await gateway.restore([wish(one) for one in argument])
        if verb == "ensure": return await gateway.ensure(wish(argument))
        if verb == "delete": return await gateway.delete(argument)
        if verb == "routes": return sorted([one.destination, one.via] for one in await routes.list())
        if verb == "route": return await routes.create(Route(*argument))
        if verb == "unroute": return await routes.delete(Route(*argument))
    work = asyncio.create_task(gateway.run())
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        try:
            print(json.dumps({"result": await order(*json.loads(line))}), flush=True)
        except CloudError as error:
            print(json.dumps({"error": str(error)}), flush=True)
    work.cancel()
asyncio.run(main())
"""
ASK = """
import json, socket, sys
address, port, kind, count = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
answers = []
for _ in range(count):
    try:
        if kind == "udp":
            with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as s:
                s.settimeout(2); s.connect((address, port)); s.send(b"?"); answers.append(json.loads(s.recv(200)))
        else:
            with socket.create_connection((address, port), timeout=2) as s: answers.append(json.loads(s.recv(200)))
    except ConnectionRefusedError: answers.append("refused")
    except TimeoutError: answers.append("timeout")
    except OSError as error: answers.append(error.strerror)
print(json.dumps(answers))
"""


TALK = """
import socket, sys
address = sys.argv[1]
s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(2); s.connect((address, 80))
for line in sys.stdin:
    try:
        s.send(b"?"); print(s.recv(200).decode(), flush=True)
    except ConnectionRefusedError: print("refused", flush=True)
    except TimeoutError: print("timeout", flush=True)
"""


def sh(*args: str, **more: Any) -> str:
    done = subprocess.run(args, check=False, capture_output=True, text=True, **more)
    assert done.returncode == 0, f"{' '.join(args)}: {done.stderr}"
    return done.stdout


class Net:
    """The namespaces, named by this process so that two runs do not meet."""

    def __init__(self) -> None:
        self.prefix = f"gw{os.getpid() % 100000}"
        self.nodes: dict[str, subprocess.Popen[str]] = {}
        self.gateway: subprocess.Popen[str] | None = None

    def ns(self, name: str) -> str:
        return f"{self.prefix}-{name}"

    def command(self, name: str, *command: str) -> list[str]:
        return ["ip", "netns", "exec", self.ns(name), *command]

    def run(self, name: str, *command: str, **more: Any) -> str:
        return sh(*self.command(name, *command), **more)

    def up(self) -> None:
        for name in ("gw", "client", "guest", *NODES):
            sh("ip", "netns", "add", self.ns(name))
            self.run(name, "ip", "link", "set", "lo", "up")
            self.run(name, "sysctl", "-qw", "net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0")
        self.run("gw", "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        self.run("gw", "ip", "link", "add", "br0", "type", "bridge", "forward_delay", "0", "stp_state", "0")
        self.address("gw", "br0", *GATEWAY)
        for number, (name, addresses) in enumerate({**NODES, "guest": GUEST}.items()):
            self.cable(f"n{number}", name)
            self.run("gw", "ip", "link", "set", f"n{number}", "master", "br0", "up")
            self.address(name, "eth0", *addresses)
            self.way_out(name, *GATEWAY)
        for name in NODES:
            self.start_node(name)
        self.cable("out", "client")
        self.address("gw", "out", "198.51.100.1", "2001:db8:77::1")
        self.address("client", "eth0", *CLIENT)
        self.way_out("client", "198.51.100.1", "2001:db8:77::1")

    def cable(self, link: str, peer: str) -> None:
        self.run("gw", "ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", self.ns(peer))

    def address(self, name: str, link: str, v4: str, v6: str) -> None:
        self.run(name, "ip", "address", "add", f"{v4}/24", "dev", link)
        self.run(name, "ip", "address", "add", f"{v6}/64", "dev", link, "nodad")
        self.run(name, "ip", "link", "set", link, "up")

    def way_out(self, name: str, v4: str, v6: str) -> None:
        self.run(name, "ip", "route", "add", "default", "via", v4)
        self.run(name, "ip", "-6", "route", "add", "default", "via", v6)

    def start_node(self, name: str) -> None:
        self.nodes[name] = self.child(name, SERVER, name)
        assert self.line(self.nodes[name]) == "up"

    def child(self, name: str, program: str, *args: str) -> subprocess.Popen[str]:
        command = self.command(name, sys.executable, "-c", program, *args)
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)

    @staticmethod
    def line(child: subprocess.Popen[str], text: str = "") -> str:
        assert child.stdin is not None and child.stdout is not None
        if text:
            child.stdin.write(text + "\n")
            child.stdin.flush()
        return child.stdout.readline().strip()

    def order(self, verb: str, argument: Any = None) -> Any:
        """To the gateway process, which is started when it is needed."""
        if self.gateway is None:
            self.gateway = self.child("gw", GATEWAY_PROCESS)
            if verb != "restore":
                self.order("restore", [])
        answer = json.loads(self.line(self.gateway, json.dumps([verb, argument])))
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["result"]

    def rules(self) -> str:
        return self.run("gw", "nft", "list", "table", "inet", "gw")

    def kill_gateway(self) -> None:
        if self.gateway is not None:
            self.gateway.kill()
            self.gateway.wait()
            self.gateway = None

    def ask(self, source: str, address: str, port: int = 80, kind: str = "tcp", count: int = 1) -> list[Any]:
        """Each answer: [node, client's address as the node saw it], "refused" or "timeout"."""
        found: list[Any] = json.loads(self.run(source, sys.executable, "-c", ASK, address, str(port), kind, str(count)))
        return found

    def down(self) -> None:
        self.kill_gateway()
        for child in self.nodes.values():
            child.kill()
            child.wait()
        for name in ("gw", "client", "guest", *NODES):
            subprocess.run(["ip", "netns", "del", self.ns(name)], check=False, capture_output=True)


def wish(name: str = "one", **more: Any) -> dict[str, Any]:
    base = {
        "name": name,
        "service": f"default/{name}",
        "families": ["IPv4", "IPv6"],
        "ports": [["TCP", 80, NODE_PORT], ["UDP", 80, NODE_PORT]],
        "backends": [[node, list(addresses)] for node, addresses in NODES.items()],
    }
    return base | more


@pytest.fixture(scope="module")
def wires() -> Iterator[Net]:
    made = Net()
    try:
        made.up()
        yield made
    finally:
        made.down()


@pytest.fixture
def net(wires: Net) -> Iterator[Net]:
    """Nothing served yet, and nothing left afterwards."""
    yield wires
    for name in ("one", "two"):
        wires.order("delete", name)
    wires.kill_gateway()


def eventually(look: Callable[[], Any], what: str, limit_s: float = 10.0) -> Any:
    deadline = time.monotonic() + limit_s
    while not (found := look()):
        assert time.monotonic() < deadline, f"{what}: not in {limit_s} s"
        time.sleep(0.05)
    return found


def nodes_of(answers: list[Any]) -> set[str]:
    return {one if isinstance(one, str) else one[0] for one in answers}


@pytest.mark.parametrize("kind", ["tcp", "udp"])
@pytest.mark.parametrize(("address", "client"), [(V4, CLIENT[0]), (V6, CLIENT[1])], ids=["ipv4", "ipv6"])
def test_a_client_outside_reaches_every_node_with_its_own_address(
    net: Net, address: str, client: str, kind: str
) -> None:
    assert net.order("ensure", wish()) == [V4, V6]
    answers = net.ask("client", address, kind=kind, count=MANY)
    assert nodes_of(answers) == {"n1", "n2"}
    assert {one[1] for one in answers} == {client}


@pytest.mark.parametrize(("address", "own"), [(V4, GATEWAY[0]), (V6, GATEWAY[1])], ids=["ipv4", "ipv6"])
def test_the_gateway_and_its_neighbours_are_clients_with_the_gateways_address(net: Net, address: str, own: str) -> None:
    net.order("ensure", wish())
    for source in ("gw", "guest"):
        answers = net.ask(source, address, count=MANY)
        assert nodes_of(answers) == {"n1", "n2"}, source
        assert {one[1] for one in answers} == {own}, source


def test_other_ports_of_its_address_lead_nowhere_not_even_to_the_gateway(net: Net) -> None:
    net.order("ensure", wish())
    listening = net.child(
        "gw", "import socket\ns = socket.create_server(('::', 22), family=socket.AF_INET6, dualstack_ipv6=True)\n"
        "print('up', flush=True)\ninput()"
    )  # fmt: skip
    try:
        assert net.line(listening) == "up"
        with_own = net.run(
            "client", sys.executable, "-c", "import socket; socket.create_connection(('198.51.100.1', 22), 2)"
        )
        assert with_own == ""
        for address in (V4, V6):
            assert net.ask("client", address, 22) == ["refused"]
            assert net.ask("gw", address, 22) == ["refused"]
    finally:
        listening.kill()
        listening.wait()


def test_source_ranges_keep_others_out(net: Net) -> None:
    net.order("ensure", wish(source_ranges=["172.29.77.0/24", "203.0.113.0/24"]))
    assert net.ask("client", V4) == ["timeout"]
    assert net.ask("client", V6) == ["timeout"]
    assert nodes_of(net.ask("gw", V4, count=MANY)) == {"n1", "n2"}
    net.order("ensure", wish(source_ranges=["198.51.100.0/24", "198.51.0.0/16", "2001:db8::/32"]))
    assert nodes_of(net.ask("client", V4, count=MANY)) == {"n1", "n2"}
    assert nodes_of(net.ask("client", V6, count=MANY)) == {"n1", "n2"}
    assert net.ask("gw", V4) == ["timeout"]


@pytest.mark.parametrize(("address", "want"), [(V4, "IPv4"), (V6, "IPv6")], ids=["ipv4", "ipv6"])
def test_a_flow_of_datagrams_ends_with_its_port_or_node(net: Net, address: str, want: str) -> None:
    """A client that keeps its socket, as a resolver does."""
    net.order("ensure", wish(families=[want], backends=[["n1", list(NODES["n1"])]]))
    talking = net.child("client", TALK, address)
    try:
        assert json.loads(net.line(talking, "?"))[0] == "n1"
        net.order("ensure", wish(families=[want], backends=[["n2", list(NODES["n2"])]]))
        assert json.loads(net.line(talking, "?"))[0] == "n2"
        net.order("ensure", wish(families=[want], ports=[["TCP", 80, NODE_PORT]]))
        assert net.line(talking, "?") == "refused"
    finally:
        talking.kill()
        talking.wait()


def test_with_affinity_a_client_stays_with_its_node(net: Net) -> None:
    net.order("ensure", wish(affinity_s=60))
    for address in (V4, V6):
        (node,) = nodes_of(net.ask("client", address, count=20))
        net.order("ensure", wish(affinity_s=60, ports=[["TCP", 80, NODE_PORT]]))
        assert nodes_of(net.ask("client", address, count=5)) == {node}


def test_a_node_without_endpoints_gets_nothing_and_without_any_it_refuses(net: Net) -> None:
    net.line(net.nodes["n1"], "unhealthy")
    try:
        net.order("ensure", wish(health_check_port=HEALTH_PORT))
        assert nodes_of(net.ask("client", V4, count=12)) == {"n2"}
        net.line(net.nodes["n2"], "unhealthy")
        for address in (V4, V6):
            eventually(lambda vip=address: net.ask("client", vip) == ["refused"], "refused")
        net.line(net.nodes["n1"], "healthy")
        eventually(lambda: nodes_of(net.ask("client", V4)) == {"n1"}, "back")
    finally:
        for child in net.nodes.values():
            net.line(child, "healthy")


def test_a_node_that_dies_is_taken_out_and_comes_back(net: Net) -> None:
    net.order("ensure", wish())
    assert nodes_of(net.ask("client", V4, count=MANY)) == {"n1", "n2"}
    net.run("n1", "ip", "link", "set", "eth0", "down")
    try:
        for address in NODES["n1"]:
            eventually(lambda gone=address: gone not in net.rules(), f"{address} is out", limit_s=12)
        assert nodes_of(net.ask("client", V4, count=16)) == {"n2"}
        assert nodes_of(net.ask("client", V6, count=16)) == {"n2"}
    finally:
        net.run("n1", "ip", "link", "set", "eth0", "up")
        net.run("n1", "ip", "address", "replace", f"{NODES['n1'][1]}/64", "dev", "eth0", "nodad")
        net.way_out("n1", *GATEWAY)
    for address in NODES["n1"]:
        eventually(lambda back=address: back in net.rules(), f"{address} is back")
    assert nodes_of(net.ask("client", V4, count=MANY)) == {"n1", "n2"}


def test_it_serves_on_while_the_controller_is_away_and_forgets_what_went_meanwhile(net: Net) -> None:
    net.order("ensure", wish())
    assert net.order("ensure", wish("two", ports=[["TCP", 81, NODE_PORT]])) == ["172.29.77.201", "fd00:172:29:77::201"]
    net.kill_gateway()
    assert nodes_of(net.ask("client", V4, count=MANY)) == {"n1", "n2"}
    net.order("restore", [wish("two", ports=[["TCP", 81, NODE_PORT]], held=["172.29.77.201", "fd00:172:29:77::201"])])
    assert net.ask("client", "172.29.77.201", 81) != ["refused"]
    shown = net.run("gw", "ip", "address", "show", "dev", "br0")
    assert V4 not in shown and V6 not in shown and "172.29.77.201/32" in shown
    assert net.order("ensure", wish()) == [V4, V6]


def test_deleted_it_leaves_nothing(net: Net) -> None:
    net.order("ensure", wish())
    net.order("delete", "one")
    shown = net.run("gw", "ip", "address", "show", "dev", "br0")
    assert V4 not in shown and V6 not in shown
    assert net.ask("gw", V4) != [["n1", GATEWAY[0]]]
    assert "dnat ip" not in net.rules() and V4 not in net.rules()


def test_what_others_undo_is_put_right(net: Net) -> None:
    net.order("ensure", wish())
    net.run("gw", "nft", "flush", "ruleset")
    net.run("gw", "ip", "address", "del", f"{V4}/32", "dev", "br0")
    eventually(lambda: nodes_of(net.ask("client", V4)) <= {"n1", "n2"}, "served again", limit_s=25)


def test_an_address_that_is_taken_says_by_whom(net: Net) -> None:
    net.order("ensure", wish())
    with pytest.raises(RuntimeError, match=r"172\.29\.77\.200 is taken by load balancer one"):
        net.order("ensure", wish("two", requested=V4))


def test_routes_are_ours_alone(net: Net) -> None:
    net.run("gw", "ip", "route", "add", "10.9.0.0/16", "via", NODES["n2"][0])
    wanted = [["10.244.1.0/24", NODES["n1"][0]], ["fd00:10:244:1::/64", NODES["n1"][1]]]
    for one in wanted:
        net.order("route", one)
        net.order("route", one)
    assert net.order("routes") == wanted
    net.order("route", ["10.244.1.0/24", NODES["n2"][0]])
    assert net.order("routes") == [["10.244.1.0/24", NODES["n2"][0]], wanted[1]]
    for one in net.order("routes"):
        net.order("unroute", one)
    assert net.order("routes") == []
    assert "10.9.0.0/16" in net.run("gw", "ip", "route")
    net.run("gw", "ip", "route", "del", "10.9.0.0/16")
