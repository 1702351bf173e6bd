"""Snapshots of a lab of virtual machines: all of them at one moment, memory and disks, and the cluster's own disks.

Save: the machines are paused together, saved, and run on. Restore: they are powered off together, their disks are put
back, and they go on from the saved memory, where every connection between them still stands; then their clocks, which
stood, are set. What runs in them does not notice, but for the clock. Only labs whose machines are on this host: their
disks are its files. Errors: SnapshotError.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from infra import snapshot
from infra.hypervisor import processes, services
from infra.install.ssh import Ssh
from infra.libvirt import cloud, registry
from infra.libvirt.arguments import domain_name
from infra.libvirt.disks import PREFIX
from infra.libvirt.registry import Lab
from infra.progress import Steps
from infra.provider import binding
from infra.provider.binding import libvirt
from infra.snapshot import Snapshot, SnapshotError
from infra.snapshot_holder import held, resume
from infra.snapshot_machines import (
    Machine,
    all_at_once,
    check,
    copy,
    look,
    power_off,
    read_record,
    replace_disks,
    set_clock,
    write_record,
)
from infra.snapshot_machines import (
    restore as restore_machine,
)
from infra.snapshot_machines import (
    save as save_machine,
)
from infra.snapshot_serving import wait_answering
from infra.topology import Node

VOLUMES = "volumes"  # of the snapshot: the pool's disks that the cluster made, attached or not
POOL = "pool"  # of the lab's folder
END_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Place:
    """A node's machine: where it is, and itself."""

    node: Node
    uri: str
    connection: Any
    domain: Any


def save(name: str, as_name: str, show: Steps) -> Snapshot:
    lab = _existing(name)
    with registry.exclusive():
        places = _places(lab)
        with show.step("machines looked at"):
            machines = [look(place.node.name, place.domain) for place in places]
            attached = {path for machine in machines for path in machine.disks}
            loose = [file for file in volumes(lab) if str(file) not in attached]
        with show.step("machines paused and saved"), snapshot.building(name, as_name, lab.topology) as made:
            (made.folder / VOLUMES).mkdir()
            began = time.monotonic()
            with held(_by_uri(places)):
                jobs: list[Callable[[], None]] = [
                    partial(save_machine, machine, place.domain, made.folder)
                    for machine, place in zip(machines, places, strict=True)
                ]
                jobs += [partial(copy, file, made.folder / VOLUMES / file.name) for file in loose]
                all_at_once(jobs)
            made.paused_s = time.monotonic() - began
            write_record(machines, made.folder)
    return snapshot.find(name, as_name)


def restore(name: str, from_name: str, show: Steps) -> Snapshot:
    lab = _existing(name)
    saved = snapshot.find(name, from_name)
    machines = {machine.node: machine for machine in read_record(saved.folder)}
    with registry.exclusive():
        places = _places(lab)
        _check_shape(lab, saved, [place.node.name for place in places])
        for place in places:
            check(machines[place.node.name], place.domain)
        with show.step("saved disks copied"):
            put_back = all_at_once(
                [partial(replace_disks, machines[place.node.name], saved.folder) for place in places]
            )
        with show.step(f"{len(places)} machines restored"):
            all_at_once([partial(power_off, place.domain) for place in places])
            for put in put_back:
                put()
            _restore_volumes(lab, saved, machines.values())
            all_at_once(
                [
                    partial(restore_machine, machines[place.node.name], place.connection, saved.folder)
                    for place in places
                ]
            )
            resume([place.domain for place in places])
        with show.step("clocks set"):
            ways = all_at_once([partial(set_clock, place.domain, partial(_set_by_ssh, lab, place)) for place in places])
        show.note(", ".join(f"{place.node.name}: {way}" for place, way in zip(places, ways, strict=True)))
    _restart_cloud_controller(name)
    kubeconfig = registry.folder(name) / registry.KUBECONFIG
    if kubeconfig.exists():
        with show.step("all nodes answer"):
            asyncio.run(wait_answering(kubeconfig, [place.node.name for place in places]))
    return saved


def delete(lab: str, name: str) -> None:
    snapshot.delete(lab, name)


def volumes(lab: Lab) -> list[Path]:
    """The files of the cluster's own disks."""
    folder = registry.folder(lab.name) / POOL
    return sorted(folder.glob(f"{PREFIX}*")) if folder.is_dir() else []


def _restore_volumes(lab: Lab, saved: Snapshot, machines: Iterable[Machine]) -> None:
    """Those that no machine had at the time; what came since goes."""
    attached = {path for machine in machines for path in machine.disks}
    loose = {file.name for file in (saved.folder / VOLUMES).iterdir()}
    pool = registry.folder(lab.name) / POOL
    for file in volumes(lab):
        if str(file) not in attached and file.name not in loose:
            file.unlink()
    for name in sorted(loose):
        copy(saved.folder / VOLUMES / name, pool / f".{name}.coming")
        (pool / f".{name}.coming").rename(pool / name)


def _check_shape(lab: Lab, saved: Snapshot, nodes: list[str]) -> None:
    if nodes != saved.nodes:
        raise SnapshotError(
            f"lab {lab.name} has now the nodes {', '.join(nodes)}, and snapshot {saved.name} is of "
            f"{', '.join(saved.nodes)}: bring the lab to that shape first (./sampan up --backend libvirt "
            f"--name {lab.name} --workers N)"
        )


def _set_by_ssh(lab: Lab, place: Place, seconds: float) -> None:
    folder = registry.folder(lab.name)
    known = host_keys((folder / registry.KNOWN_HOSTS).read_text(), place.node.address_v4)
    machine = Ssh(place.node.name, place.node.address_v4, key=(folder / registry.SSH_KEY).read_bytes(), host_keys=known)
    try:
        machine.wait(30.0, lambda text: None)
        machine.run(["date", "--set", f"@{time.time():.3f}"])
    finally:
        machine.close()


def host_keys(known_hosts: str, address: str) -> tuple[str, ...]:
    """`ssh-ed25519 AAAA…` of those lines whose names have the address (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT)."""
    lines = (line.split(maxsplit=1) for line in known_hosts.splitlines() if line.strip())
    return tuple(key for names, key in lines if address in names.split(","))


def _restart_cloud_controller(lab: str) -> None:
    """What it remembers of the cluster is of a time that has not been."""
    seen = services.status(cloud.service(lab))
    if seen is not None and seen.pid:
        processes.end([seen.pid], timeout_s=END_TIMEOUT_S)


def _places(lab: Lab) -> list[Place]:
    connections: dict[str, Any] = {}
    found = []
    for node in lab.topology.nodes:
        uri = node.hypervisor or lab.uri
        if "+" in uri.partition(":")[0]:
            raise SnapshotError(
                f"node {node.name} is on {uri}: snapshots are of labs whose machines are on this host, whose disks "
                "are its files"
            )
        connection = connections.setdefault(uri, None) or binding.connect(uri)
        connections[uri] = connection
        name = domain_name(lab.name, node.name)
        try:
            found.append(Place(node, uri, connection, connection.lookupByName(name)))
        except libvirt.libvirtError as error:
            raise SnapshotError(f"node {node.name} has no machine {name} at {uri}: `./sampan up` makes it") from error
    return found


def _by_uri(places: list[Place]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for place in places:
        found.setdefault(place.uri, []).append(place.domain.name())
    return found


def _existing(name: str) -> Lab:
    lab = registry.read(name)
    if lab is None:
        raise SnapshotError(f"there is no lab {name} of virtual machines; `./sampan up --backend libvirt` makes one")
    return lab
