"""`sampan toolchain`: which tools the VM lab uses and from where; `--shell`: a shell in which they work by hand."""

from __future__ import annotations

import json
import os
import platform
import sys
from importlib import metadata
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from infra.images.tree import Progress
from infra.progress import console
from infra.toolchain import checkpoint, environment, launchers, stack_lock, whole
from infra.toolchain.whole import Toolchain

app = typer.Typer(help=__doc__)


@app.callback(invoke_without_command=True)
def show(
    shell: Annotated[
        bool,
        typer.Option("--shell", help='Print exports: eval "$(./sampan toolchain --shell)", then pulumi and virsh.'),
    ] = False,
    output: Annotated[str, typer.Option("--output", "-o", help="table or json")] = "table",
) -> None:
    """Bring the VM lab's tools where they are missing (minutes, once), and show what is used and from where.

    Stacks that a killed command left locked are free afterwards.
    """
    if output not in ("table", "json"):
        raise ValueError(f"--output is {output!r}; it must be table or json")
    found = whole.ensure(_note)
    mend(found.environment["PULUMI_BACKEND_URL"], _note)
    if shell:
        sys.stdout.write(environment.shell(found.environment))
    elif output == "json":
        print(json.dumps(described(found), indent=2))
    else:
        _table(described(found))


def mend(backend_url: str, say: Progress) -> None:
    """Stacks that killed commands have left locked, or with half a state: what `./sampan up` does for its own stack,
    plain pulumi would only complain of. What is being made by a living command is left alone."""
    for project, stack in stack_lock.stale_stacks(backend_url):
        killed = stack_lock.release_stale(backend_url, project, stack)
        checkpoint.recover(backend_url, project, stack)
        who = ", ".join(str(lock.pid) for lock in killed)
        say(
            f"stack {stack} of {project}: a command was killed (process {who}): the next pulumi up goes on where it was"
        )


def _note(words: str) -> None:
    console.print(f"   [dim]{words}[/]")


def described(found: Toolchain) -> dict[str, dict[str, str]]:
    """One entry a tool: version, origin, path."""
    return {
        "pulumi": {"version": found.version, "origin": found.origin, "path": str(found.pulumi)},
        "language host": _companion(found, launchers.LANGUAGE_HOST),
        "dynamic provider": _companion(found, launchers.DYNAMIC_PROVIDER),
        "libvirt provider": _provider(found),
        "python": {"version": platform.python_version(), "origin": "runs Sampan", "path": sys.executable},
        "pulumi SDK": {"version": metadata.version("pulumi"), "origin": "PyPI", "path": ""},
        "hypervisor": {
            "version": "",
            "origin": f"{found.hypervisor.origin}, domains of type {found.hypervisor.domain_type}",
            "path": found.hypervisor.uri,
        },
        "state": {
            "version": "",
            "origin": "PULUMI_BACKEND_URL",
            "path": found.environment["PULUMI_BACKEND_URL"],
        },
    }


def _companion(found: Toolchain, name: str) -> dict[str, str]:
    official = name in launchers.companions(found.pulumi)
    folder = found.pulumi.resolve().parent if official else found.bin
    version = found.version if official else metadata.version("pulumi")
    return {"version": version, "origin": "Pulumi's own" if official else "Sampan's", "path": str(folder / name)}


def _provider(found: Toolchain) -> dict[str, str]:
    if chosen := os.environ.get(launchers.PROVIDER_CHOICE):
        return {"version": "", "origin": f"{launchers.PROVIDER_CHOICE} of the environment", "path": chosen}
    path = str(found.bin / launchers.LIBVIRT_PROVIDER)
    return {"version": metadata.version("pulumi-libvirt"), "origin": "Sampan's", "path": path}


def _table(entries: dict[str, dict[str, str]]) -> None:
    table = Table("TOOL", "VERSION", "ORIGIN", "PATH", box=None, pad_edge=False, header_style="bold")
    for name, entry in entries.items():
        table.add_row(name, entry["version"], entry["origin"], entry["path"])
    wide = None if sys.stdout.isatty() else 200
    Console(highlight=False, soft_wrap=True, width=wide).print(table)
