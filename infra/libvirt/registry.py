"""Which labs this machine has: LABS/<name>/lab.json, one file a lab of whatever backend, is the register.

A lab of virtual machines is claimed by the first resource of its stack and released by the last, so that two stacks
never get one name or one index, from which node networks and MACs follow. An index is looked for before it is claimed,
because every address in the program depends on it; a claim that comes too late is refused and nothing is made.
Errors: Claimed, with who has it and what to do.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from infra.local.layout import LABS
from infra.locks import locked
from infra.topology import LAB_INDEX_MAX, LIBVIRT, LOCAL, Topology

KUBECONFIG, SSH_KEY, KNOWN_HOSTS = "admin.kubeconfig", "ssh", "known_hosts"  # files of a lab's folder
CONSOLE = "console"  # folder with what each machine said on its serial port
INSTALLED = "installed"  # folder with one empty file for each such node


class Claimed(RuntimeError):
    """The name or the place is somebody else's."""


@dataclass(frozen=True, kw_only=True)
class Lab:
    """What lab.json says of a lab of virtual machines. `folder`: where its Pulumi project is."""

    topology: Topology
    project: str
    stack: str
    folder: str
    uri: str = ""  # of the hypervisor of those nodes that name no other
    image: Mapping[str, str] = field(default_factory=dict)  # what its machines boot: disk, kernel, initrd, cmdline
    backend: str = LIBVIRT

    @property
    def name(self) -> str:
        return self.topology.name


def folder(name: str) -> Path:
    return LABS / name


def backend(name: str) -> str | None:
    """The backend of the lab of that name; None where there is none."""
    data = _data(name)
    return None if data is None else str(data.get("backend", LOCAL))


def read(name: str) -> Lab | None:
    """None where there is no lab of virtual machines of that name."""
    data = _data(name)
    if data is None or data.get("backend") != LIBVIRT:
        return None
    return Lab(**{**data, "topology": Topology.from_data(data["topology"])})


def labs() -> list[Lab]:
    found = (read(file.parent.name) for file in sorted(LABS.glob("*/lab.json")))
    return [lab for lab in found if lab is not None]


def place(name: str, taken: Collection[int] = ()) -> int:
    """The lab's index; that of a new one is the lowest that no lab has and that is not `taken` by other networks."""
    indices = {lab.name: lab.topology.index for lab in labs()}
    if name in indices:
        return indices[name]
    for index in range(LAB_INDEX_MAX + 1):
        if index not in indices.values() and index not in taken:
            return index
    raise Claimed(
        f"all {LAB_INDEX_MAX + 1} places for labs of virtual machines are taken on this machine "
        f"({', '.join(indices) or 'by other networks of libvirt'}): take one down (./sampan down --name NAME)"
    )


def claim(wish: Lab) -> None:
    """Take name and index, or change what is written of a lab that is this stack's already."""
    with exclusive():
        data = _data(wish.name)
        if data is not None and data.get("backend", LOCAL) != LIBVIRT:
            raise Claimed(
                f"name: {wish.name!r}: is that of a {data.get('backend', LOCAL)} lab of this machine: choose another "
                f"name (pulumi config set sampan:name NAME), or ./sampan down --name {wish.name}"
            )
        known = read(wish.name)
        if known is not None and (known.project, known.stack) != (wish.project, wish.stack):
            raise Claimed(
                f"name: {wish.name!r}: is that of stack {known.stack} of project {known.project}: choose another name "
                f"(pulumi config set sampan:name NAME), or ./sampan down --name {wish.name}"
            )
        for other in labs():
            if other.name != wish.name and other.topology.index == wish.topology.index:
                raise Claimed(
                    f"index: {wish.topology.index}: lab {other.name} has taken that place, and with it the node "
                    f"network {wish.topology.node_network_v4}: run it again for another place"
                )
        own = folder(wish.name)
        own.mkdir(parents=True, exist_ok=True)
        own.chmod(0o711)
        (own / CONSOLE).mkdir(exist_ok=True)
        new = own / ".lab.json.new"
        new.write_text(json.dumps(asdict(wish), indent=1))
        new.rename(own / "lab.json")


def release(name: str, project: str, stack: str) -> bool:
    """The lab's folder goes, if it is this stack's, or has lost its lab.json; whether it was there."""
    with exclusive():
        known = read(name)
        if known is not None:
            is_ours = (known.project, known.stack) == (project, stack)
        else:
            is_ours = backend(name) is None and (folder(name) / CONSOLE).is_dir()
        if is_ours:
            shutil.rmtree(folder(name))
        with suppress(OSError):  # other labs are there
            LABS.rmdir()
        return is_ours


def installed(name: str) -> set[str]:
    """The nodes that were once Ready: what changes on those is changed one node at a time."""
    return {file.name for file in (folder(name) / INSTALLED).glob("*")}


def note_installed(name: str, node: str, *, is_so: bool) -> None:
    mark = folder(name) / INSTALLED / node
    if is_so:
        mark.parent.mkdir(exist_ok=True)
        mark.touch()
    else:
        mark.unlink(missing_ok=True)


def exclusive() -> AbstractContextManager[None]:
    """One at a time on this machine; the lock is the one that the local backend takes."""
    return locked(LABS)


def _data(name: str) -> dict[str, Any] | None:
    try:
        data: dict[str, Any] = json.loads((folder(name) / "lab.json").read_text())
    except FileNotFoundError:
        return None
    return data
