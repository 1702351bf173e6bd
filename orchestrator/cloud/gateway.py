"""The load balancers of a Linux gateway: addresses on its bridge, rules in its packet filter, health checks of nodes.

What is wanted is kept here; `_apply` makes the kernel so, whatever it was before. The kernel goes on serving while this
process is away, and a process that starts finds out what there is from the Services' status (`restore`).
Order, so that an address never leads to the gateway's own sockets: stale addresses go, then the rules change in one
transaction, then new addresses come.
While no node answers, a load balancer with policy Cluster sends to all (the checks may be what is wrong), one with
policy Local refuses.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from msgspec import Struct

from orchestrator.cloud import gateway_addresses, gateway_health, programs
from orchestrator.cloud.gateway_addresses import Range, family_of
from orchestrator.cloud.gateway_health import HealthChecks, Target
from orchestrator.cloud.gateway_rules import Front, Place, ruleset
from orchestrator.cloud.programs import PacketFilter
from orchestrator.cloud.provider import CloudError, LoadBalancer

log = logging.getLogger(__name__)

LOOK_S = 10.0  # whether somebody has flushed the rules or removed an address


class Served(Struct, frozen=True):
    """A load balancer with the addresses that it was given."""

    wish: LoadBalancer
    addresses: tuple[str, ...]

    def backends(self, address: str) -> dict[str, str]:
        """Node -> its address, of the family of a front's address."""
        found = {}
        for backend in self.wish.backends:
            mine = [one for one in backend.addresses if family_of(one) == family_of(address)]
            if mine:
                found[backend.node] = mine[0]
        return found

    def targets(self) -> set[Target]:
        addresses = {one for address in self.addresses for one in self.backends(address).values()}
        return {gateway_health.target(self.wish, address) for address in addresses}


class Gateway:
    """The load balancers of one lab."""

    def __init__(self, place: Place, ranges: Sequence[Range], packet_filter: PacketFilter) -> None:
        self._place = place
        self._ranges = tuple(ranges)
        self._packet_filter = packet_filter
        self._served: dict[str, Served] = {}
        self._owners: dict[str, str] = {}  # address → name of the load balancer
        self._health = HealthChecks(self._backend_changed)
        self._lost: set[Target] = set()  # went down since the last commit
        self._changed = asyncio.Event()
        self._restored = asyncio.Event()  # before, what the kernel has is of an earlier process, and goes on
        self._turn = asyncio.Lock()
        self._committed: tuple[str, tuple[str, ...]] = ("", ())  # the rules, and by which program

    # What the service controller asks for.

    async def restore(self, wanted: Sequence[LoadBalancer]) -> None:
        self._owners = gateway_addresses.restored(wanted, self._ranges)
        for one in wanted:
            try:
                addresses = gateway_addresses.choose(one, self._ranges, self._owners)
            except CloudError:
                continue  # it says why when it is ensured
            if set(addresses) <= set(one.held):
                self._served[one.name] = Served(one, addresses)
        await self._apply()
        self._restored.set()

    async def ensure(self, wanted: LoadBalancer) -> tuple[str, ...]:
        addresses = gateway_addresses.choose(wanted, self._ranges, self._owners)
        before = self._served.get(wanted.name)
        self._release(wanted.name)
        self._owners |= dict.fromkeys(addresses, wanted.name)
        self._served[wanted.name] = Served(wanted, addresses)
        await self._apply()
        if before is not None:
            await self._forget_changed(before, self._served.get(wanted.name))
        return addresses

    async def delete(self, name: str) -> None:
        gone = self._served.pop(name, None)
        self._release(name)
        if gone is not None:
            await self._apply()
            await self._forget_changed(gone, None)

    def _release(self, name: str) -> None:
        self._owners = {address: owner for address, owner in self._owners.items() if owner != name}

    # What happens by itself.

    async def run(self) -> None:
        """Follow the health of nodes, and put right what others have undone, until cancelled."""
        try:
            await self._restored.wait()
            while True:
                try:
                    async with asyncio.timeout(LOOK_S):
                        await self._changed.wait()
                except TimeoutError:
                    pass
                self._changed.clear()
                try:
                    await self._apply()
                except CloudError as error:
                    log.error("gateway not in order", extra={"error": str(error)})
        finally:
            await self._health.close()

    def _backend_changed(self, target: Target) -> None:
        if not self._health.is_up(target):
            self._lost.add(target)
        self._changed.set()

    # How the kernel becomes so.

    async def _apply(self) -> None:
        await self._health.watch({target for served in self._served.values() for target in served.targets()})
        async with self._turn:
            fronts = self._fronts()
            wanted = {front.address for front in fronts}
            present = {one for one in await programs.addresses(self._place.bridge) if self._is_ours(one)}
            link = self._place.bridge
            await programs.ip_batch(programs.address_lines(link, (), present - wanted))
            wish = (ruleset(self._place, fronts), self._packet_filter.command)
            if wish != self._committed or not await self._packet_filter.has_table(self._place.table):
                await self._packet_filter.commit(wish[0])
                self._committed = wish
            await programs.ip_batch(programs.address_lines(link, wanted - present, ()))
            lost, self._lost = self._lost, set()
        for front in fronts:
            for target in sorted(lost):
                if family_of(front.address) == family_of(target.address):
                    await programs.forget(front.address, target.address)

    def _is_ours(self, address: str) -> bool:
        return any(address in known for known in self._ranges)

    def _fronts(self) -> list[Front]:
        return [self._front(served, address) for served in self._served.values() for address in served.addresses]

    def _front(self, served: Served, address: str) -> Front:
        wish, backends = served.wish, served.backends(address)
        up = {node: one for node, one in backends.items() if self._health.is_up(gateway_health.target(wish, one))}
        if not up and not wish.health_check_port:
            up = backends
        return Front(
            address=address,
            ports=wish.ports,
            backends=tuple(sorted(up.items())),
            source_ranges=wish.source_ranges,
            has_affinity=wish.affinity_s > 0,
        )

    async def _forget_changed(self, before: Served, after: Served | None) -> None:
        """The connections of addresses that were given back; and of those that stay, datagrams to ports that changed
        and to nodes that went: a datagram's flow has no end of its own, while a connection may be finished in peace."""
        for address in before.addresses:
            if after is None or address not in after.addresses:
                await programs.forget(address)
                continue
            if before.wish.ports != after.wish.ports:
                await programs.forget(address, protocol="udp")
                continue
            gone = set(before.backends(address).values()) - set(after.backends(address).values())
            for backend in sorted(gone):
                await programs.forget(address, backend, "udp")
