"""Install a node on a machine with systemd: what is wanted, its fingerprint, and the steps, each only where needed.

    look -> packages (a user's machine) -> accounts -> folders -> files -> kernel -> code -> units -> health

The wish is computed purely from topology, keys and wheel. What is done follows from comparing it with the facts, so an
install that broke off is continued by the next, and one that finished is followed by nothing.
Errors: InstallError names node, step, command and the end of what it said.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from infra.images import cache
from infra.images.machine import files as image_files
from infra.images.sysctls import SYSCTLS
from infra.install import components, facts, machine, packages, plan, release, units
from infra.install.connection import CommandError, Connection, File, SshError
from infra.install.facts import Facts
from infra.install.machine import HOME, Folder
from infra.install.plan import Step
from infra.install.release import Release
from infra.install.templates import render
from infra.install.units import Unit
from infra.topology import LIBVIRT, MACHINES, Node, Topology

Say = Callable[[str], None]

HEALTH_LIMIT_S = 240.0  # where there is no KVM, a control plane needs half a minute to start
PROGRAMS = ("podman", "crun", "nft", "ip", "conntrack", "newuidmap", "busybox", "catatonit")
LAUNCHER = '#!/bin/sh\nexec /usr/bin/python3 -m orchestrator.cli "$@"\n'
CONTAINERS = f"{HOME}/.config/containers"


class InstallError(RuntimeError):
    """A step failed on a node."""


class ConnectionLost(InstallError):
    """The machine went away during a step. An installation that is run again goes on from there."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    node: Node
    files: tuple[File, ...]
    folders: tuple[Folder, ...]
    units: tuple[Unit, ...]
    release: Release | None
    checks: Mapping[str, str]  # endpoint -> the unit that serves it
    is_foreign: bool  # a machine or an image that the user has: without our image's packages

    @property
    def all_files(self) -> tuple[File, ...]:
        return (*self.files, *(unit.file for unit in self.units))


def wanted(
    topology: Topology, node: Node, keys: Mapping[str, bytes], wheel: Path | None, *, own_image: bool = False
) -> Wanted:
    """`keys`: PEM by file name, at least components.key_names(node). `wheel`: none leaves the machine's code alone.
    `own_image`: a virtual machine of an image of the user's, which lacks what a machine of the user's lacks."""
    code = release.of_wheel(wheel) if wheel else None
    laid = [*machine_files(topology, node)]
    laid += components.files(topology, node, keys, cgroup_parent=units.CGROUP_PARENT)
    processes = components.processes(topology, node)
    made = units.units(topology.name, node, processes, laid, code.name if code else "")
    if topology.backend == MACHINES and ip_address(node.address_v6) in topology.node_network_v6:
        made = (units.address(topology.name, node, topology.node_network_v6.prefixlen), *made)
    return Wanted(
        node=node,
        files=tuple(laid),
        folders=tuple(folders(node)),
        units=made,
        release=code,
        checks=checks(node, [process.name for process in processes]),
        is_foreign=topology.backend == MACHINES or own_image,
    )


def folders(node: Node) -> list[Folder]:
    """Podman's packages leave /var/lib/containers to root alone."""
    outer = [Folder(path=path) for path in ("/opt/sampan", release.RELEASES, "/var/lib/containers")]
    return [*outer, *machine.folders(node)]


def machine_files(topology: Topology, node: Node) -> list[File]:
    """A machine's own files, but for those of components. A user's machine keeps its names and name servers."""
    texts = {f"{CONTAINERS}/{name}": text for name, text in machine.containers_texts().items()}
    texts |= {
        "/etc/modules-load.d/sampan.conf": "".join(f"{module}\n" for module in image_files.MODULES),
        "/etc/sysctl.d/60-sampan.conf": image_files.sysctl_conf(),
        "/etc/tmpfiles.d/sampan.conf": f"d /run/sampan 0750 root {node.user_id} -\n",
        "/usr/lib/python3/dist-packages/sampan.pth": "/opt/sampan/src\n/opt/sampan/lib\n",
    }
    if topology.backend == LIBVIRT:
        texts |= {
            "/etc/hosts": render("node/hosts", nodes=(node,)),
            "/etc/hostname": f"{node.name}\n",
            "/etc/resolv.conf": "".join(f"nameserver {address}\n" for address in topology.gateway),
            "/etc/cloud/cloud-init.disabled": "",  # it has done its work, and would take seconds of every boot
        }
    found = [File(path=path, content=text.encode()) for path, text in texts.items()]
    return [*found, File(path="/usr/bin/sampan", content=LAUNCHER.encode(), mode=0o755)]


def checks(node: Node, processes: list[str]) -> dict[str, str]:
    endpoints = {
        "podman": f"/run/user/{node.user_id}/podman/podman.sock",
        "server": "https://127.0.0.1:6443/readyz",
        "api-server": "https://127.0.0.1:6443/readyz",
        "node": "/run/sampan/porter.sock",
        "porter": "/run/sampan/porter.sock",
        "kubelet": "tcp://127.0.0.1:10250",
    }
    return {endpoints[name]: units.unit_name(name) for name in processes if name in endpoints}


