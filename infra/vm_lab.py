"""A lab of machines as its user meets it: shells, logs, what is running, and faults. Programs of the host do the work
(ssh, virsh); nothing here needs Pulumi. Virtual machines are reached with the key and the pinned host keys of the lab's
folder, machines that the user has as their own SSH settings say.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

from infra import host
from infra.libvirt import registry
from infra.libvirt.arguments import domain_name
from infra.libvirt.registry import Lab
from infra.readiness import is_ready
from infra.topology import MACHINES, Node, Topology
from orchestrator.api import meta
from orchestrator.api.meta import Object

SSH_TIMEOUT_S = 20
OF_THE_USER = "yours"  # the state of a machine that is not ours to ask about
UNITS = "sampan-*.service"
SHOWN = ("Id", "ActiveState", "MainPID", "NRestarts", "ExecMainStatus")


def find(name: str) -> Lab | None:
    """The lab of that name, if it is one of machines, virtual or not."""
    if (known := registry.read(name)) is not None or registry.backend(name) != MACHINES:
        return known
    data = json.loads((registry.folder(name) / "lab.json").read_text())
    return Lab(topology=Topology.from_data(data["topology"]), project="", stack="", folder="", backend=MACHINES)


def ensure_ssh() -> None:
    if missing := host.lacking({"ssh": "openssh-client"}):
        host.apt_install(missing)


def ssh_line(lab: Lab, node: Node, command: Sequence[str], *, user: str = "root", terminal: bool = False) -> list[str]:
    """The host's command line that runs `command` on the machine; a login shell where it is empty."""
    words = list(command)
    if user != "root":
        words = ["runuser", "--login", user, *(["--command", shlex.join(words)] if words else [])]
    line = ["ssh", "-o", "LogLevel=ERROR", "-o", f"ConnectTimeout={SSH_TIMEOUT_S}", *(["-t"] if terminal else [])]
    if node.ssh:
        place = node.ssh if "@" in node.ssh else f"root@{node.ssh}"
        if words and not place.startswith("root@"):
            words = ["sudo", "--non-interactive", "--", *words]
        return [*line, f"ssh://{place}", *([shlex.join(words)] if words else [])]
    folder = registry.folder(lab.name)
    line += ["-i", str(folder / registry.SSH_KEY), "-o", f"UserKnownHostsFile={folder / registry.KNOWN_HOSTS}"]
    line += ["-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes", "-F", "none"]
    return [*line, f"root@{node.address_v4}", *([shlex.join(words)] if words else [])]


def logs_line(lab: Lab, component: str, node: str, tail: int, follow: bool) -> list[str]:
    """`cloud-controller` is this machine's own; `console` is what a machine said on its serial port."""
    folder = registry.folder(lab.name)
    if component in ("cloud-controller", "console"):
        files = [folder / f"{component}.log"]
        if component == "console":
            files = [folder / registry.CONSOLE / f"{one.name}.log" for one in chosen(lab.topology, node)]
        count = "+1" if tail < 0 else str(tail)
        return ["tail", "-n", count, *(["-F"] if follow else []), "--", *map(str, files)]
    journal = ["journalctl", "--unit", f"sampan-{component}.service", "--output", "cat", "--no-pager"]
    journal += ["--lines", "all" if tail < 0 else str(tail), *(["--follow"] if follow else [])]
    (one, *others) = chosen(lab.topology, node)
    if others:
        names = ", ".join(each.name for each in (one, *others))
        raise LookupError(f"say which node with --node: {names} have logs of their own")
    return ssh_line(lab, one, journal)


def chosen(topology: Topology, node: str) -> tuple[Node, ...]:
    return (topology.node(node),) if node else topology.nodes


def status(lab: Lab, uri: str, api: tuple[list[Object], str]) -> dict[str, Any]:
    """As infra/status.py has it of a local lab; a machine's `pid` is its domain's id. `api`: Node objects, answer."""
    found, answer = api
    ready = {meta.name(node): str(is_ready(node)) for node in found}
    asked = Machines(lab, uri)
    machines = {node.name: asked.state(node) for node in lab.topology.nodes}
    running = [node for node in lab.topology.nodes if machines[node.name] in ("running", OF_THE_USER)]
    with ThreadPoolExecutor(max_workers=8) as pool:
        units = [entry for entries in pool.map(lambda node: _units(lab, node), running) for entry in entries]
    return {
        "lab": lab.name,
        "api": answer,
        "nodes": [
            {
                "name": node.name,
                "role": node.role,
                "state": machines[node.name],
                "ready": ready.get(node.name, "unknown"),
                "addresses": [node.address_v4, node.address_v6],
                "pid": 0,
            }
            for node in lab.topology.nodes
        ],
        "components": units,
    }


