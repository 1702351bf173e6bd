"""Snapshots of whole labs: their register, the same for every backend. How one is taken is the backend's own matter.

A snapshot is a folder in its lab's: LABS/<lab>/snapshots/<name>/ with snapshot.json and what the backend keeps. It is
made beside its place and renamed into it when whole; it goes with the lab. Errors: SnapshotError.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from infra.local.layout import LABS
from infra.topology import Topology

NAME = re.compile(r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
RECORD = "snapshot.json"
BLOCK_BYTES = 512  # unit of st_blocks


class SnapshotError(RuntimeError):
    """The message names lab and snapshot, and what to do."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    name: str
    lab: str
    backend: str
    created_at: str  # RFC 3339, UTC
    paused_s: float  # how long the lab stood still for it
    size_bytes: int  # on disk
    topology: dict[str, Any]

    @property
    def folder(self) -> Path:
        return folder(self.lab) / self.name

    @property
    def nodes(self) -> list[str]:
        return [node.name for node in Topology.from_data(self.topology).nodes]


def folder(lab: str) -> Path:
    return LABS / lab / "snapshots"


def listed(lab: str) -> list[Snapshot]:
    """Oldest first. What a killed `save` left is not among them."""
    found = [_read(record) for record in folder(lab).glob(f"[!.]*/{RECORD}")]
    return sorted(found, key=lambda snapshot: (snapshot.created_at, snapshot.name))


def find(lab: str, name: str) -> Snapshot:
    record = folder(lab) / check_name(name) / RECORD
    if not record.exists():
        others = ", ".join(snapshot.name for snapshot in listed(lab)) or "none"
        raise SnapshotError(
            f"lab {lab} has no snapshot {name!r} (there are: {others}); `./sampan snapshot save` makes one"
        )
    return _read(record)


def delete(lab: str, name: str) -> None:
    """Renamed first, so that one that is half removed is not taken for whole."""
    found = find(lab, name)
    going = found.folder.with_name(f".{name}.deleted")
    shutil.rmtree(going, ignore_errors=True)
    found.folder.rename(going)
    shutil.rmtree(going)


def check_name(name: str) -> str:
    if not NAME.match(name):
        raise SnapshotError(f"snapshot name {name!r}: must be a DNS label: a-z, 0-9 and -, at most 63 characters")
    return name


@dataclass
class Building:
    """A snapshot that is being made. `folder` takes the backend's files; `paused_s` is for the backend to set."""

    folder: Path
    paused_s: float = 0.0


@contextmanager
def building(lab: str, name: str, topology: Topology) -> Iterator[Building]:
    place = folder(lab) / check_name(name)
    if place.exists():
        raise SnapshotError(
            f"lab {lab} has a snapshot {name!r} already: choose another name, or ./sampan snapshot delete {name}"
        )
    new = place.with_name(f".{name}.new")
    shutil.rmtree(new, ignore_errors=True)  # of one that was killed
    new.mkdir(parents=True)
    new.parent.chmod(0o700)  # it holds whatever the nodes hold
    try:
        made = Building(new)
        yield made
        record = Snapshot(
            name=name,
            lab=lab,
            backend=topology.backend,
            created_at=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            paused_s=round(made.paused_s, 2),
            size_bytes=used_bytes(new),
            topology=topology.to_data(),
        )
        (new / RECORD).write_text(json.dumps(asdict(record), indent=1))
        new.rename(place)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise


def used_bytes(place: Path) -> int:
    return sum(entry.lstat().st_blocks for entry in place.rglob("*")) * BLOCK_BYTES


def _read(record: Path) -> Snapshot:
    data: dict[str, Any] = json.loads(record.read_text())
    return Snapshot(**data)
