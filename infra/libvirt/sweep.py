"""What a killed command made and Pulumi's state never learned of: found by the provider's marks, and taken away.

The next `up` adopts such things; a `down` has no use for them. Only what carries the mark of this stack of this
machine's state is touched.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec

from infra.provider import binding, journal, marks


def sweep(uri: str, lab: str, project: str, stack: str) -> list[str]:
    """What was still there, by kind and name."""
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
        record = journal.folder() / f"{journal.key(uri, pool.name())}.json"
        if pool.name() == lab and record.exists() and _is_recorded(record.read_bytes(), urns):
            found.append(f"pool {lab}")
            _remove(pool, uri)
    return found


def is_ours(description: str, urns: str) -> bool:
    """By the mark in the XML of a network or a domain; `urns` is how the URNs of the stack begin."""
    mark = marks.find(description)
    return mark is not None and mark.urn.startswith(urns) and mark.origin == marks.origin()


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
