"""`sampan COMPONENT --config FILE`: every component by its name, and `server` and `node`, which combine them.

What starts a component is parsed by argparse, which is there at once: Typer takes longer to import than a fifth of a
component (docs/decisions/0015).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

from orchestrator.cli import importing

with importing.quickly():
    from orchestrator.api.settings import SettingsError
    from orchestrator.cli import combined, logs, process, store
    from orchestrator.store.interface import StoreFailed

ETC = Path("/etc/sampan")
LEVELS = ("debug", "info", "warning", "error")


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="sampan", description=__doc__.partition("\n")[0], allow_abbrev=False)
    commands = made.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, help: str, config: Path, config_help: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=help, description=help, allow_abbrev=False)
        command.add_argument("--config", type=Path, default=config, help=f"{config_help} Default: {config}")
        command.add_argument("--log-level", choices=LEVELS, default="info")
        return command

    for name in process.MODULES:
        alone = add(name, f"Run the {name} alone.", ETC / f"{name}.yaml", "The component's YAML file.")
        alone.set_defaults(carry_out=lambda given, name=name: _run(given, _alone(name, given.config)))
    for name, several, help in (
        ("server", combined.server, "Run API server, scheduler and controllers in one process."),
        ("node", combined.node, "Run porter, proxy and DNS of a node in one process."),
    ):
        command = add(name, help, ETC, "Folder with a YAML file a component.")
        command.set_defaults(carry_out=lambda given, several=several: _run(given, several(given.config)))
    store.add(commands)
    return made


async def _alone(component: str, config: Path) -> None:
    module, settings = process.load(component, config)
    await module.run(settings)


def _run(given: argparse.Namespace, work: Coroutine[Any, Any, None]) -> None:
    logs.configure(given.log_level)
    process.run(work)


def main(arguments: Sequence[str] | None = None) -> None:
    """Errors: a message and exit code 2 for a wrong command line, 1 for what it cannot carry out."""
    given = parser().parse_args(arguments)
    try:
        given.carry_out(given)
    except (SettingsError, StoreFailed) as error:
        sys.exit(f"sampan: {error}")
