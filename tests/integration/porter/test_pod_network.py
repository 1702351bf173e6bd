"""Two nodes and their pods, each a network namespace of this test, each node with a porter process of its own: real CNI
plugins, real nftables, real packets of both families."""

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.images import cache

NODES = {"n1": ("172.29.200.1", "fd00:172:29:c8::1"), "n2": ("172.29.200.2", "fd00:172:29:c8::2")}
CIDRS = {"n1": ["10.244.1.0/24", "fd00:10:244:1::/64"], "n2": ["10.244.2.0/24", "fd00:10:244:2::/64"]}
USER = "nobody"
WAIT_S = 15

# Answers on 8080 with the client's address, TCP and UDP; on 9090 at localhost alone.
SERVER = r"""
import socket, threading
def tcp(address, port, family):
    server = socket.create_server((address, port), family=family, dualstack_ipv6=not address)
    while True:
        connection, peer = server.accept()
        connection.sendall(peer[0].removeprefix("::ffff:").encode()); connection.close()
def udp():
    server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); server.bind(("::", 8080))
    while True:
        data, peer = server.recvfrom(100); server.sendto(peer[0].removeprefix("::ffff:").encode(), peer)
threading.Thread(target=udp).start()
threading.Thread(target=tcp, args=("127.0.0.1", 9090, socket.AF_INET)).start()
tcp("", 8080, socket.AF_INET6)
"""
ASK = """
import socket, sys, time
end = time.time() + 3
while True:
    try:
        with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=1) as s: print(s.recv(200).decode())
        break
    except OSError as error:
        if time.time() > end or "no-retry" in sys.argv: print(type(error).__name__); break
        time.sleep(0.02)
"""


def plugin_dir() -> str:
    """Debian's plugins, where they are installed or in a node image that was built here."""
    places = [Path("/usr/lib/cni"), *sorted(cache.folder().glob("node-*/tree/usr/lib/cni"))]
    return str(next(place for place in places if (place / "bridge").exists()))


def sh(*args: str, **options: Any) -> str:
    return subprocess.run(args, check=True, capture_output=True, text=True, **options).stdout


