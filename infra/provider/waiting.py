"""Waiting for a guest's addresses: quickly, saying for what, and with the reason at the end.

Two can know them: the DHCP server of a libvirt network (leases), and the guest's own agent. A poll costs a millisecond.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from infra.provider.binding import libvirt
from infra.provider.resource import Context

TIMEOUT_S = 300.0
POLL_S = 0.5
SAY_EVERY_S = 5.0
LOOPBACK = ("127.", "::1", "fe80:")


class NoAddress(RuntimeError):
    """No address came in time; the message says why, as far as one can see from outside."""


def addresses(domain: Any, *, has_agent: bool) -> dict[str, tuple[str, ...]]:
    """By MAC, those known now; a program that takes the first one gets IPv4 where there is any."""
    sources = [libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE]
    if has_agent:
        sources.append(libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT)
    found: dict[str, tuple[str, ...]] = {}
    for source in sources:
        try:
            interfaces = domain.interfaceAddresses(source, 0)
        except libvirt.libvirtError:
            continue  # off, or its agent is not up yet
        for interface in interfaces.values():
            mac = (interface.get("hwaddr") or "").lower()
            seen = tuple(each["addr"] for each in interface.get("addrs") or () if not each["addr"].startswith(LOOPBACK))
            found[mac] = tuple(dict.fromkeys((*found.get(mac, ()), *seen)))
    return {mac: tuple(sorted(seen, key=lambda address: ":" in address)) for mac, seen in found.items() if seen}


def wait(context: Context, domain: Any, macs: Mapping[str, str], *, has_agent: bool) -> dict[str, tuple[str, ...]]:
    """Until each of those interfaces (MAC, and the name of its network) has an address."""
    limit, name = context.timeout_s or TIMEOUT_S, domain.name()
    began, said = context.clock(), 0.0
    while True:
        known = addresses(domain, has_agent=has_agent)
        missing = {mac: network for mac, network in macs.items() if mac not in known}
        if not missing:
            return known
        waited = context.clock() - began
        if context.cancelled.is_set():
            raise NoAddress(f"domain {name}: interrupted while waiting for an address of {', '.join(missing)}")
        if not domain.isActive():
            raise NoAddress(f"domain {name} went off while its addresses were awaited: {last_words(domain)}")
        if why := stuck(domain):
            raise NoAddress(f"domain {name} stopped while its addresses were awaited: {why}")
        if waited > limit:
            raise NoAddress(f"domain {name}: {_reason(context.connection, missing, limit, has_agent=has_agent)}")
        if context.clock() - said >= SAY_EVERY_S:
            said = context.clock()
            who = ", ".join(f"{mac} on {network}" for mac, network in missing.items())
            context.say(f"domain {name}: waiting for an address of {who} ({waited:.0f} of {limit:.0f} s)")
        time.sleep(POLL_S)


def stuck(domain: Any) -> str:
    """Why QEMU has halted a guest, if it has; one that somebody paused may go on."""
    state, why = domain.state()
    if state != libvirt.VIR_DOMAIN_PAUSED or why != libvirt.VIR_DOMAIN_PAUSED_IOERROR:
        return ""
    errors = domain.diskErrors(0)
    full = [disk for disk, error in errors.items() if error == libvirt.VIR_DOMAIN_DISK_ERROR_NO_SPACE]
    if full:
        disks = ", ".join(full)
        return f"no space is left for its disk {disks}. Make room in its pool, then: virsh resume {domain.name()}"
    return (
        f"its disk {', '.join(errors) or '(libvirt does not say which)'} cannot be read or written; see the host's log"
    )


def _reason(connection: Any, missing: Mapping[str, str], limit: float, *, has_agent: bool) -> str:
    mac, network_name = next(iter(missing.items()))
    began = f"no address of {mac} on {network_name} after {limit:.0f} s"
    agent = " Its agent did not answer either." if has_agent else ""
    try:
        network = connection.networkLookupByName(network_name)
    except libvirt.libvirtError:
        return f"{began}: there is no network {network_name} of libvirt.{agent}"
    if not network.isActive():
        return f"{began}: the network is not active (virsh net-start {network_name}).{agent}"
    if "<dhcp>" not in network.XMLDesc(0):
        return f"{began}: the network serves no DHCP; set dhcp.enabled, or waitForLease to false.{agent}"
    return (
        f"{began}: its guest runs, and has not asked for a lease. Look at its console (virsh console): does it boot, "
        f"and does it use DHCP on that interface?{agent}"
    )


def last_words(domain: Any) -> str:
    """Why a guest is off."""
    _state, why = domain.state()
    reasons = {
        libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN: "it shut down by itself",
        libvirt.VIR_DOMAIN_SHUTOFF_DESTROYED: "it was switched off",
        libvirt.VIR_DOMAIN_SHUTOFF_CRASHED: "it crashed",
        libvirt.VIR_DOMAIN_SHUTOFF_FAILED: "QEMU failed",
    }
    return reasons.get(why, "libvirt does not say why")
