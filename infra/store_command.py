"""`./sampan store`: back up, restore and check the store of a lab, from this machine.

The work is done on the control-plane node by its own `sampan store` (orchestrator/cli/store.py), which knows where its
store is; here the file is carried there or back, and the API server stands still while a restore needs it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from infra import nodes, readiness
from infra.install.components import api_server_process
from infra.local.layout import Layout
from infra.progress import Steps

PLACE = "/var/lib/sampan/.backup"  # on the node, while the file is carried; root's, as the folder is

app = typer.Typer(no_args_is_help=True, help="Back up, restore and check a lab's store.")
Lab = Annotated[str, typer.Option("--name", help="Which lab.")]
DEFAULT_LAB = "lab"


@app.command()
def backup(file: Annotated[Path, typer.Argument(dir_okay=False)], lab: Lab = DEFAULT_LAB) -> None:
    """Write the store as it is at one moment to FILE; the API server goes on. It has the lab's secrets in it."""
    reached, node = nodes.of(lab), nodes.topology(lab).control_plane.name
    with carried(reached, node):
        reached.run(node, ["sampan", "store", "backup", PLACE])
        data = reached.run(node, ["cat", PLACE])
    new = file.with_name(f".{file.name}.new")
    try:
        new.touch(mode=0o600)
        new.write_bytes(data)
        new.replace(file)
    finally:
        new.unlink(missing_ok=True)
    print(f"{file}: the store of lab {lab}, {len(data) / 1e6:.1f} MB")


@app.command()
def restore(file: Annotated[Path, typer.Argument(exists=True, dir_okay=False)], lab: Lab = DEFAULT_LAB) -> None:
    """Put the backup FILE in the place of the lab's store, and start the API server again. What the store has is lost;
    nodes, containers and volumes stay, and follow what the store says."""
    show, reached, topology = Steps(), nodes.of(lab), nodes.topology(lab)
    node, process = topology.control_plane.name, api_server_process(topology)
    data = file.read_bytes()
    with carried(reached, node):
        reached.run(node, ["sh", "-c", f"umask 077; cat > {PLACE}"], stdin=data)
        with show.step(f"{process} stopped"):
            reached.component(node, process, "stop")
        try:
            with show.step("store restored"):
                said = reached.run(node, ["sampan", "store", "restore", PLACE])
        finally:
            with show.step(f"{process} started"):
                reached.component(node, process, "start")
                asyncio.run(readiness.wait_api(Layout(lab).kubeconfig))
    print(said.decode().replace(PLACE, str(file)).strip())


@app.command()
def check(lab: Lab = DEFAULT_LAB) -> None:
    """Say whether the lab's store is sound."""
    print(nodes.of(lab).run(nodes.topology(lab).control_plane.name, ["sampan", "store", "check"]).decode().strip())


@contextmanager
def carried(reached: nodes.Nodes, node: str) -> Iterator[None]:
    """The file on the node is gone afterwards."""
    try:
        yield
    finally:
        reached.run(node, ["rm", "-f", PLACE])
