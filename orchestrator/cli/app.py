"""`sampan COMPONENT --config FILE`: every component by its name, and `server` and `node`, which combine them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from orchestrator.cli import importing

with importing.quickly():
    import typer

    from orchestrator.api.settings import SettingsError
    from orchestrator.cli import combined, logs, process, store

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
app.add_typer(store.app, name="store")

ConfigFile = Annotated[Path, typer.Option("--config", exists=True, dir_okay=False, help="The component's YAML file.")]
ConfigFolder = Annotated[
    Path, typer.Option("--config", exists=True, file_okay=False, help="Folder with a YAML file a component.")
]
LogLevel = Annotated[str, typer.Option(help="debug, info, warning or error")]


def _add(component: str) -> None:
    def start(config: ConfigFile = Path(f"/etc/sampan/{component}.yaml"), log_level: LogLevel = "info") -> None:
        logs.configure(log_level)
        module, settings = process.load(component, config)
        process.run(module.run(settings))

    app.command(component, help=f"Run the {component} alone.")(start)


for _component in process.MODULES:
    _add(_component)


@app.command("server", help="Run API server, scheduler and controllers in one process.")
def server(config: ConfigFolder = Path("/etc/sampan"), log_level: LogLevel = "info") -> None:
    logs.configure(log_level)
    process.run(combined.server(config))


@app.command("node", help="Run porter, proxy and DNS of a node in one process.")
def node(config: ConfigFolder = Path("/etc/sampan"), log_level: LogLevel = "info") -> None:
    logs.configure(log_level)
    process.run(combined.node(config))


def main() -> None:
    try:
        app()
    except SettingsError as error:
        sys.exit(f"sampan: {error}")
