"""Which addresses a load balancer gets from the gateway's ranges. Pure.

Of each family: the requested address, else the one held, else the first that is free. An address belongs to one load
balancer at a time. Errors: CloudError names the address or range and the owner.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from orchestrator.cloud.provider import CloudError, Family, LoadBalancer


class Range(Struct, frozen=True):
    """Addresses from `first` to `last`, both included."""

    family: Family
    first: int
    last: int

    @classmethod
    def parse(cls, text: str) -> Range:
        """`172.29.0.200-172.29.0.250`. ValueError."""
        first, dash, last = (part.strip() for part in text.partition("-"))
        low, high = ipaddress.ip_address(first), ipaddress.ip_address(last if dash else first)
        if low.version != high.version or int(low) > int(high):
            raise ValueError(f"load balancer range {text!r}: must be FIRST-LAST of one family, in order")
        return cls("IPv4" if low.version == 4 else "IPv6", int(low), int(high))

    def __contains__(self, address: str) -> bool:
        return family_of(address) == self.family and self.first <= int(ipaddress.ip_address(address)) <= self.last

    def __str__(self) -> str:
        return f"{_shown(self.first, self.family)}-{_shown(self.last, self.family)}"

    def addresses(self) -> Iterable[str]:
        return (_shown(number, self.family) for number in range(self.first, self.last + 1))


def _shown(number: int, family: Family) -> str:
    return str(ipaddress.IPv4Address(number) if family == "IPv4" else ipaddress.IPv6Address(number))


def family_of(address: str) -> Family:
    return "IPv6" if ":" in address else "IPv4"


def canonical(address: str) -> str:
    """The address as the kernel shows it. ValueError."""
    return str(ipaddress.ip_address(address))


def restored(wanted: Sequence[LoadBalancer], ranges: Sequence[Range]) -> dict[str, str]:
    """Address -> load balancer, for the held addresses of all of them; the first in order keeps what two hold."""
    owners: dict[str, str] = {}
    for one in wanted:
        for address in one.held:
            if any(address in known for known in ranges):
                owners.setdefault(canonical(address), one.name)
    return owners


def choose(wanted: LoadBalancer, ranges: Sequence[Range], owners: Mapping[str, str]) -> tuple[str, ...]:
    """One address for each family. CloudError."""
    requested = _requested(wanted, ranges, owners)
    return tuple(
        requested if requested and family_of(requested) == family else _one(wanted, family, ranges, owners)
        for family in wanted.families
    )


def _requested(wanted: LoadBalancer, ranges: Sequence[Range], owners: Mapping[str, str]) -> str:
    if not wanted.requested:
        return ""
    try:
        address = canonical(wanted.requested)
    except ValueError as error:
        raise CloudError(f"spec.loadBalancerIP {wanted.requested!r}: {error}") from error
    if family_of(address) not in wanted.families:
        raise CloudError(f"spec.loadBalancerIP {address}: its family is none of the Service's spec.ipFamilies")
    if not any(address in known for known in ranges):
        raise CloudError(f"spec.loadBalancerIP {address} is not in {', '.join(map(str, ranges))}")
    owner = owners.get(address, wanted.name)
    if owner != wanted.name:
        raise CloudError(f"spec.loadBalancerIP {address} is taken by load balancer {owner}")
    return address


def _one(wanted: LoadBalancer, family: Family, ranges: Sequence[Range], owners: Mapping[str, str]) -> str:
    known = [one for one in ranges if one.family == family]
    if not known:
        raise CloudError(f"this lab has no load balancer addresses of family {family}")
    mine = {address for address, owner in owners.items() if owner == wanted.name}
    for address in (*map(canonical, wanted.held), *sorted(mine)):
        if any(address in one for one in known) and owners.get(address, wanted.name) == wanted.name:
            return address
    for one in known:
        for address in one.addresses():
            if address not in owners:
                return address
    raise CloudError(f"no address is left: all of {', '.join(map(str, known))} are taken")
