"""What a lab has that Pulumi's state does not know, because a command was killed or the state is gone: found by the
provider's marks and by the lab's own names on this machine, and taken away.

The next `up` adopts such things; a `down` has no use for them. Only what carries the mark of this stack of this
machine's state is touched.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec

from infra.hypervisor import services
from infra.install.cloud import table
from infra.libvirt import clashes, cloud
from infra.provider import binding, journal, marks
from infra.provider.pool import Pool, mark_of
from infra.topology import LIBVIRT, Topology

HYPERVISORS_MAX = 16
POOLS = ("pool", *(f"pool-{number}" for number in range(1, HYPERVISORS_MAX)))  # resources (infra/libvirt/program.py)


def sweep(uri: str, lab: str, project: str, stack: str) -> list[str]:
    """What was still there on a hypervisor, by kind and name."""
    urns = f"urn:pulumi:{stack}::{project}::"
    connection = binding.connect(uri)
    found = []
    for kind, things in (("machine", connection.listAllDomains()), ("network", connection.listAllNetworks())):
        for thing in things:
            if is_ours(thing.XMLDesc(), urns):
                found.append(f"{kind} {thing.name()}")
                if thing.isActive():
                    thing.destroy()
                thing.undefine()
    for pool in connection.listAllStoragePools():
        if pool.name() == lab and _is_our_pool(pool, uri, urns):
            found.append(f"pool {lab}")
            _remove(pool, uri)
    return found


def end_controller(lab: str, uri: str, netns: str, topology: Topology | None) -> list[str]:
    """The lab's cloud controller on this machine. Before the network goes, which tells the place of a lab that this
    machine's register has lost (`topology` is None then)."""
    if services.status(cloud.service(lab)) is None:
        return []
    if topology is None:
        index = clashes.place_of(lab, clashes.of_hypervisor(uri))
        topology = Topology(name=lab, index=index or 0, backend=LIBVIRT) if index is not None else None
    if topology is None:
        services.stop_service(cloud.service(lab))
    else:
        cloud.end(lab, netns, table(topology))
    return [f"service {cloud.service(lab)}"]


def is_ours(description: str, urns: str) -> bool:
    """By the mark in the XML of a network or a domain; `urns` is how the URNs of the stack begin."""
    mark = marks.find(description)
    return mark is not None and mark.urn.startswith(urns) and mark.origin == marks.origin()


def _is_our_pool(pool: Any, uri: str, urns: str) -> bool:
    """By its record in the journal, or, where that has gone with the state, by its UUID (infra/provider/pool.py)."""
    record = journal.folder() / f"{journal.key(uri, pool.name())}.json"
    if record.exists() and _is_recorded(record.read_bytes(), urns):
        return True
    return any(pool.UUIDString() == mark_of(f"{urns}{Pool.token}::{name}", pool.name()) for name in POOLS)


def _is_recorded(content: bytes, urns: str) -> bool:
    record = msgspec.json.decode(content, type=journal.Record)
    return record.urn.startswith(urns) and record.origin == marks.origin()


def _remove(pool: Any, uri: str) -> None:
    """The pool is the lab's own folder, and all that is in it the lab's. It may have gone with the lab's folder."""
    target = ElementTree.fromstring(pool.XMLDesc()).findtext("target/path") or ""
    if pool.isActive() and Path(target).is_dir():
        pool.refresh()
        for volume in pool.listAllVolumes():
            journal.end(journal.key(uri, pool.name(), volume.name()))
            volume.delete()
    if pool.isActive():
        pool.destroy()
    journal.end(journal.key(uri, pool.name()))
    pool.undefine()
