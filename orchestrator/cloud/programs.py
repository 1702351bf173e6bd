"""The programs that change a gateway's network: nft, ip and conntrack of the machine (or image) that we run in.

Errors: CloudError with the program's own words.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
from collections.abc import Iterable, Sequence
from typing import Any

from orchestrator.cloud.provider import CloudError

log = logging.getLogger(__name__)

SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


async def run(command: Sequence[str], text: str = "", *, may_fail: bool = False) -> str:
    """A program's output, given `text`. CloudError where it is missing, or fails and may not."""
    path = shutil.which(command[0], path=f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}")
    if path is None:
        raise CloudError(f"{command[0]} is not installed on the machine that the cloud controller runs on")
    child = await asyncio.create_subprocess_exec(
        path,
        *command[1:],
        stdin=asyncio.subprocess.PIPE if text else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await child.communicate(text.encode() or None)
    if child.returncode != 0 and not may_fail:
        said = err.decode(errors="replace").strip()
        log.error("a program failed", extra={"command": command, "given": text, "said": said})
        raise CloudError(f"{' '.join(command)}: {said.partition(chr(10))[0][:500]}")
    return out.decode()


async def read_json(command: Sequence[str]) -> list[dict[str, Any]]:
    """What `ip -j …` prints; nothing is an empty list."""
    found: list[dict[str, Any]] = json.loads(await run(command) or "[]")
    return found


class PacketFilter:
    """nft; that of another root where one is there.

    Whoever shares a network namespace with the owner of another root (a component in an image, its host) should use
    that one's nft: older versions crash when they list sets that a newer one has made (1.0.6 does). It may be installed
    at any time, so it is looked for at each use.
    """

    def __init__(self, host_root: str = "") -> None:
        self._host_root = host_root

    @property
    def command(self) -> tuple[str, ...]:
        places = ":".join(f"{self._host_root}{part}" for part in SYSTEM_PATH.split(":"))
        if self._host_root and shutil.which("nft", path=places):
            return "chroot", self._host_root, "nft"
        return ("nft",)

    async def commit(self, rules: str) -> None:
        """All of it in one transaction, or nothing."""
        await run([*self.command, "-f", "-"], rules)

    async def has_table(self, table: str) -> bool:
        listed = await run([*self.command, "list", "tables"])
        return any(line.split()[-1:] == [table] for line in listed.splitlines())


async def addresses(link: str) -> frozenset[str]:
    """All addresses of a link."""
    (found,) = await read_json(["ip", "-j", "address", "show", "dev", link])
    return frozenset(entry["local"] for entry in found["addr_info"])


def address_lines(link: str, added: Iterable[str], removed: Iterable[str]) -> list[str]:
    """For `ip -batch`. An IPv6 address is usable at once, and deprecated: nobody shall take it as a source address."""
    lines = [f"address del {address}/{_length(address)} dev {link}" for address in sorted(removed)]
    for address in sorted(added):
        options = " nodad preferred_lft 0" if ":" in address else ""
        lines.append(f"address replace {address}/{_length(address)} dev {link}{options}")
    return lines


def _length(address: str) -> int:
    return 128 if ":" in address else 32


async def ip_batch(lines: Sequence[str]) -> None:
    if lines:
        await run(["ip", "-force", "-batch", "-"], "\n".join(lines) + "\n")


async def forget(front: str, backend: str = "", protocol: str = "") -> None:
    """Forget the connections to a front, or only those of them that a backend has, or of one protocol."""
    command = ["conntrack", "-D", "-f", "ipv6" if ":" in front else "ipv4", "--orig-dst", front]
    command += ["--reply-src", backend] if backend else []
    command += ["--proto", protocol] if protocol else []
    await run(command, may_fail=True)  # exit status 1: there was none
