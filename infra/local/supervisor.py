"""The supervisor of one lab: keeps its nodes powered on and their components running, and answers on a unix socket.

It runs in the node image (root changed to it, with the host's root at /mnt) and in the host's network,
single-threaded and without a loop library, because it forks: a component is a fork of this process, which has
imported everything that components need, moved into its node. It survives the `sampan` command that started it, and
ends with `shutdown` or a kill; the lab's control groups then tell what is left.
Protocol: one JSON object a line each way, {"verb": …} -> {"ok": true, "result": …} | {"ok": false, "error": "…"}; verbs
are the methods named `do_…`.
"""

from __future__ import annotations

import gc
import importlib
import json
import logging
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra.local import boot, cgroups, entering, network, rootfs, syscalls
from infra.local.layout import HOST_NODE, Layout, inside
from infra.local.restarts import Restarts
from infra.topology import Node, Topology
from orchestrator.cli import importing

log = logging.getLogger("sampan.supervisor")

REQUEST_BYTES_MAX = 1 << 20
IDLE_S = 3600.0
IMAGE_IDS = 65_536  # ids that files of the shared container images have
# What components import and what costs time or memory to import: paid once, here. A missing one is not our business.
PRELOADED = (
    "aiohttp", "aiohttp.web", "asyncio", "cryptography.hazmat.primitives.asymmetric.ec", "cryptography.x509", "dnslib",
    "jinja2", "msgspec", "numpy", "orjson", "prometheus_client", "pyroute2", "sqlite3", "uvloop", "yaml",
    "orchestrator.cli.app", "orchestrator.cli.combined", "orchestrator.client.network",
    "orchestrator.apiserver.main", "orchestrator.scheduler.main", "orchestrator.controllers.main",
    "orchestrator.kubelet.main", "orchestrator.porter.main", "orchestrator.proxy.main", "orchestrator.dns.main",
    "orchestrator.cloud.main",
)  # fmt: skip


@dataclass
class Component:
    """A supervised process of a node, or of the host (HOST_NODE): `arguments` for our own program, or a command of the
    image (absolute path)."""

    node: str
    name: str
    user: str  # root, sampan, or another account of the image as `uid:gid`
    arguments: tuple[str, ...]
    restarts: Restarts = field(default_factory=Restarts)


