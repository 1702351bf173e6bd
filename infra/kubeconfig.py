"""The user's own kubeconfig: a lab's context is added to it and removed from it, everything else stays as it is.

Which file: the one given, else the first that $KUBECONFIG names, else ~/.kube/config, as kubectl does. The file is
replaced whole, by a rename, and readable by its owner alone. Pure: merged and without.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

_LISTS = ("clusters", "users", "contexts")
Config = dict[str, Any]


def context(lab: str) -> str:
    return f"sampan-{lab}"


def default_file() -> Path:
    named = [part for part in os.environ.get("KUBECONFIG", "").split(":") if part]
    return Path(named[0]) if named else Path.home() / ".kube/config"


def without(config: Config, name: str) -> Config:
    kept: Config = dict(config)
    for part in _LISTS:
        if part in config:
            kept[part] = [entry for entry in config[part] or [] if entry.get("name") != name]
    if kept.get("current-context") == name:
        kept["current-context"] = ""
    return kept


def merged(config: Config, lab: Config) -> Config:
    """`lab` has one cluster, user and context, all of one name; it becomes the current context."""
    name = lab["current-context"]
    result = without(config, name)
    for part in _LISTS:
        result[part] = [*(result.get(part) or []), *lab[part]]
    return {"apiVersion": "v1", "kind": "Config", **result, "current-context": name}


def add(file: Path, lab: Config) -> None:
    _replace(file, merged(_read(file), lab))


def remove(file: Path, lab: str) -> None:
    config = _read(file)
    if any(entry.get("name") == context(lab) for part in _LISTS for entry in config.get(part) or []):
        _replace(file, without(config, context(lab)))


def share(config: Config, user_file: Path, noted: Path) -> None:
    """Adds a lab's context to a user's file, and a line to `noted`, the lab's list of such files."""
    add(user_file, config)
    before = noted.read_text().splitlines() if noted.exists() else []
    noted.write_text("".join(f"{file}\n" for file in sorted({*before, str(user_file.resolve())})))


def withdraw(lab: str, noted: Path) -> None:
    """Takes the lab's context out of each file of the list."""
    for file in noted.read_text().splitlines() if noted.exists() else ():
        remove(Path(file), lab)


def _read(file: Path) -> Config:
    if not file.exists():
        return {}
    data = yaml.safe_load(file.read_text()) or {}
    if not isinstance(data, dict):
        raise ValueError(f"{file}: is no kubeconfig; move it away or use --kubeconfig FILE")
    return data


def _replace(file: Path, config: Config) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f".{file.name}.sampan")
    new.touch(mode=0o600)
    new.write_text(yaml.safe_dump(config, sort_keys=False))
    new.rename(file)