class Lab:
    """The namespaces, porters and infra processes of one test module."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.prefix = f"po{os.getpid() % 100000}"
        self.processes: list[subprocess.Popen[bytes]] = []
        self.porters: dict[str, subprocess.Popen[bytes]] = {}
        self.specs: dict[str, dict[str, Any]] = {}

    def ns(self, node: str) -> str:
        return f"/run/netns/{self.prefix}-{node}"

    def inside(self, where: str | int, *command: str) -> list[str]:
        net = f"--net={self.ns(where)}" if isinstance(where, str) else f"--net=/proc/{where}/ns/net"
        return ["nsenter", net, *command]

    def up(self) -> None:
        for node in NODES:
            sh("ip", "netns", "add", f"{self.prefix}-{node}")
            sh(*self.inside(node, "ip", "link", "set", "lo", "up"))
        sh(
            *self.inside("n1", "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns",
                         f"{self.prefix}-n2")
        )  # fmt: skip
        for node, (four, six) in NODES.items():
            sh(*self.inside(node, "ip", "addr", "add", f"{four}/24", "dev", "eth0"))
            sh(*self.inside(node, "ip", "addr", "add", f"{six}/64", "dev", "eth0", "nodad"))
            sh(*self.inside(node, "ip", "link", "set", "eth0", "up"))
            self.start_porter(node)

    def start_porter(self, node: str) -> None:
        here = self.folder / node
        here.mkdir(exist_ok=True)
        (here / "pods").mkdir(exist_ok=True)
        config = {
            "node_name": node,
            "socket": str(here / "porter.sock"),
            "kubelet_user": USER,
            "pods_dir": str(here / "pods"),
            "cni": {
                "config_dir": str(here / "net.d"),
                "plugin_dirs": [plugin_dir()],
                "data_dir": str(here / "networks"),
                "state_dir": str(here / "state"),
            },
        }
        nodes = [
            {
                "metadata": {"name": name, "uid": name, "resourceVersion": "1"},
                "spec": {"podCIDRs": CIDRS[name]},
                "status": {"addresses": [{"type": "InternalIP", "address": address} for address in NODES[name]]},
            }
            for name in NODES
        ]
        pods = [
            {"metadata": {"name": name, "namespace": "d", "uid": f"{node}-{name}", "resourceVersion": "1"}, "spec": {}}
            for name in ("a", "b", "c")
        ]
        (here / "given.json").write_text(json.dumps({"config": config, "objects": {"pods": pods, "nodes": nodes}}))
        program = str(Path(__file__).with_name("porter_process.py"))
        self.porters[node] = subprocess.Popen(
            self.inside(node, "unshare", "-m", sys.executable, program, str(here / "given.json")),
            env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[3])},
        )
        self.wait(lambda: (here / "net.d" / "10-sampan.conflist").exists() and (here / "porter.sock").exists())
        self.wait(lambda: len(sh(*self.inside(node, "ip", "-6", "route", "show", "proto", "83")).splitlines()) == 2)

    def wait(self, is_so: Any) -> None:
        end = time.monotonic() + WAIT_S
        while not is_so():
            assert time.monotonic() < end, "not in time"
            time.sleep(0.01)

    def kill_porter(self, node: str) -> None:
        self.porters[node].kill()
        self.porters[node].wait()
        (self.folder / node / "porter.sock").unlink()  # what a killed process leaves; the next one would replace it

    def pod(self, node: str) -> int:
        """An infra process as the kubelet's user would have it: a network namespace of its own, nothing in it."""
        entry = pwd.getpwnam(USER)
        who = ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups"]
        command = ["unshare", "-n", *who, "/usr/bin/python3", "-c", SERVER]
        process = subprocess.Popen(self.inside(node, *command))
        self.processes.append(process)
        nodes_own = Path(self.ns(node)).stat().st_ino
        self.wait(lambda: Path(f"/proc/{process.pid}/ns/net").stat().st_ino != nodes_own)
        self.wait(lambda: Path(f"/proc/{process.pid}/cmdline").read_bytes().startswith(b"/usr/bin/python3"))
        return process.pid

    def call(self, node: str, verb: str, **arguments: Any) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.folder / node / "porter.sock"))
            connection.sendall(json.dumps({"verb": verb, **arguments}).encode() + b"\n")
            data, self.descriptors, _, _ = socket.recv_fds(connection, 65536, 4)
            while not data.endswith(b"\n"):
                data += connection.recv(65536)
        answer: dict[str, Any] = json.loads(data)
        return answer

    def attach(self, node: str, name: str, pid: int, ports: list[dict[str, Any]] | None = None) -> list[str]:
        answer = self.call(
            node, "pod.attach", uid=f"{node}-{name}", pod=f"d/{name}", namespace="d", name=name, pid=pid,
            ports=ports or [],
        )  # fmt: skip
        assert answer["ok"], answer
        return list(answer["result"]["ips"])

    def detach(self, node: str, name: str) -> None:
        assert self.call(node, "pod.detach", uid=f"{node}-{name}", namespace="d", name=name)["ok"]

    def ask(self, where: str | int, address: str, port: int = 8080, *flags: str) -> str:
        return sh(*self.inside(where, "/usr/bin/python3", "-c", ASK, address, str(port), *flags)).strip()

    def down(self) -> None:
        for process in [*self.porters.values(), *self.processes]:
            process.send_signal(signal.SIGKILL)
            process.wait()
        for node in NODES:
            subprocess.run(["ip", "netns", "del", f"{self.prefix}-{node}"], check=False, capture_output=True)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    made = Lab(tmp_path_factory.mktemp("porter"))
    try:
        made.up()
        yield made
    finally:
        made.down()
        shutil.rmtree(made.folder, ignore_errors=True)


def test_pods_reach_each_other_on_both_families_with_their_own_addresses(lab: Lab) -> None:
    here, neighbour, far = lab.pod("n1"), lab.pod("n1"), lab.pod("n2")
    addresses = {
        here: lab.attach("n1", "a", here),
        neighbour: lab.attach("n1", "b", neighbour),
        far: lab.attach("n2", "a", far),
    }
    for source, target in ((here, neighbour), (here, far), (far, here)):
        for family in (0, 1):
            assert lab.ask(source, addresses[target][family]) == addresses[source][family]
    for family in (0, 1):
        assert lab.ask("n1", addresses[here][family]), "the node reaches its pods: probes do"
    assert lab.attach("n1", "a", here) == addresses[here], "attaching again changes nothing"
    assert lab.call("n1", "pod.check", uid="n1-a")["ok"]
    for node, name in (("n1", "a"), ("n1", "b"), ("n2", "a")):
        lab.detach(node, name)
        lab.detach(node, name)
    assert not list((lab.folder / "n1" / "networks" / "sampan").glob("10.*")), "addresses are free again"


