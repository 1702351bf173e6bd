"""What is attached: one small file a pod, so that a porter that was killed at any instant can undo and go on.

A record is written before the first plugin runs (result None: perhaps half attached) and again with the result. Files
are replaced by rename, so each is one state or the other. The record keeps the network configuration that was in force,
because DEL must be given what ADD was given.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec


class PortMapping(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A container port on the node's own addresses, or on the one that `host_ip` names."""

    host_port: int
    container_port: int
    protocol: str = "TCP"
    host_ip: str = msgspec.field(default="", name="hostIP")


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """`process` names the infra process as pid:start time; `result` is the CNI result once ADD is done."""

    uid: str
    namespace: str
    name: str
    process: str
    network: dict[str, Any]
    ports: tuple[PortMapping, ...] = ()
    result: dict[str, Any] | None = None

    @property
    def ips(self) -> list[str]:
        """In the order of the node's pod CIDRs."""
        found = (self.result or {}).get("ips") or ()
        return [str(entry["address"]).partition("/")[0] for entry in found]

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


class Records:
    """The records of this node, in memory and in their folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._records: dict[str, Record] = {}
        for file in sorted(folder.glob("*.json")):
            try:
                record = msgspec.json.decode(file.read_bytes(), type=Record)
            except msgspec.DecodeError:
                file.unlink()  # cannot come from a rename of ours; nothing can be undone by it
            else:
                self._records[record.uid] = record

    def get(self, uid: str) -> Record | None:
        return self._records.get(uid)

    def all(self) -> list[Record]:
        return sorted(self._records.values(), key=lambda record: record.uid)

    def put(self, record: Record) -> None:
        file = self._folder / f"{record.uid}.json"
        written = file.with_suffix(".new")
        written.write_bytes(msgspec.json.encode(record))
        os.replace(written, file)  # noqa: PTH105
        self._records[record.uid] = record

    def remove(self, uid: str) -> None:
        (self._folder / f"{uid}.json").unlink(missing_ok=True)
        self._records.pop(uid, None)