class Supervisor:
    def __init__(self, layout: Layout, topology: Topology, tree: Path, code: Path) -> None:
        self.layout, self.topology, self.tree, self.code = layout, topology, tree, code
        self.nodes = {node.name: Restarts() for node in topology.nodes}
        self.components: dict[tuple[str, str], Component] = {}
        self.user_namespaces: dict[str, int] = {}
        self.preloaded = False
        self.ending = False

    # What is wanted becomes so.

    def converge(self, now: float) -> None:
        """Start whatever is due: nodes together, then their components."""
        due = [self.topology.node(name) for name, state in self.nodes.items() if state.is_due(now)]
        if due:
            self.power_on(due, now)
        for component in self.components.values():
            if component.restarts.is_due(now) and self.is_on(component.node):
                self.start(component, now)

    def is_on(self, node: str) -> bool:
        return node == HOST_NODE or self.nodes[node].pid != 0

    def next_due(self, now: float) -> float:
        states = [*self.nodes.values(), *(c.restarts for c in self.components.values() if self.is_on(c.node))]
        waits = [state.due - now for state in states if state.wanted and state.pid == 0]
        return max(0.0, min([IDLE_S, *waits]))

    def power_on(self, nodes: list[Node], now: float) -> None:
        booting = []
        for node in nodes:
            try:
                booting.append(boot.start(self.topology, node, self.sources(node)))
            except OSError as error:
                self.nodes[node.name].failed(str(error), now)
                log.error("node not started", extra={"node": node.name, "error": str(error)})
        for one in booting:
            state = self.nodes[one.node.name]
            try:
                state.ran(boot.finish(self.topology, one), now, time.time())
                log.info("node booted: %s as %d", one.node.name, one.pid)
            except boot.BootError as error:
                state.failed(str(error), now)
                log.error("node not booted: %s", error)

    def sources(self, node: Node) -> rootfs.Sources:
        return rootfs.Sources(
            tree=self.tree,
            code=self.code,
            node=inside(self.layout.node(node.name)),
            cgroup=f"{self.layout.cgroup}/{node.name}",
            user_id=node.user_id,
            store_ids=self.store_ids(node),
        )

    def store_ids(self, node: Node) -> int:
        if node.name not in self.user_namespaces:
            self.user_namespaces[node.name] = syscalls.user_namespace([(0, node.user_id, IMAGE_IDS)])
        return self.user_namespaces[node.name]

    def start(self, component: Component, now: float) -> None:
        self.preload()
        main = (
            entering.command(component.arguments)
            if component.arguments[0].startswith("/")
            else _own_program(component.name, component.arguments)
        )
        try:
            pid = self.spawn(component, main)
        except OSError as error:
            component.restarts.failed(str(error), now)
            log.error("component not started: %s on %s: %s", component.name, component.node, error)
            return
        component.restarts.ran(pid, now, time.time())
        log.info("component started: %s on %s as %d", component.name, component.node, pid)

    def spawn(self, component: Component, main: Callable[[], None]) -> int:
        group = f"{self.layout.cgroup}/{component.node}"
        output = inside(self.layout.log(component.node, component.name))
        if component.node == HOST_NODE:
            return entering.spawn_on_host(group, entering.host_account(), output, main)
        node = self.topology.node(component.node)
        return entering.spawn(self.nodes[node.name].pid, group, account(component.user, node), output, main)

    def preload(self) -> None:
        if self.preloaded:
            return
        self.preloaded = True
        with importing.quickly():
            for module in PRELOADED:
                try:
                    importlib.import_module(module)
                except Exception as error:  # a component that cannot be imported says so itself when it is started
                    log.warning("not preloaded: %s: %s", module, error)
        gc.collect()
        gc.freeze()  # pages that hold these objects stay shared with every fork

    def reap(self, now: float) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self.note_death(pid, status, now)

    def note_death(self, pid: int, status: int, now: float) -> None:
        code = os.waitstatus_to_exitcode(status)
        told = f"signal {-code}" if code < 0 else f"exit code {code}"
        for name, state in self.nodes.items():
            if state.pid == pid:
                state.died(told, now)
                log.warning("node died: %s: %s", name, told)
        for component in self.components.values():
            if component.restarts.pid == pid:
                component.restarts.died(told, now)
                log.warning("component died: %s on %s: %s", component.name, component.node, told)

    def power_off(self, names: list[str]) -> None:
        """Hard, and until they are off. Whoever dies meanwhile is reaped: a node's PID 1 does not end before every
        component of its PID namespace has been, and those are children of this process (pid_namespaces(7))."""
        for name in names:
            self._kill(self.nodes[name], signal.SIGKILL)
        while any(self.nodes[name].pid for name in names):
            self.note_death(*os.waitpid(-1, 0), time.monotonic())

    # Verbs of the control socket.

    def do_status(self) -> dict[str, Any]:
        nodes = {
            node.name: {
                "role": node.role,
                "pid": self.nodes[node.name].pid,
                "wanted": self.nodes[node.name].wanted,
                "deaths": self.nodes[node.name].deaths,
                "lastExit": self.nodes[node.name].last_exit,
                "addresses": [node.address_v4, node.address_v6],
                "userId": node.user_id,
            }
            for node in self.topology.nodes
        }
        components = [
            {
                "node": component.node,
                "name": component.name,
                "pid": component.restarts.pid,
                "startedAt": component.restarts.started_at,
                "wanted": component.restarts.wanted,
                "deaths": component.restarts.deaths,
                "lastExit": component.restarts.last_exit,
            }
            for component in self.components.values()
        ]
        return {"lab": self.topology.name, "pid": os.getpid(), "nodes": nodes, "components": components}

    def do_topology(self, topology: dict[str, Any]) -> dict[str, Any]:
        """Nodes that are new are booted; nodes that are gone are powered off, and their groups removed."""
        self.topology = Topology.from_data(topology)
        wanted = {node.name for node in self.topology.nodes}
        gone = [name for name in self.nodes if name not in wanted]
        self.power_off(gone)
        for name in gone:
            del self.nodes[name]
            self.components = {key: one for key, one in self.components.items() if key[0] != name}
            for hierarchy in cgroups.hierarchies():
                cgroups.remove(hierarchy / self.layout.cgroup / name)
        for name in sorted(wanted - set(self.nodes)):
            self.nodes[name] = Restarts()
        return {"gone": gone}

    def do_components(self, components: list[dict[str, Any]]) -> dict[str, Any]:
        """The components that the lab shall have. Those that run with the same arguments are left alone."""
        wanted = {
            (entry["node"], entry["name"]): Component(
                entry["node"], entry["name"], entry["user"], tuple(entry["arguments"])
            )
            for entry in components
        }
        for key, old in list(self.components.items()):
            new = wanted.get(key)
            if new is None or (new.user, new.arguments) != (old.user, old.arguments):
                self._kill(old.restarts, signal.SIGTERM)
                del self.components[key]
        for key, new in wanted.items():
            self.components.setdefault(key, new).restarts.want(True)
        return {}

    def do_node(self, node: str, action: str) -> dict[str, Any]:
        """`kill` powers off hard and it comes back; `stop` powers off hard and it stays off until `start`."""
        state = self.nodes[self.topology.node(node).name]
        _check(action, ("kill", "stop", "start"))
        if action != "kill":
            state.want(action == "start")
        if action != "start":
            self._kill(state, signal.SIGKILL)
        return {}

    def do_component(self, node: str, name: str, action: str) -> dict[str, Any]:
        """`kill` is SIGKILL, `restart` is SIGTERM, both come back; `stop` stays away until `start`."""
        _check(action, ("kill", "restart", "stop", "start"))
        component = self.components.get((node, name))
        if component is None:
            known = sorted(other for where, other in self.components if where == node)
            raise ValueError(f"node {node} has no component {name}; it has {', '.join(known) or 'none'}")
        if action in ("stop", "start"):
            component.restarts.want(action == "start")
        if action != "start":
            self._kill(component.restarts, signal.SIGKILL if action == "kill" else signal.SIGTERM)
        return {}

    def do_preload(self) -> dict[str, Any]:
        self.preload()
        return {}

    def do_shutdown(self) -> dict[str, Any]:
        self.ending = True
        return {}

    @staticmethod
    def _kill(state: Restarts, number: signal.Signals) -> None:
        if state.pid:
            os.kill(state.pid, number)


