"""A lab on machines that the user has: reached over SSH, installed side by side, nothing of them made or owned.

What is kept here: LABS/<name>/ with lab.json (topology, and the host key that each machine showed first), pki/ and the
kubeconfig. Addresses that the topology does not give are read from the machine; one that has no IPv6 gets one of the
lab's node network. `down` takes Sampan off every machine and leaves their Debian packages.
Errors: SshError, InstallError, MachinesError; a lab that was broken off is continued by the next `up`.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Any

from infra import kubeconfig, pki, readiness
from infra.images.wheel import wheel
from infra.install import vm
from infra.install.connection import SshError
from infra.install.ssh import Ssh
from infra.libvirt import cluster
from infra.local.lab import exclusive
from infra.local.layout import LABS, Layout
from infra.local.up import write_kubeconfigs
from infra.progress import Steps
from infra.topology import CONTROL_PLANE, LAB_INDEX_MAX, MACHINES, Machine, Node, Topology
from infra.up import Up

REACH_TIMEOUT_S = 60.0
DNS_TIMEOUT_S = 60.0
Say = Callable[[str], None]


class MachinesError(RuntimeError):
    """The machines cannot be a lab; the message names the machine and the remedy."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """lab.json of a lab on machines."""

    topology: Topology
    host_keys: Mapping[str, str]  # by `ssh` of the machine


def load(name: str) -> Known | None:
    """None where there is no lab on machines of that name."""
    try:
        data = json.loads(Layout(name).lab_file.read_text())
    except FileNotFoundError:
        return None
    if data.get("backend") != MACHINES:
        return None
    return Known(topology=Topology.from_data(data["topology"]), host_keys=data.get("hostKeys", {}))


def save(known: Known) -> None:
    """Whole or not at all."""
    layout = Layout(known.topology.name)
    layout.folder.mkdir(parents=True, exist_ok=True)
    layout.folder.chmod(0o711)
    data = {"backend": MACHINES, "topology": known.topology.to_data(), "hostKeys": dict(known.host_keys)}
    new = layout.lab_file.with_suffix(".new")
    new.write_text(json.dumps(data, indent=1))
    new.rename(layout.lab_file)


def connection(known: Known, node: Node, key: bytes | None = None) -> Ssh:
    user, host, port = parse_address(node.ssh)
    pinned = known.host_keys.get(node.ssh)
    return Ssh(node.name, host, port=port, user=user, key=key, host_keys=(pinned,) if pinned else ())


def parse_address(text: str) -> tuple[str, str, int]:
    """[user@]host[:port], an IPv6 address in brackets; root and 22 where they are not said."""
    found = re.fullmatch(r"(?:([\w.-]+)@)?(?:\[([0-9a-fA-F:]+)\]|([\w.-]+))(?::(\d+))?", text)
    assert found is not None, f"{text} was checked by the topology"
    return found[1] or "root", found[2] or found[3], int(found[4] or 22)


def up(wish: Topology, kubeconfig_file: Path, show: Steps, key: bytes | None = None) -> Up:
    """`key`: a private key for all machines; without one those of the user's SSH configuration and agent."""
    layout = Layout(wish.name)
    before = load(wish.name)
    known = _claim(wish, before)
    connections = {node.name: connection(known, node, key) for node in known.topology.nodes}
    try:
        with show.step(f"{len(connections)} machines answer"):
            known = _reach(known, connections, show.note)
        pki.ensure(layout.pki, known.topology)
        context = write_kubeconfigs(layout, known.topology, kubeconfig_file)["current-context"]
        _leave_gone(before, known, key, show)
        _install(known.topology, layout, connections, show)
        with show.step("cluster DNS answers"):
            last = connections[known.topology.nodes[-1].name]
            readiness.wait_dns(last.run, known.topology, DNS_TIMEOUT_S)
    finally:
        for one in connections.values():
            one.close()
    return Up(known.topology, kubeconfig_file, context, show.total_s)


def down(name: str, show: Steps, key: bytes | None = None) -> bool:
    """False where there was nothing of that name. A machine that does not answer is named, and the lab kept."""
    known = load(name)
    if known is None:
        return False
    layout = Layout(name)
    for node in reversed(known.topology.nodes):  # the control plane last
        with show.step(f"Sampan taken off {node.name} ({node.ssh})"):
            _uninstall(connection(known, node, key), node, show.note)
    kubeconfig.withdraw(name, layout.kubeconfig_users)
    shutil.rmtree(layout.folder)
    with suppress(OSError):  # other labs are there
        LABS.rmdir()
    return True


def _claim(wish: Topology, before: Known | None) -> Known:
    with exclusive():
        if before is None and Layout(wish.name).lab_file.exists():
            raise MachinesError(f"name: {wish.name!r}: is that of another lab of this machine: choose another (--name)")
        index = before.topology.index if before else _free_index()
        given = {machine.ssh: machine for machine in before.topology.machines} if before else {}
        # Addresses that were found once stay: certificates and the cluster know them.
        machines = tuple(given.get(one.ssh, one) if not one.address_v4 else one for one in wish.machines)
        known = Known(
            topology=replace(wish, index=index, machines=machines), host_keys=before.host_keys if before else {}
        )
        save(known)
    return known


