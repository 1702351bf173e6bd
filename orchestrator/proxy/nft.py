"""The packet filter, through python-nftables: text commands in, one atomic transaction each.

libnftables is synchronous and its memory is charged to the process that calls it, so a large batch (the full sync at
start) runs in a short-lived child that gives the memory back; a small one runs in a thread.
Errors: NftError carries what nft said and the first command of the batch.
"""

from __future__ import annotations

import asyncio
import importlib
import shutil
import sys
from typing import Any, Protocol

from orchestrator.proxy.ruleset import TABLE

DIST_PACKAGES = "/usr/lib/python3/dist-packages"  # where Debian keeps python3-nftables
INLINE_BYTES_MAX = 64 * 1024


class NftError(RuntimeError):
    """nft refused a transaction; nothing of it was applied."""


class PacketFilter(Protocol):
    async def commit(self, commands: list[str]) -> None: ...


class Nft:
    """The nftables of the network namespace that this process runs in."""

    def __init__(self) -> None:
        self._handle = _module().Nftables()

    async def commit(self, commands: list[str]) -> None:
        """Apply all commands or none. Raises NftError."""
        if not commands:
            return
        text = "\n".join(commands)
        if len(text) <= INLINE_BYTES_MAX:
            await asyncio.to_thread(self._run, text)
        else:
            await _run_in_child(text)

    async def remove(self) -> None:
        """Delete the table and all that it does."""
        await self.commit([f"add table inet {TABLE}", f"delete table inet {TABLE}"])

    def _run(self, text: str) -> None:
        code, _, error = self._handle.cmd(text)
        if code != 0:
            raise NftError(f"{error.strip()} (in a transaction of {len(text)} bytes: {text[:200]!r} …)")


def _module() -> Any:
    if DIST_PACKAGES not in sys.path:
        sys.path.append(DIST_PACKAGES)
    return importlib.import_module("nftables")


def is_available() -> bool:
    """Whether this machine has the library and the kernel takes a transaction."""
    try:
        code, _, _ = _module().Nftables().cmd("list tables")
    except (ImportError, OSError):
        return False
    return bool(code == 0)


async def _run_in_child(text: str) -> None:
    program = shutil.which("nft") or "/usr/sbin/nft"
    child = await asyncio.create_subprocess_exec(
        program,
        "-f",
        "-",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, error = await child.communicate(text.encode())
    if child.returncode != 0:
        raise NftError(f"{error.decode(errors='replace').strip()[:2000]} (in a transaction of {len(text)} bytes)")
