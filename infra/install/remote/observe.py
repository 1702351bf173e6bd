"""What a machine has, for a plan: {"paths": [...], "folders": [...], "units": [...], "settings": [...]} -> facts.

Facts are what infra/install/facts.py reads. A path that is not there is left out.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

INPUTS = b"SAMPAN_INPUTS="


def file(path: str) -> dict[str, Any] | None:
    try:
        seen = os.lstat(path)
        if not stat.S_ISREG(seen.st_mode):
            return None
        digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        return None
    return {"sha256": digest, "mode": stat.S_IMODE(seen.st_mode), "user": seen.st_uid, "group": seen.st_gid}


def folder(path: str) -> list[int] | None:
    """Owner, group and mode."""
    try:
        seen = Path(path).stat()
    except OSError:
        return None
    return [seen.st_uid, seen.st_gid, stat.S_IMODE(seen.st_mode)] if stat.S_ISDIR(seen.st_mode) else None


def units(names: list[str]) -> dict[str, dict[str, str]]:
    """Each unit's state, whether it starts at boot, and of what its process was started (SAMPAN_INPUTS)."""
    wanted = ["ActiveState", "UnitFileState", "MainPID", "Id"]
    command = ["systemctl", "show", f"--property={','.join(wanted)}", *names]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found = {}
    for block in said.strip().split("\n\n"):
        pairs = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if name := pairs.get("Id"):
            found[name] = {
                "active": pairs.get("ActiveState", ""),
                "enabled": pairs.get("UnitFileState", ""),
                "inputs": inputs(pairs.get("MainPID", "0")),
            }
    return found


def inputs(pid: str) -> str:
    try:
        environment = Path("/proc", pid, "environ").read_bytes().split(b"\0")
    except OSError:
        return ""
    return next((entry[len(INPUTS) :].decode() for entry in environment if entry.startswith(INPUTS)), "")


def text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def link(path: str) -> str:
    try:
        return str(Path(path).readlink())
    except OSError:
        return ""


def program(name: str) -> bool:
    return any(os.access(f"{place}/{name}", os.X_OK) for place in ("/usr/bin", "/usr/sbin", "/bin", "/sbin"))


def main() -> None:
    wish = json.load(sys.stdin)
    facts = {
        "files": {path: there for path in wish["paths"] if (there := file(path))},
        "folders": {path: owner for path in wish["folders"] if (owner := folder(path))},
        "units": units(wish["units"]),
        "ours": sorted(path.name for path in Path("/etc/systemd/system").glob("sampan-*.service")),
        "accounts": text("/etc/passwd"),
        "ranges": [text("/etc/subuid"), text("/etc/subgid")],
        "lingers": Path("/var/lib/systemd/linger/sampan").exists(),
        "settings": {name: text(f"/proc/sys/{name}").strip() for name in wish["settings"]},
        "release": link("/opt/sampan/src"),
        "releases": sorted(path.name for path in Path("/opt/sampan/releases").glob("*")),
        "python": sys.implementation.cache_tag,
        "system": text("/etc/os-release"),
        "init": text("/proc/1/comm").strip(),
        "unified": Path("/sys/fs/cgroup/cgroup.controllers").exists(),
        "lacking": [name for name in wish["programs"] if not program(name)],
    }
    print(json.dumps(facts))


main()