def fingerprint(wish: Wanted) -> dict[str, str]:
    """What is wanted by path or step, as hashes: a changed entry says what would be installed anew. No secret can be
    found from its hash: all that are laid down are keys of 256 bits, which nobody guesses."""
    found = {file.path: _hash(f"{file.mode}:{file.user_id}:{file.group_id}:".encode() + file.content)
             for file in wish.all_files}  # fmt: skip
    found["accounts"] = _hash(plan.ranges_line(wish.node).encode())
    found["folders"] = _hash(repr(wish.folders).encode())
    if wish.release is not None:
        found["code"] = wish.release.name
    return dict(sorted(found.items()))


def _at_once() -> None:
    return None


def install(connection: Connection, wish: Wanted, say: Say, started: Callable[[], None] = _at_once) -> tuple[str, ...]:
    """The titles of the steps that were needed, in their order. `started` is called when components have been started,
    before their health is waited for: it may wait for what they wait for."""
    name = wish.node.name
    done: list[str] = []

    def run(todo: Sequence[Step]) -> None:
        for step in todo:
            say(f"{name}: {step.title}")
            _run(connection, name, step)
            done.append(step.title)

    seen = _look(connection, wish)
    if wish.is_foreign and (todo := _packages(connection, name, seen)):
        run(todo)
        seen = _look(connection, wish)
    refuse(name, seen)
    if problem := plan.taken(wish.node, seen):
        raise InstallError(f"node {name}: {problem}")
    run(steps(wish, seen))
    started()
    _wait(connection, wish)
    return tuple(done)


def uninstall(connection: Connection, node: Node, say: Say) -> None:
    """Of a machine that stays: everything but its Debian packages."""
    step = plan.removal(node)
    say(f"{node.name}: {step.title}")
    _run(connection, node.name, step)


def steps(wish: Wanted, seen: Facts) -> list[Step]:
    found = [
        *plan.accounts(wish.node, seen),
        *plan.folders(wish.folders, seen),
        *plan.files(wish.all_files, seen),
        *plan.kernel(SYSCTLS, seen),
    ]
    if wish.release is not None:
        if wish.release.name not in seen.releases:
            found.append(plan.unpack(wish.release, seen, wish.release.archive(cache.node_image(lambda _: None))))
        found += plan.switch(wish.release, seen)
    return [*found, *plan.units(wish.units, seen)]


def refuse(node: str, seen: Facts) -> None:
    """What no step can mend."""
    if seen.init != "systemd":
        raise InstallError(f"node {node}: its process 1 is {seen.init}: a node needs systemd")
    if not seen.has_cgroup2:
        raise InstallError(
            f"node {node}: /sys/fs/cgroup is not cgroup v2: boot it with systemd.unified_cgroup_hierarchy=1"
        )
    if seen.lacking:
        raise InstallError(f"node {node}: {', '.join(seen.lacking)} not found: is this Sampan's image?")


def _packages(connection: Connection, node: str, seen: Facts) -> list[Step]:
    if problem := packages.refuse(seen):
        raise InstallError(f"node {node}: {problem}")
    script = 'for part; do printf "%s=%s\\n" "$part" "$(cat "$part.version" 2>/dev/null)"; done'
    said = connection.run(["sh", "-c", script, "versions", *packages.PARTS]).decode()
    tree = cache.node_image(lambda _: None)
    versions = dict(line.split("=", 1) for line in said.splitlines())
    return packages.steps(seen, versions, packages.version(tree), tree)


def _look(connection: Connection, wish: Wanted) -> Facts:
    try:
        return facts.observe(
            connection,
            paths=[file.path for file in wish.all_files],
            folders=[folder.path for folder in wish.folders],
            units=[unit.name for unit in wish.units],
            settings=list(SYSCTLS),
            programs=PROGRAMS,
        )
    except CommandError as error:
        raise InstallError(f"node {wish.node.name}: looking at the machine: {error.said}") from error
    except SshError as error:
        raise ConnectionLost(_lost(wish.node.name, "look", error)) from error


def _run(connection: Connection, node: str, step: Step) -> None:
    try:
        connection.run(step.command, step.stdin)
    except CommandError as error:
        shown = " ".join(step.command) if step.command[:2] != plan.SHELL else step.stdin.decode().strip()
        raise InstallError(
            f"node {node}: step {step.title!r} failed with exit code {error.code}: {error.said}\ncommand:\n{shown}"
        ) from error
    except SshError as error:
        raise ConnectionLost(_lost(node, step.title, error)) from error


def _wait(connection: Connection, wish: Wanted) -> None:
    names = [unit.name for unit in wish.units]
    order = {"units": names, "checks": dict(wish.checks), "limit_s": HEALTH_LIMIT_S}
    try:
        answer = json.loads(connection.run(facts.program("health"), json.dumps(order).encode()))
    except CommandError as error:
        raise InstallError(f"node {wish.node.name}: step 'health' failed: {error.said}") from error
    except SshError as error:
        raise ConnectionLost(_lost(wish.node.name, "health", error)) from error
    if answer["problem"]:
        raise InstallError(f"node {wish.node.name}: step 'health': {answer['problem']}")


def _lost(node: str, step: str, error: SshError) -> str:
    return f"node {node}: step {step!r}: {error}. Run it again: it goes on from there"


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]