def _free_index() -> int:
    """User ids and the lab's own IPv6 network follow from it: two labs may have a machine in common some day."""
    found = (load(file.parent.name) for file in LABS.glob("*/lab.json"))
    taken = {known.topology.index for known in found if known}
    free = [index for index in range(LAB_INDEX_MAX + 1) if index not in taken]
    if not free:
        raise MachinesError(f"all {LAB_INDEX_MAX + 1} places for labs on machines are taken: take one down")
    return free[0]


def _reach(known: Known, connections: Mapping[str, Ssh], say: Say) -> Known:
    """Every machine, its host key, its addresses."""

    def one(node: Node) -> tuple[str, Machine]:
        ssh = connections[node.name]
        ssh.wait(REACH_TIMEOUT_S, say)
        place = known.topology.nodes.index(node)
        return ssh.host_key, _addressed(known.topology.machines[place], ssh)

    with ThreadPoolExecutor(max_workers=len(connections)) as pool:
        seen = list(pool.map(one, known.topology.nodes))
    host_keys = {**known.host_keys, **{machine.ssh: pinned for pinned, machine in seen}}
    found = Known(topology=replace(known.topology, machines=tuple(machine for _, machine in seen)), host_keys=host_keys)
    save(found)
    return found


def _addressed(machine: Machine, ssh: Ssh) -> Machine:
    if machine.address_v4 and machine.address_v6:
        return machine
    listed = json.loads(ssh.run(["ip", "-json", "address", "show"]))
    try:
        v4, v6 = addresses(listed, ssh.host)
    except LookupError as error:
        raise MachinesError(
            f"node {ssh.node} ({machine.ssh}): {error}: give it one, or say ipv4 in its entry"
        ) from error
    return replace(machine, address_v4=machine.address_v4 or v4, address_v6=machine.address_v6 or v6)


def addresses(links: list[dict[str, Any]], host: str) -> tuple[str, str]:
    """A machine's own address of each family, from `ip -json address`: those of the interface by which it was reached,
    else of the first that has a global IPv4 address. IPv6 may be "". LookupError without IPv4."""
    found = []
    for link in links:
        usable = [one for one in link.get("addr_info", ()) if one["scope"] == "global" and not one.get("temporary")]
        by_family = {
            family: [one["local"] for one in usable if one["family"] == family] for family in ("inet", "inet6")
        }
        if by_family["inet"]:
            found.append((by_family["inet"], by_family["inet6"]))
    reached = [(v4, v6) for v4, v6 in found if host in v4 or host in v6]
    if not found:
        raise LookupError("it has no IPv4 address but its own loopback")
    v4, v6 = (reached or found)[0]
    is_v4 = _is_v4(host)
    return (host if is_v4 and host in v4 else v4[0]), (host if host in v6 else next(iter(v6), ""))


def _is_v4(host: str) -> bool:
    try:
        return isinstance(ip_address(host), IPv4Address)
    except ValueError:
        return False


def _install(topology: Topology, layout: Layout, connections: Mapping[str, Ssh], show: Steps) -> None:
    """Control planes one after the other, then the workers side by side."""
    keys, code = pki.load(layout.pki), wheel()
    control_planes = [node.name for node in topology.nodes if node.role == CONTROL_PLANE]

    def one(node: Node) -> None:
        wish = vm.wanted(topology, node, keys, code)
        vm.install(connections[node.name], wish, show.note)
        cluster.wait_ready(layout.kubeconfig, node.name, control_planes, 0.0, show.note)

    for node in topology.nodes:
        if node.role == CONTROL_PLANE:
            with show.step(f"{node.name} installed and Ready"):
                one(node)
    workers = [node for node in topology.nodes if node.role != CONTROL_PLANE]
    if workers:
        with (
            show.step(f"{len(workers)} workers installed and Ready"),
            ThreadPoolExecutor(max_workers=len(workers)) as pool,
        ):
            list(pool.map(one, workers))


def _leave_gone(before: Known | None, known: Known, key: bytes | None, show: Steps) -> None:
    """Machines that the lab no longer names: drained, Sampan taken off, forgotten by the cluster; a kubelet that still
    ran would register its node again."""
    if before is None:
        return
    kept = {node.ssh for node in known.topology.nodes}
    for node in before.topology.nodes:
        if node.ssh not in kept and node.role != CONTROL_PLANE:
            with show.step(f"{node.name} ({node.ssh}) drained and left"):
                file = Layout(known.topology.name).kubeconfig
                cluster.drain(file, node.name, show.note, with_bare=True)
                _uninstall(connection(before, node, key), node, show.note)
                cluster.forget(file, node.name)


def _uninstall(ssh: Ssh, node: Node, say: Say) -> None:
    try:
        ssh.wait(REACH_TIMEOUT_S, say)
        vm.uninstall(ssh, node, say)
    except SshError as error:
        raise MachinesError(
            f"{error}. Sampan is still on it: make it reachable and run it again, or remove its entry from "
            f"{LABS}/*/lab.json if it is no more"
        ) from error
    finally:
        ssh.close()
