"""Whose word counts for a guest's addresses: the lease's, the agent's, or both."""

from __future__ import annotations

from typing import Any

import pytest

from infra.provider import waiting
from infra.provider.binding import libvirt
from infra.provider.resource import Context

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


class Halted(Guest):
    """A guest that QEMU has stopped at an error of its disk."""

    def __init__(self, error: int) -> None:
        super().__init__({})
        self.error = error

    def name(self) -> str:
        return "dom"

    def isActive(self) -> bool:
        return True

    def state(self) -> tuple[int, int]:
        return libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR

    def diskErrors(self, flags: int) -> dict[str, int]:
        return {"vda": self.error}


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            libvirt.VIR_DOMAIN_DISK_ERROR_NO_SPACE,
            "no space is left for its disk vda. Make room in its pool, then: virsh",
        ),
        (libvirt.VIR_DOMAIN_DISK_ERROR_UNSPEC, "its disk vda cannot be read or written"),
    ],
)
def test_a_disk_that_is_full_ends_the_waiting(error: int, words: str) -> None:
    context = Context("urn", "uri", None, print, print, print, timeout_s=60)
    with pytest.raises(waiting.NoAddress, match=f"domain dom stopped while its addresses were awaited: {words}"):
        waiting.wait(context, Halted(error), {"52:54:00:aa:00:01": "net"}, has_agent=False)


def test_the_user_who_does_not_want_to_wait() -> None:
    context = Context("urn", "uri", None, print, print, print, timeout_s=60)
    context.cancelled.set()
    with pytest.raises(waiting.NoAddress, match="domain dom: interrupted while waiting for an address of 52:54:00"):
        waiting.wait(context, Halted(0), {"52:54:00:aa:00:01": "net"}, has_agent=False)