def _units(lab: Lab, node: Node) -> list[dict[str, Any]]:
    command = ["systemctl", "show", f"--property={','.join(SHOWN)}", UNITS]
    done = subprocess.run(ssh_line(lab, node, command), capture_output=True, text=True, check=False)
    return [_unit(node.name, values) for values in unit_properties(done.stdout)]


def unit_properties(output: str) -> Iterable[Mapping[str, str]]:
    """`systemctl show`: one block of NAME=value lines a unit."""
    for block in output.strip().split("\n\n"):
        values = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if "Id" in values:
            yield values


def _unit(node: str, values: Mapping[str, str]) -> dict[str, Any]:
    restarts = int(values.get("NRestarts") or 0)
    return {
        "name": values["Id"].removeprefix("sampan-").removesuffix(".service"),
        "node": node,
        "state": "running" if values.get("ActiveState") == "active" else values.get("ActiveState", "unknown"),
        "pid": int(values.get("MainPID") or 0),
        "deaths": restarts,
        "lastExit": f"exit code {values.get('ExecMainStatus')}" if restarts else "",
    }


@dataclass(frozen=True)
class Machines:
    """A lab's machines, to be asked, broken and healed. `uri`: of the hypervisor of those that name no other."""

    lab: Lab
    uri: str

    def running_nodes(self) -> list[str]:
        return [node.name for node in self.lab.topology.nodes if self.state(node) in ("running", OF_THE_USER)]

    def state(self, node: Node) -> str:
        """In libvirt's words; `missing` where there is no such domain."""
        if node.ssh:
            return OF_THE_USER
        done = self._virsh(node, "domstate")
        return done.stdout.strip() if done.returncode == 0 else "missing"

    def run(self, node: str, command: Sequence[str], *, user: str = "root", stdin: bytes | None = None) -> bytes:
        """Errors: RuntimeError with node, command, exit code and what it said."""
        line = ssh_line(self.lab, self.lab.topology.node(node), command, user=user)
        done = subprocess.run(line, input=stdin, capture_output=True, check=False)
        if done.returncode != 0:
            said = (done.stderr or done.stdout).decode(errors="replace").strip()
            raise RuntimeError(f"on node {node}: {' '.join(command)}: exit code {done.returncode}: {said}")
        return done.stdout

    def power_off(self, node: str) -> None:
        """Hard, as by pulling the plug; the domain stays defined."""
        at = self.lab.topology.node(node)
        if at.ssh:
            raise RuntimeError(f"node {node}: {at.ssh} is a machine of your own: its plug is yours to pull")
        self._must(at, "destroy")

    def heal(self) -> None:
        """Power on what is off; start the units that were stopped on the others."""
        for node in self.lab.topology.nodes:
            if (state := self.state(node)) in ("running", OF_THE_USER):
                # A pattern alone starts only what systemd has loaded, and `--all` also what others merely name.
                self.run(node.name, ["sh", "-c", f"cd /etc/systemd/system && exec systemctl start {UNITS}"])
            elif state == "paused":
                self._must(node, "resume")
            elif state != "missing":
                self._must(node, "start")

    def component(self, node: str, name: str, action: Literal["kill", "stop", "start"]) -> None:
        verb = ["kill", "--signal=KILL"] if action == "kill" else [action]
        self.run(node, ["systemctl", *verb, f"sampan-{name}.service"])

    def _virsh(self, node: Node, verb: str) -> subprocess.CompletedProcess[str]:
        name = domain_name(self.lab.name, node.name)
        command = ["virsh", "--quiet", "--connect", node.hypervisor or self.uri, verb, name]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def _must(self, node: Node, verb: str) -> None:
        done = self._virsh(node, verb)
        if done.returncode != 0:
            raise RuntimeError(f"node {node.name}: virsh {verb}: {done.stderr.strip()}")


def run(line: Sequence[str]) -> None:
    """Hand this process over."""
    os.execvp(line[0], list(line))