def _check(action: str, known: tuple[str, ...]) -> None:
    if action not in known:
        raise ValueError(f"action {action!r} is none of {', '.join(known)}")


def account(user: str, node: Node) -> entering.Account:
    if user == "root":
        return entering.root_account()
    if user == "sampan":
        return entering.node_user(node.user_id)
    user_id, _, groups = user.partition(":")
    return entering.Account(
        user_id=int(user_id), group_ids=tuple(map(int, groups.split(","))), home="/var/lib/sampan", cgroup="init"
    )


def _own_program(name: str, arguments: tuple[str, ...]) -> Callable[[], None]:
    def main() -> None:
        syscalls.prctl(syscalls.PR_SET_NAME, name.encode()[:15])
        sys.argv = ["sampan", *arguments]
        logging.getLogger().handlers.clear()
        importlib.import_module("orchestrator.cli.app").main()

    return main


def answer(supervisor: Supervisor, line: bytes) -> dict[str, Any]:
    try:
        request = json.loads(line)
        verb = getattr(supervisor, f"do_{request.pop('verb')}", None)
        if verb is None:
            raise ValueError("unknown verb")
        return {"ok": True, "result": verb(**request)}
    except (ValueError, KeyError, TypeError, OSError) as error:
        return {"ok": False, "error": str(error)}


def serve(supervisor: Supervisor, control: socket.socket) -> None:
    """The loop: requests, deaths of children, and moments at which something is due."""
    woken, waker = socket.socketpair()
    for end in (woken, waker):
        end.setblocking(False)
    signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    selector = selectors.DefaultSelector()
    selector.register(woken, selectors.EVENT_READ)
    selector.register(control, selectors.EVENT_READ)
    supervisor.reap(time.monotonic())
    while not supervisor.ending:
        supervisor.converge(time.monotonic())
        for key, _ in selector.select(supervisor.next_due(time.monotonic())):
            if key.fileobj is woken:
                woken.recv(4096)
            else:
                handle(supervisor, control)
        supervisor.reap(time.monotonic())


def handle(supervisor: Supervisor, control: socket.socket) -> None:
    """One connection, one request. The clients are ours and local: one that says nothing is cut off after a second."""
    connection, _ = control.accept()
    with connection:
        connection.settimeout(1.0)
        try:
            line = connection.makefile("rb").readline(REQUEST_BYTES_MAX)
            connection.sendall(json.dumps(answer(supervisor, line)).encode() + b"\n")
        except OSError as error:
            log.warning("control connection lost: %s", error)


def main() -> None:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # no threads before forks
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    layout = Layout(sys.argv[1])
    lab = json.loads(inside(layout.lab_file).read_text())
    topology = Topology.from_data(lab["topology"])
    cgroups.mount_hierarchies()
    own = cgroups.UNIFIED / layout.cgroup / "supervisor"
    own.mkdir(parents=True, exist_ok=True)
    cgroups.join(own)
    network.ensure(topology)
    supervisor = Supervisor(layout, topology, inside(Path(lab["tree"])), inside(Path(lab["code"])))
    supervisor.converge(time.monotonic())
    place = inside(layout.control_socket)
    place.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as control:
        control.bind(str(place))
        place.chmod(0o600)
        control.listen(64)
        serve(supervisor, control)


if __name__ == "__main__":
    main()
