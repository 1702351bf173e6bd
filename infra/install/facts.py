"""What was seen on a machine, as infra/install/remote/observe.py tells it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.install.connection import Connection, File
from infra.install.machine import digest

REMOTE = Path(__file__).with_name("remote")


@dataclass(frozen=True, kw_only=True)
class SeenUnit:
    is_active: bool
    is_enabled: bool
    inputs: str  # what its running process was started of; empty where none runs


@dataclass(frozen=True, kw_only=True)
class Facts:
    files: Mapping[str, tuple[str, int, int, int]]  # path -> sha256, mode, user, group
    folders: Mapping[str, tuple[int, int, int]]  # path -> user, group, mode
    units: Mapping[str, SeenUnit]
    our_units: tuple[str, ...]  # sampan-*.service that are laid down
    users: Mapping[str, int]
    ranges: tuple[str, str]  # /etc/subuid and /etc/subgid
    lingers: bool
    settings: Mapping[str, str]
    release: str  # where /opt/sampan/src points to
    releases: tuple[str, ...]
    python: str  # cpython-313
    system: str  # ID and VERSION_ID of os-release(5)
    init: str  # name of process 1
    has_cgroup2: bool
    lacking: tuple[str, ...]  # programs that are not there

    def has(self, file: File) -> bool:
        return self.files.get(file.path) == (digest(file), file.mode, file.user_id, file.group_id)


def program(name: str) -> list[str]:
    """The command that runs one of infra/install/remote; it reads JSON and prints JSON."""
    return ["python3", "-I", "-S", "-c", (REMOTE / f"{name}.py").read_text()]


def observe(
    connection: Connection, paths: Sequence[str], folders: Sequence[str], units: Sequence[str],
    settings: Sequence[str], programs: Sequence[str],
) -> Facts:  # fmt: skip
    wish = {"paths": paths, "folders": folders, "units": units, "settings": settings, "programs": programs}
    return parse(connection.run(program("observe"), json.dumps(wish).encode()))


def parse(output: bytes) -> Facts:
    seen = json.loads(output)
    about = dict(line.split("=", 1) for line in seen["system"].splitlines() if "=" in line)
    accounts = (line.split(":") for line in seen["accounts"].splitlines())
    return Facts(
        files={path: (f["sha256"], f["mode"], f["user"], f["group"]) for path, f in seen["files"].items()},
        folders={path: (owner[0], owner[1], owner[2]) for path, owner in seen["folders"].items()},
        units={
            name: SeenUnit(
                is_active=unit["active"] == "active", is_enabled=unit["enabled"] == "enabled", inputs=unit["inputs"]
            )
            for name, unit in seen["units"].items()
        },
        our_units=tuple(seen["ours"]),
        users={fields[0]: int(fields[2]) for fields in accounts if len(fields) > 3},
        ranges=(seen["ranges"][0], seen["ranges"][1]),
        lingers=seen["lingers"],
        settings=seen["settings"],
        release=seen["release"],
        releases=tuple(seen["releases"]),
        python=seen["python"],
        system=f"{about.get('ID', '?')} {about.get('VERSION_ID', '?')}".replace('"', ""),
        init=seen["init"],
        has_cgroup2=seen["unified"],
        lacking=tuple(seen["lacking"]),
    )
