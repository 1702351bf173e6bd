"""The client of a lab's supervisor: one request a connection over its unix socket.

Errors: NotRunning where nobody answers; RuntimeError with the supervisor's words where it refuses.
"""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from infra.local.layout import Layout

POLL_S = 0.05
ANSWER_TIMEOUT_S = 60.0  # a request waits while nodes boot or components are forked


class NotRunning(RuntimeError):
    """The lab has no supervisor that answers."""


@dataclass(frozen=True)
class Shell:
    """Commands in one node, by the namespaces of its PID 1 (as found: a node that restarts has another)."""

    node: str
    pid: int
    user_id: int

    def line(self, command: Sequence[str], *, user: str = "root") -> list[str]:
        """The command line that runs `command` in the node, as root or as its user `sampan`."""
        group = "user/service" if user == "sampan" else "init"
        variables = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"]
        variables += [f"TERM={os.environ.get('TERM', 'dumb')}"]
        become = ["env", "-i", *variables, "HOME=/root"]
        if user == "sampan":
            become = ["setpriv", f"--reuid={self.user_id}", f"--regid={self.user_id}", "--clear-groups"]
            become += ["--inh-caps=-all", "env", "-i", *variables, "HOME=/var/lib/sampan/home"]
            become += [f"XDG_RUNTIME_DIR=/run/user/{self.user_id}", "USER=sampan"]
        script = f'cd /; echo 0 > "/sys/fs/cgroup/{group}/cgroup.procs"; exec "$@"'
        return [
            *("nsenter", "--target", str(self.pid), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"),
            *("--root", "/bin/sh", "-c", script, "sampan", *become, *command),
        ]

    def run(self, command: Sequence[str], *, user: str = "root", stdin: bytes | None = None) -> bytes:
        """Run a command in the node to its end. Errors: RuntimeError with its exit code and what it said."""
        done = subprocess.run(self.line(command, user=user), input=stdin, capture_output=True, check=False)
        if done.returncode != 0:
            said = (done.stderr or done.stdout).decode(errors="replace").strip()
            raise RuntimeError(f"on node {self.node}: {' '.join(command)}: exit code {done.returncode}: {said}")
        return done.stdout


@dataclass(frozen=True)
class Control:
    layout: Layout

    def ask(self, verb: str, **arguments: Any) -> Any:
        path = str(self.layout.control_socket)
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(ANSWER_TIMEOUT_S)
                connection.connect(path)
                connection.sendall(json.dumps({"verb": verb, **arguments}).encode() + b"\n")
                line = connection.makefile("rb").readline()
        except OSError as error:
            raise NotRunning(f"lab {self.layout.name}: no supervisor answers at {path}: {error}") from error
        answer = json.loads(line or b'{"ok": false, "error": "the supervisor closed the connection"}')
        if not answer["ok"]:
            raise RuntimeError(f"lab {self.layout.name}: {verb}: {answer['error']}")
        return answer["result"]

    def component(self, node: str, name: str, action: Literal["kill", "stop", "start"]) -> None:
        """`kill`: it comes back; `stop`: it has ended and stays away until `start`."""
        self.ask("component", node=node, name=name, action=action)
        deadline = time.monotonic() + ANSWER_TIMEOUT_S
        while action == "stop" and self._pid(node, name):
            if time.monotonic() > deadline:
                raise RuntimeError(f"{name} on node {node} has not ended {ANSWER_TIMEOUT_S:.0f} s after a stop")
            time.sleep(POLL_S)

    def _pid(self, node: str, name: str) -> int:
        found = self.ask("status")["components"]
        return next((int(one["pid"]) for one in found if (one["node"], one["name"]) == (node, name)), 0)

    def is_running(self) -> bool:
        try:
            self.ask("status")
        except NotRunning:
            return False
        return True

    def kubelets_started(self, nodes: Iterable[str]) -> dict[str, float]:
        """When each node's present kubelet was started; in the future for one that does not run."""
        running = [one for one in self.ask("status")["components"] if one["name"] == "kubelet" and one["pid"]]
        started = {one["node"]: one["startedAt"] for one in running}
        return {node: started.get(node, math.inf) for node in nodes}

    def shell(self, node: str) -> Shell:
        nodes = self.ask("status")["nodes"]
        if node not in nodes:
            raise RuntimeError(f"lab {self.layout.name} has no node {node}; it has {', '.join(nodes)}")
        seen = nodes[node]
        if not seen["pid"]:
            raise RuntimeError(f"node {node} is not running (last: {seen['lastExit'] or 'never started'})")
        return Shell(node, seen["pid"], seen["userId"])

    def running_nodes(self) -> list[str]:
        return [name for name, seen in self.ask("status")["nodes"].items() if seen["pid"]]

    def run(self, node: str, command: Sequence[str], *, user: str = "root", stdin: bytes | None = None) -> bytes:
        return self.shell(node).run(command, user=user, stdin=stdin)
