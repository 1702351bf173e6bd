"""`sampan snapshot`: keep a whole lab as it is now, and go back to it."""

from __future__ import annotations

import importlib
import json
from dataclasses import asdict
from typing import Annotated, Protocol, cast

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from infra import snapshot
from infra.libvirt import registry
from infra.progress import Steps
from infra.snapshot import Snapshot, SnapshotError
from infra.topology import LIBVIRT, LOCAL


class Backend(Protocol):
    """Lab, snapshot, progress."""

    def save(self, name: str, as_name: str, show: Steps) -> Snapshot: ...
    def restore(self, name: str, from_name: str, show: Steps) -> Snapshot: ...
    def delete(self, lab: str, name: str) -> None: ...


# Imported when needed: what a backend needs (libvirt's binding) is not on every machine.
BACKENDS = {LOCAL: "infra.snapshot_local", LIBVIRT: "infra.snapshot_libvirt"}
app = typer.Typer(no_args_is_help=True, help="Keep a whole lab as it is now, and go back to it.")
out = Console(highlight=False, soft_wrap=True)

Lab = Annotated[str, typer.Option("--name", help="Which lab.")]
Output = Annotated[str, typer.Option("--output", "-o", help="table or json")]
Title = Annotated[str, typer.Argument(metavar="NAME", help="The snapshot's name.")]
DEFAULT_LAB = "lab"


@app.command()
def save(title: Title, lab: Lab = DEFAULT_LAB, output: Output = "table") -> None:
    """Keep the running lab: nodes, store, volumes. It stands still for a moment and runs on."""
    backend = backend_of(lab)
    show = Steps()
    made = backend.save(lab, title, show)
    _print(made, output, f"Snapshot [bold]{title}[/] of lab {lab}: {_size(made)}, {show.total_s:.1f} s.")


@app.command()
def restore(title: Title, lab: Lab = DEFAULT_LAB, output: Output = "table") -> None:
    """Put the lab back to a snapshot. What it is now is lost, unless another snapshot has it."""
    backend = backend_of(lab)
    show = Steps()
    saved = backend.restore(lab, title, show)
    text = f"Lab [bold]{lab}[/] is as it was at {saved.created_at} (snapshot {title}), after {show.total_s:.1f} s."
    _print(saved, output, text)


@app.command("list")
def list_snapshots(lab: Lab = DEFAULT_LAB, output: Output = "table") -> None:
    """The lab's snapshots, oldest first."""
    backend_of(lab)
    found = snapshot.listed(lab)
    if output == "json":
        print(json.dumps([asdict(one) for one in found], indent=2))
        return
    table = Table("SNAPSHOT", "CREATED", "SIZE", "NODES", box=None, pad_edge=False, header_style="bold")
    for one in found:
        table.add_row(*map(escape, (one.name, one.created_at, _size(one), str(len(one.nodes)))))
    out.print(table)


@app.command()
def delete(title: Title, lab: Lab = DEFAULT_LAB) -> None:
    """Remove a snapshot; the lab is not touched."""
    backend_of(lab).delete(lab, title)
    out.print(f"Snapshot {title} of lab {lab} is gone.")


def backend_of(lab: str) -> Backend:
    kind = registry.backend(lab)
    if kind is None:
        raise SnapshotError(f"there is no lab {lab!r} on this machine; `./sampan up` makes one")
    if kind not in BACKENDS:
        raise SnapshotError(f"lab {lab} is of machines that you have: their disks are not Sampan's to save")
    return cast(Backend, importlib.import_module(BACKENDS[kind]))


def _print(made: Snapshot, output: str, text: str) -> None:
    if output == "json":
        print(json.dumps(asdict(made), indent=2))
    else:
        out.print(text)


def _size(made: Snapshot) -> str:
    return f"{made.size_bytes / 1e6:.1f} MB"
