"""Whose word counts for a guest's addresses: the lease's, the agent's, or both."""

from __future__ import annotations

from typing import Any

from infra.provider import waiting
from infra.provider.binding import libvirt

LEASE = libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE
AGENT = libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT


class Guest:
    """Answers as libvirt does; a source that is not there is an error."""

    def __init__(self, answers: dict[int, dict[str, Any]]) -> None:
        self.answers = answers

    def interfaceAddresses(self, source: int, flags: int) -> dict[str, Any]:
        if source not in self.answers:
            raise libvirt.libvirtError("the agent is not up yet")
        return self.answers[source]


def interface(mac: str, *addresses: str) -> dict[str, Any]:
    return {"hwaddr": mac, "addrs": [{"addr": address, "prefix": 24, "type": 0} for address in addresses] or None}


def test_the_lease() -> None:
    guest = Guest({LEASE: {"vnet0": interface("52:54:00:AA:00:01", "fd00::5", "10.0.0.5")}})
    assert waiting.addresses(guest, has_agent=True) == {"52:54:00:aa:00:01": ("10.0.0.5", "fd00::5")}


def test_the_agent_where_libvirt_gives_no_leases() -> None:
    answers = {
        "lo": interface("00:00:00:00:00:00", "127.0.0.1", "::1"),
        "eth0": interface("52:54:00:aa:00:01", "192.0.2.7", "fe80::1"),
        "eth1": interface("52:54:00:aa:00:02"),
    }
    guest = Guest({LEASE: {}, AGENT: answers})
    assert waiting.addresses(guest, has_agent=True) == {"52:54:00:aa:00:01": ("192.0.2.7",)}
    assert waiting.addresses(guest, has_agent=False) == {}


def test_both_say_the_same_once() -> None:
    seen = {"vnet0": interface("52:54:00:aa:00:01", "10.0.0.5")}
    assert waiting.addresses(Guest({LEASE: seen, AGENT: seen}), has_agent=True) == {"52:54:00:aa:00:01": ("10.0.0.5",)}
