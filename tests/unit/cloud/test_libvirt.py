"""Which addresses a domain has, by what libvirt says of it and its network."""

from __future__ import annotations

import pytest

from orchestrator.cloud.libvirt import Seen, addresses

DOMAIN = (
    """<domain><devices><interface type='network'><mac address='52:54:00:5A:00:0B'/></interface></devices></domain>"""
)
MAC = "52:54:00:5a:00:0b"


def seen(inside: str = "", *leases: tuple[str, str]) -> Seen:
    return Seen(1, 2, 1 << 20, DOMAIN, f"<network>{inside}</network>", leases)


HOST_V4 = f"<ip><dhcp><host mac='{MAC}' name='x' ip='172.30.0.11'/></dhcp></ip>"
HOST_V6 = "<ip family='ipv6'><dhcp><host name='worker-1' ip='fd00::b'/></dhcp></ip>"
DNS = "".join(
    f"<host ip='{ip}'><hostname>{name}</hostname></host>"
    for ip, name in (("fd00::b", "worker-1"), ("172.30.0.11", "lab-worker-1"), ("172.30.0.12", "worker-2"))
)
BOTH = ["172.30.0.11", "fd00::b"]


@pytest.mark.parametrize(
    ("known", "want"),
    [
        pytest.param(seen(HOST_V6 + HOST_V4), BOTH, id="dhcp-by-mac-and-by-name"),
        pytest.param(seen(f"<dns>{DNS}</dns>"), BOTH, id="dns-by-either-name"),
        pytest.param(seen(f"<dns>{DNS}</dns>{HOST_V4}{HOST_V6}"), BOTH, id="each-once"),
        pytest.param(
            seen("", (MAC, "172.30.0.77"), (MAC.upper(), "fd00::77")), ["172.30.0.77", "fd00::77"], id="leases"
        ),
        pytest.param(
            seen(HOST_V4, (MAC, "172.30.0.77"), (MAC, "fd00::77")), ["172.30.0.11", "fd00::77"],
            id="a-promise-beats-a-lease-of-its-family",
        ),
        pytest.param(seen("", ("52:54:00:00:00:01", "172.30.0.77")), [], id="anothers-lease"),
        pytest.param(seen(), [], id="nothing-is-known"),
    ],
)  # fmt: skip
def test_addresses(known: Seen, want: list[str]) -> None:
    assert addresses("lab-worker-1", "worker-1", known) == want
