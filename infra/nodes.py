"""The nodes of a lab, by its name, whatever they are made of.

Errors: NotRunning where there is no such lab.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from infra import vm_lab
from infra.libvirt import registry
from infra.local import lab
from infra.local.control import Control, NotRunning
from infra.local.layout import LABS, Layout
from infra.topology import Topology


class Nodes(Protocol):
    def running_nodes(self) -> list[str]: ...

    def run(self, node: str, command: Sequence[str], *, user: str = "root", stdin: bytes | None = None) -> bytes:
        """Output of a command. Errors: RuntimeError with node, command, exit code and what it said."""

    def component(self, node: str, name: str, action: Literal["kill", "stop", "start"]) -> None:
        """`kill`: it comes back; `stop`: it has ended and stays away until `start`."""


def of(name: str) -> Nodes:
    return machines(name) or Control(existing(name))


def machines(name: str) -> vm_lab.Machines | None:
    known = vm(name)
    return vm_lab.Machines(known, known.uri) if known is not None else None


def vm(name: str) -> registry.Lab | None:
    """The lab of that name, if it is one of machines, virtual or not; what reaches those is installed then."""
    known = vm_lab.find(name)
    if known is not None:
        vm_lab.ensure_ssh()
    return known


def topology(name: str) -> Topology:
    known = vm_lab.find(name)
    found = known.topology if known is not None else lab.load(existing(name))
    if found is None:
        raise NotRunning(f"lab {name}: its `./sampan up` did not finish; run it again")
    return found


def existing(name: str) -> Layout:
    layout = Layout(name)
    if not layout.lab_file.exists():
        others = ", ".join(file.parent.name for file in sorted(LABS.glob("*/lab.json"))) or "none"
        raise NotRunning(f"there is no lab {name!r} on this machine (there are: {others}); `./sampan up` makes one")
    return layout
