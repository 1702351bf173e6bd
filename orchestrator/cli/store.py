"""`sampan store backup|restore|check`: looking after the SQLite store of a control-plane node, on that node.

The store's path is that of the API server's configuration, unless `--path` says another. With etcd its own tools do
this: etcdctl snapshot.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer
import yaml

from orchestrator.store import upkeep
from orchestrator.store.interface import StoreFailed

app = typer.Typer(no_args_is_help=True, help="Back up, restore and check the store.")
CONFIG = Path("/etc/sampan/api-server.yaml")
T = TypeVar("T")
DEFAULT = "/var/lib/sampan/store/store.db"

Store = Annotated[Path | None, typer.Option("--path", help="The store's file; default: as the API server has it.")]


def _path(given: Path | None) -> Path:
    if given is not None:
        return given
    configured = yaml.safe_load(CONFIG.read_text()) if CONFIG.exists() else {}
    if configured.get("etcd_servers"):
        raise StoreFailed("the store is etcd: use etcdctl snapshot save and restore")
    return Path(configured.get("store_path") or DEFAULT)


@app.command()
def backup(file: Path, path: Store = None) -> None:
    """Write a backup to FILE; the server may go on."""
    revision = _carried_out(lambda: upkeep.backup(_path(path), file))
    print(f"{file}: the store at revision {revision}")


@app.command()
def restore(file: Path, path: Store = None) -> None:
    """Put the backup FILE in the place of the store; the API server must be stopped."""
    revision = _carried_out(lambda: upkeep.restore(file, _path(path)))
    print(f"{file} is restored; the store goes on from revision {revision}")


@app.command()
def check(path: Store = None) -> None:
    """Say whether the store's file is sound."""
    file = _carried_out(lambda: _path(path))
    damage = _carried_out(lambda: upkeep.check(file))
    if damage:
        sys.exit(f"{file} is damaged:\n" + "\n".join(f"  {line}" for line in damage))
    print(f"{file} is sound, at revision {upkeep.revision(file)}")


def _carried_out(work: Callable[[], T]) -> T:
    try:
        return work()
    except StoreFailed as error:
        sys.exit(f"sampan: {error}")
