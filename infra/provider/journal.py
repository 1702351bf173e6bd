"""The journal: what this machine's updates were making in a storage pool, kept outside libvirt.

Volumes have no metadata, so a volume that the state does not know could be anybody's. Before one is made, a record is
written; it says whose it is, and whether it was completed (an upload that was cut short is not). The record goes with
the volume. Records are small JSON files, written whole, in Pulumi's home; another machine's are not seen, and then a
volume of that name is foreign.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from infra.provider.marks import digest, origin


@dataclass(frozen=True, slots=True)
class Record:
    urn: str
    origin: str
    complete: bool = False
    definition: str = ""
    made_folder: str = ""  # of a pool: the topmost folder that was not there before


def folder() -> Path:
    home = os.environ.get("PULUMI_HOME")
    return (Path(home) if home else Path.home() / ".pulumi") / "sampan-libvirt"


def key(uri: str, pool: str, volume: str = "") -> str:
    return digest(f"{uri}\0{pool}\0{volume}")


def begin(place: str, urn: str, definition: str, *, made_folder: str = "") -> None:
    _write(place, Record(urn, origin(), False, definition, made_folder))


def complete(place: str, urn: str, definition: str, *, made_folder: str = "") -> None:
    _write(place, Record(urn, origin(), True, definition, made_folder))


def mine(place: str, urn: str) -> Record | None:
    """The record, if it is this resource's of this stack."""
    try:
        record = msgspec.json.decode((folder() / f"{place}.json").read_bytes(), type=Record)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    return record if (record.urn, record.origin) == (urn, origin()) else None


def end(place: str) -> None:
    (folder() / f"{place}.json").unlink(missing_ok=True)


def _write(place: str, record: Record) -> None:
    folder().mkdir(parents=True, exist_ok=True)
    written = folder() / f".{place}.{os.getpid()}"
    written.write_bytes(msgspec.json.encode(record))
    written.replace(folder() / f"{place}.json")
