"""Cluster addresses of Services: an IPAddress object for each that is taken, so that no two servers give out the same.

Whoever creates the object of an address has it; the store settles who was first. Free addresses are looked for from a
random place of the upper band of a range; the lower band is left to those who choose an address themselves, and given
out when the rest is full. Ranges are those of this server's settings and those of ServiceCIDR objects that are Ready.
Source: KEP-1880 (IPAddress and ServiceCIDR), KEP-3070 (bands); k8s.io/kubernetes registry/core/service/ipallocator.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from random import Random
from typing import Protocol

from msgspec import Struct

from orchestrator.api import conditions, meta
from orchestrator.api.meta import Object
from orchestrator.api.resources import IPADDRESSES, SERVICECIDRS, Resource
from orchestrator.api.status import AlreadyExists, NotFound
from orchestrator.apiserver.lookup import Lookup

FAMILY_LABEL = "ipaddress.kubernetes.io/ip-family"
MANAGED_BY_LABEL, MANAGER = "ipaddress.kubernetes.io/managed-by", "ipallocator.k8s.io"
STATIC_MIN, STATIC_MAX, STATIC_STEP = 16, 256, 16  # addresses of the lower band: one in STATIC_STEP, within bounds

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Writer(Protocol):
    """What is needed of a client that may do anything."""

    async def create(self, resource: Resource, obj: Object) -> Object: ...

    async def delete(self, resource: Resource, name: str) -> Object: ...


class AddressRange(Struct, frozen=True):
    """Addresses from `first` to `last`, as numbers; from `dynamic` on they are given out first. The network's own
    address, and the broadcast address of IPv4, are nobody's."""

    network: Network
    first: int
    dynamic: int
    last: int

    @classmethod
    def of(cls, cidr: str) -> AddressRange:
        network = ipaddress.ip_network(cidr)
        first = int(network.network_address) + 1
        last = int(network.broadcast_address) - (network.version == 4)
        size = network.num_addresses
        static = 0 if size <= STATIC_MIN else min(max(STATIC_MIN, size // STATIC_STEP), STATIC_MAX)
        return cls(network, first, min(first + static, last), last)

    @property
    def family(self) -> str:
        return f"IPv{self.network.version}"

    def __contains__(self, address: Address) -> bool:
        return address in self.network and self.first <= int(address) <= self.last

    def candidates(self, random: Random) -> Iterator[str]:
        """Every address once, the upper band first."""
        make = ipaddress.IPv4Address if self.network.version == 4 else ipaddress.IPv6Address
        for low, high in ((self.dynamic, self.last), (self.first, self.dynamic - 1)):
            size = high - low + 1
            if size > 0:
                start = random.randrange(size)
                for step in range(size):
                    yield str(make(low + (start + step) % size))


def address_of(text: str, namespace: str, name: str) -> Object:
    """The IPAddress of a Service's address."""
    version = ipaddress.ip_address(text).version
    return {
        "apiVersion": IPADDRESSES.api_version,
        "kind": IPADDRESSES.kind,
        "metadata": {"name": text, "labels": {FAMILY_LABEL: f"IPv{version}", MANAGED_BY_LABEL: MANAGER}},
        "spec": {"parentRef": {"resource": "services", "namespace": namespace, "name": name}},
    }


class ServiceAddresses:
    """`cidrs`: the ranges of the settings; the first one's family is the cluster's default. Texts are canonical."""

    def __init__(self, client: Writer, lookup: Lookup, cidrs: Sequence[str], random: Random) -> None:
        self._client, self._random = client, random
        self._configured = [AddressRange.of(cidr) for cidr in cidrs]
        self._more: dict[str, tuple[AddressRange, ...]] = {}  # by the name of a ServiceCIDR
        self._taken: set[str] = set()
        lookup.subscribe(SERVICECIDRS, self._range_changed)
        lookup.subscribe(IPADDRESSES, self._address_changed)

    @property
    def families(self) -> list[str]:
        return [one.family for one in self._configured]

    def ranges(self) -> list[AddressRange]:
        found = {one.network: one for one in self._configured}
        for _, ranges in sorted(self._more.items()):
            found |= {one.network: one for one in ranges if one.network not in found}
        return list(found.values())

    async def take(self, text: str, namespace: str, name: str, *, dry_run: bool) -> str:
        """Takes the address for a Service; returns why it cannot be had, "" where it was taken."""
        address = ipaddress.ip_address(text)
        found = next((one for one in self.ranges() if address in one.network), None)
        if found is None:
            return "the provided network does not match the current range"
        if address not in found:
            return f"the provided IP ({text}) is not in the valid range. The range of valid IPs is {found.network}"
        if dry_run or await self._create(str(address), namespace, name):
            return ""
        return "provided IP is already allocated"

    async def give(self, family: str, namespace: str, name: str, *, dry_run: bool) -> str | None:
        """A free address for a Service; None where there is none. A dry run is shown the range's own address."""
        ranges = [one for one in self.ranges() if one.family == family]
        if dry_run and ranges:
            return str(ranges[0].network.network_address)
        for one in ranges:
            for text in one.candidates(self._random):
                if text not in self._taken and await self._create(text, namespace, name):
                    return text
        return None

    async def release(self, text: str) -> None:
        try:
            await self._client.delete(IPADDRESSES, str(ipaddress.ip_address(text)))
        except NotFound:
            return

    async def _create(self, text: str, namespace: str, name: str) -> bool:
        try:
            await self._client.create(IPADDRESSES, address_of(text, namespace, name))
        except AlreadyExists:
            return False  # another server was quicker, or this server's cache is behind
        return True

    def _address_changed(self, old: Object | None, new: Object | None) -> None:
        if old is not None:
            self._taken.discard(meta.name(old))
        if new is not None:
            self._taken.add(meta.name(new))

    def _range_changed(self, old: Object | None, new: Object | None) -> None:
        if old is not None:
            self._more.pop(meta.name(old), None)
        if new is not None and conditions.is_true(new, "Ready") and not meta.is_deleting(new):
            self._more[meta.name(new)] = tuple(AddressRange.of(cidr) for cidr in new["spec"].get("cidrs") or ())
