"""The cache of built things: the node image and Sampan's own code as the nodes see it.

An entry's name carries a hash of everything that went into it, so an entry is never changed: it is built beside its
place and renamed into it when whole. A lock file lets two builders of one entry wait for each other instead of both
building. Where: $XDG_CACHE_HOME/sampan, else /var/cache/sampan for root and ~/.cache/sampan for others.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from infra.images import tools, tree

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements.lock"
CODE = ("orchestrator", "infra", "templates")
TREE_MODULES = (  # what the node's root tree comes from
    "archive", "containers", "dependencies", "echo_server", "packages", "sources", "store", "tools", "tree",
)  # fmt: skip
KEPT = {
    "node": 1,
    "vm": 1,
    "wheel": 4,
    "code": 4,
    "release": 4,
}  # the newest entries of a kind stay, though no lab uses them


def folder() -> Path:
    if configured := os.environ.get("XDG_CACHE_HOME"):
        return Path(configured, "sampan")
    return Path("/var/cache/sampan") if os.geteuid() == 0 else Path.home() / ".cache/sampan"


def digest(files: Iterable[Path]) -> str:
    total = hashlib.sha256(os.uname().machine.encode())
    for file in sorted(files):
        total.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes())
    return total.hexdigest()[:16]


def once(name: str, build: Callable[[Path], None]) -> Path:
    """The entry, built if it is not there. An interrupted build leaves nothing that would be taken for whole."""
    place = folder() / name
    if place.exists():
        return place
    folder().mkdir(parents=True, exist_ok=True)
    with (folder() / f".{name.partition('-')[0]}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if place.exists():  # another one built it while we waited
            return place
        building = folder() / f".building-{name}"
        _remove(building)
        building.mkdir()
        try:
            build(building)
            building.rename(place)
        except BaseException:
            _remove(building)
            raise
    return place


def node_image(say: tree.Progress) -> Path:
    """The node's root tree; downloads about 130 MB and takes about 40 s the first time."""
    sources = [*((ROOT / "infra/images" / f"{module}.py") for module in TREE_MODULES), LOCK]

    def build(place: Path) -> None:
        tree.build(place / "tree", LOCK, say)
        tools.write(place / "tree", place / "bin")

    return once(f"node-{digest(sources)}", build) / "tree"


def code(node_tree: Path) -> Path:
    """Sampan's code as nodes mount it, compiled by the node's own Python, so that no start pays for compiling."""
    files = code_files()
    name = f"code-{digest(files)}-{node_tree.parent.name[-6:]}"

    def build(place: Path) -> None:
        for file in files:
            target = place / file.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
        compile_code(place, node_tree)

    return once(name, build)


def code_files() -> list[Path]:
    """Sampan's own files, as nodes need them."""
    return [
        file for part in CODE for file in (ROOT / part).rglob("*") if file.is_file() and "__pycache__" not in file.parts
    ]


def prune(in_use: Collection[Path]) -> None:
    """Remove entries that no lab of this machine uses, but for the newest."""
    for kind, kept in KEPT.items():
        entries = sorted(folder().glob(f"{kind}-*"), key=lambda entry: entry.stat().st_mtime)
        for entry in entries[:-kept]:
            if not any(used == entry or entry in used.parents for used in in_use):
                _remove(entry)


def compile_code(place: Path, node_tree: Path) -> None:
    script = (
        'mount --bind "$1" "$2/opt/sampan/src" && '
        'exec chroot "$2" /usr/bin/python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/sampan/src'
    )
    subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "compile", str(place), str(node_tree)],
        check=False,  # a file that does not compile fails where it is imported, with its name
        capture_output=True,
    )


def _remove(entry: Path) -> None:
    if entry.exists():
        shutil.rmtree(entry)