def test_host_ports(lab: Lab) -> None:
    pid = lab.pod("n1")
    ports = [
        {"hostPort": 80, "containerPort": 8080, "protocol": "TCP"},
        {"hostPort": 81, "containerPort": 8080, "protocol": "TCP", "hostIP": NODES["n1"][0]},
    ]
    ips = lab.attach("n1", "a", pid, ports)
    four, six = NODES["n1"]
    assert lab.ask("n2", four, 80) == NODES["n2"][0], "the client's own address arrives"
    assert lab.ask("n2", six, 80) == NODES["n2"][1]
    assert lab.ask("n2", four, 81) == NODES["n2"][0]
    assert lab.ask("n2", six, 81, "no-retry") == "ConnectionRefusedError"
    assert lab.ask("n1", "127.0.0.1", 80), "localhost of the node"
    assert lab.ask(pid, four, 80), "hairpin: the pod reaches itself"
    refused = lab.call("n1", "pod.attach", uid="n1-b", namespace="d", name="b", pid=lab.pod("n1"), ports=ports[:1])
    assert refused["error"] == "host port 80/TCP is taken by pod d/a"
    lab.detach("n1", "a")
    assert lab.ask("n2", four, 80, "no-retry") == "ConnectionRefusedError"
    assert ips


def test_pods_leave_the_cluster_with_the_nodes_address(lab: Lab) -> None:
    pid = lab.pod("n1")
    lab.attach("n1", "a", pid)
    sh(*lab.inside("n2", "ip", "addr", "add", "198.51.100.1/32", "dev", "lo"))
    sh(*lab.inside("n2", "ip", "addr", "add", "2001:db8::1/128", "dev", "lo"))
    sh(*lab.inside("n1", "ip", "route", "replace", "default", "via", NODES["n2"][0]))
    sh(*lab.inside("n1", "ip", "-6", "route", "replace", "default", "via", NODES["n2"][1]))
    outside = subprocess.Popen(lab.inside("n2", "/usr/bin/python3", "-c", SERVER))
    lab.processes.append(outside)
    assert lab.ask(pid, "198.51.100.1") == NODES["n1"][0]
    assert lab.ask(pid, "2001:db8::1") == NODES["n1"][1]
    assert lab.ask(pid, NODES["n2"][0]).startswith("10.244.1."), "another node is inside the cluster"
    outside.kill()
    lab.detach("n1", "a")


def test_localhost_of_a_pod_is_handed_out_connected(lab: Lab) -> None:
    pid = lab.pod("n1")
    lab.attach("n1", "a", pid)
    lab.wait(lambda: lab.call("n1", "pod.connect", uid="n1-a", port=9090)["ok"])
    with socket.socket(fileno=lab.descriptors[0]) as connection:
        assert connection.recv(100) == b"127.0.0.1"
    answer = lab.call("n1", "pod.connect", uid="n1-a", port=1)
    assert "Connection refused" in answer["error"]
    lab.detach("n1", "a")


def test_a_killed_porter_goes_on_where_it_was(lab: Lab) -> None:
    first, second = lab.pod("n1"), lab.pod("n1")
    ips = lab.attach("n1", "a", first, [{"hostPort": 80, "containerPort": 8080}])
    lab.kill_porter("n1")
    assert lab.ask("n2", NODES["n1"][0], 80), "packets do not need the porter"
    lab.start_porter("n1")
    assert lab.attach("n1", "a", first) == ips
    assert lab.ask("n2", NODES["n1"][0], 80)
    lab.attach("n1", "a", second)  # the pod was made anew: the old attachment is released
    assert len(list((lab.folder / "n1" / "networks" / "sampan").glob("10.*"))) == 1
    lab.detach("n1", "a")


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        pytest.param({"uid": "n2-a"}, "no pod with uid n2-a is bound to node n1", id="a-pod-of-another-node"),
        pytest.param({"name": "b"}, "uid n1-a is pod d/a, not d/b", id="another-name"),
        pytest.param({"pid": os.getpid()}, "not to a container of this node's kubelet", id="a-process-of-root"),
        pytest.param({"pid": 2**22 + 1}, "is gone", id="no-process"),
    ],
)
def test_refused(lab: Lab, arguments: dict[str, Any], fault: str) -> None:
    wish = {"uid": "n1-a", "namespace": "d", "name": "a", "pid": 1} | arguments
    assert fault in lab.call("n1", "pod.attach", **wish)["error"]


def test_a_volume_in_memory_comes_and_goes(lab: Lab) -> None:
    folder = lab.folder / "n1" / "pods"
    assert "has no volume" in lab.call("n1", "volume.mount", uid="n1-a", name="v", kind="tmpfs")["error"]
    (folder / "n1-a" / "x").mkdir(parents=True)
    assert lab.call("n1", "volume.own", uid="n1-a", path=f"{folder}/n1-a/x", mode=0o700)["ok"]
    assert (folder / "n1-a" / "x").stat().st_mode & 0o777 == 0o700
    (folder / "n1-a" / "out").symlink_to("/etc")
    assert not lab.call("n1", "volume.own", uid="n1-a", path=f"{folder}/n1-a/out/passwd", mode=0o777)["ok"]
    assert lab.call("n1", "pod.purge", uid="n1-a")["ok"]
    assert list(folder.iterdir()) == []
