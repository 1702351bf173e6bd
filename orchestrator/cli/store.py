"""`sampan store backup|restore|check`: looking after the SQLite store of a control-plane node, on that node.

The store's path is that of the API server's configuration, unless `--path` says another. With etcd its own tools do
this: etcdctl snapshot. Errors: StoreFailed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml

from orchestrator.store import upkeep
from orchestrator.store.interface import StoreFailed

CONFIG = Path("/etc/sampan/api-server.yaml")
DEFAULT = "/var/lib/sampan/store/store.db"


def add(commands: Any) -> None:
    """Adds `store` and its commands to those of a parser (argparse has no public name for their type)."""
    help = "Back up, restore and check the store."
    store = commands.add_parser("store", help=help, description=help, allow_abbrev=False)
    below = store.add_subparsers(required=True, metavar="COMMAND")
    for carry_out, has_file in ((backup, True), (restore, True), (check, False)):
        command = below.add_parser(
            carry_out.__name__, help=carry_out.__doc__, description=carry_out.__doc__, allow_abbrev=False
        )
        if has_file:
            command.add_argument("file", type=Path, metavar="FILE")
        command.add_argument("--path", type=Path, help="The store's file. Default: as the API server has it.")
        command.set_defaults(carry_out=carry_out)


def backup(given: argparse.Namespace) -> None:
    """Write a backup to FILE; the server may go on."""
    revision = upkeep.backup(_path(given.path), given.file)
    print(f"{given.file}: the store at revision {revision}")


def restore(given: argparse.Namespace) -> None:
    """Put the backup FILE in the place of the store; the API server must be stopped."""
    revision = upkeep.restore(given.file, _path(given.path))
    print(f"{given.file} is restored; the store goes on from revision {revision}")


def check(given: argparse.Namespace) -> None:
    """Say whether the store's file is sound."""
    file = _path(given.path)
    damage = upkeep.check(file)
    if damage:
        sys.exit(f"{file} is damaged:\n" + "\n".join(f"  {line}" for line in damage))
    print(f"{file} is sound, at revision {upkeep.revision(file)}")


def _path(given: Path | None) -> Path:
    if given is not None:
        return given
    configured = yaml.safe_load(CONFIG.read_text()) if CONFIG.exists() else {}
    if configured.get("etcd_servers"):
        raise StoreFailed("the store is etcd: use etcdctl snapshot save and restore")
    return Path(configured.get("store_path") or DEFAULT)
