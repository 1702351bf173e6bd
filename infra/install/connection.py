"""How install steps reach a machine: run a command, lay down files. A namespace node and an SSH host answer alike."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from infra.local.control import Shell


@dataclass(frozen=True, kw_only=True)
class File:
    """A file as it shall be on the machine. Owners are numbers there."""

    path: str
    content: bytes
    mode: int = 0o644
    user_id: int = 0
    group_id: int = 0


class SshError(RuntimeError):
    """The machine cannot be reached, or not as it was known."""


class CommandError(RuntimeError):
    """A command ended with an error. `said` is the end of its output."""

    def __init__(self, node: str, command: Sequence[str], code: int, said: str) -> None:
        self.node, self.command, self.code, self.said = node, " ".join(command), code, said
        super().__init__(f"on node {node}: {self.command}: exit code {code}: {said}")


class Connection(Protocol):
    """`run` raises RuntimeError with the machine's name, the command and what it said; both are safe to repeat."""

    def run(self, command: Sequence[str], stdin: bytes | None = None) -> bytes: ...

    def put(self, files: Sequence[File]) -> None: ...


def tar_of(files: Sequence[File]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for file in files:
            header = tarfile.TarInfo(file.path.lstrip("/"))
            header.size, header.mode = len(file.content), file.mode
            header.uid, header.gid = file.user_id, file.group_id
            archive.addfile(header, io.BytesIO(file.content))
    return buffer.getvalue()


@dataclass(frozen=True)
class NamespaceNode:
    """A node of a lab on this machine; commands enter its namespaces as root."""

    shell: Shell

    def run(self, command: Sequence[str], stdin: bytes | None = None) -> bytes:
        return self.shell.run(command, stdin=stdin)

    def put(self, files: Sequence[File]) -> None:
        """One command for all files; tar removes a file before it writes the new one."""
        if files:
            self.run(["tar", "--extract", "--numeric-owner", "--same-owner", "--file=-", "-C", "/"], tar_of(files))
