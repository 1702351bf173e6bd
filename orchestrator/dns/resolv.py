"""resolv.conf: the name servers that a node asks (resolv.conf(5)); options and search domains are the stub's affair."""

from __future__ import annotations

import ipaddress
from pathlib import Path

UPSTREAMS_MAX = 3  # as the C library's MAXNS


def name_servers(path: Path) -> tuple[str, ...]:
    """The addresses in order; none where the file is missing. A scope (`fe80::1%eth0`) is kept."""
    try:
        text = path.read_text()
    except OSError:
        return ()
    found = [line.split()[1] for line in text.splitlines() if line.startswith("nameserver") and len(line.split()) > 1]
    return tuple(address for address in found if _is_address(address))[:UPSTREAMS_MAX]


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
