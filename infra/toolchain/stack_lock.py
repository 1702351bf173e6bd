"""The lock that a Pulumi CLI leaves on a stack when it is killed; Pulumi itself wants `pulumi cancel` then.

With a file:// backend a lock is a file that names host and process. One of this host whose process is gone, or is by
now another program, holds nothing: it is removed, and the next update finishes what the killed one began. Any other is
respected, which `pulumi cancel` would not do. Other kinds of backend are left to Pulumi.
Source: pulumi/pkg/backend/diy/lock.go: <state>/.pulumi/locks/organization/<project>/<stack>/<id>.json.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from infra.toolchain.errors import ToolchainError


@dataclass(frozen=True)
class Lock:
    file: Path
    pid: int
    user: str
    host: str
    since: str  # RFC 3339

    def __str__(self) -> str:
        return f"{self.user}@{self.host} (process {self.pid}, since {self.since})"


def release_stale(backend_url: str, project: str, stack: str) -> tuple[Lock, ...]:
    """Remove locks whose holders are gone, and tell which. Raises ToolchainError if another one holds the stack."""
    stale: list[Lock] = []
    for lock in locks(backend_url, project, stack):
        if not is_stale(lock, socket.gethostname(), program_of):
            raise ToolchainError(
                f"stack {stack} of {project} is being changed by {lock}",
                f"wait until that is done; if it is known to be dead: pulumi cancel --stack {stack}",
            )
        stale.append(lock)
    for lock in stale:
        lock.file.unlink(missing_ok=True)
    return tuple(stale)


def stale_stacks(backend_url: str) -> list[tuple[str, str]]:
    """Project and name of each stack that killed commands alone have locked: `release_stale` lets it go."""
    found: dict[tuple[str, str], bool] = {}
    for lock in locks(backend_url, "*", "*"):
        stack = (lock.file.parents[1].name, lock.file.parent.name)
        found[stack] = found.get(stack, True) and is_stale(lock, socket.gethostname(), program_of)
    return [stack for stack, is_all_stale in found.items() if is_all_stale]


def locks(backend_url: str, project: str, stack: str) -> Iterator[Lock]:
    """`*` is any project, any stack."""
    if not backend_url.startswith("file://"):
        return
    root = Path(unquote(backend_url.removeprefix("file://").partition("?")[0])).expanduser()
    for file in sorted((root / ".pulumi/locks/organization").glob(f"{project}/{stack}/*.json")):
        try:
            content = json.loads(file.read_text())
            yield Lock(file, int(content["pid"]), content["username"], content["hostname"], content["timestamp"])
        except (FileNotFoundError, ValueError, KeyError):  # its holder has just removed it, or is writing it
            continue


def is_stale(lock: Lock, this_host: str, program: Callable[[int], str | None]) -> bool:
    """`program`: the name of the program that a process runs, None if there is no such process."""
    return lock.host == this_host and not (program(lock.pid) or "").startswith("pulumi")


def program_of(pid: int) -> str | None:
    try:
        return Path(f"/proc/{pid}/exe").readlink().name
    except OSError:
        return None
