"""Connections that the kernel remembers: a UDP flow keeps going to the endpoint it first met, also when that is gone.

TCP resets itself; a UDP client that keeps its port would be sent into the void for as long as it talks. So when a UDP
target goes away its entries are deleted, and when a UDP front gets its first endpoint the entries that were made while
it had none go too. Source: kube-proxy's conntrack reconciliation; conntrack(8).
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterable

from msgspec import Struct

from orchestrator.proxy.ruleset import Rules


class Stale(Struct, frozen=True, order=True):
    """Entries to delete: those from a front (`address` or, if that is empty, any address) and port; with `target`, an
    address and a port, only those that were sent there."""

    address: str
    port: int
    target: tuple[str, str] = ("", "")


def stale_udp(old: Rules | None, new: Rules | None) -> set[Stale]:
    """What must be forgotten when the rules of one service port change."""
    before, after = _targets(old), _targets(new)
    found: set[Stale] = set()
    for front, targets in before.items():
        found |= {Stale(*front, target) for target in targets - after.get(front, set())}
    found |= {Stale(*front) for front in after if front not in before}
    return found


def _targets(rules: Rules | None) -> dict[tuple[str, int], set[tuple[str, str]]]:
    """UDP front (address, port) → endpoints (address, port): another port of the same pod is another target."""
    found: dict[tuple[str, int], set[tuple[str, str]]] = {}
    for (name, key), value in (rules.elements if rules else {}).items():
        if "-endpoint" in name and "udp . " in key:
            *address, _, port, _ = key.split(" . ")
            target, _, target_port = value.partition(" . ")
            found.setdefault((address[0] if address else "", int(port)), set()).add((target, target_port))
    return found


async def forget(stale: Iterable[Stale]) -> None:
    """Delete the entries; that there are none is no error."""
    program = shutil.which("conntrack") or "/usr/sbin/conntrack"
    for entry in sorted(stale):
        command = [program, "-D", "-p", "udp", "--orig-port-dst", str(entry.port)]
        command += ["--orig-dst", entry.address] if entry.address else []
        target, port = entry.target
        command += ["--reply-src", target] if target else []
        command += ["--reply-port-src", port] if port else []
        family = "ipv6" if ":" in entry.address + target else "ipv4"
        child = await asyncio.create_subprocess_exec(
            *command, "-f", family, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
        )
        await child.wait()
