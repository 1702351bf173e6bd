"""A cloud in memory, for tests and simulations: machines, routes and load balancers are entries of dicts.

Whoever holds it may change anything between two calls; `broken` makes every call fail as a cloud that is down.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from orchestrator.cloud import gateway_addresses
from orchestrator.cloud.gateway_addresses import Range
from orchestrator.cloud.provider import Cloud, CloudError, Instance, LoadBalancer, Route


class FakeCloud:
    """Instances, Routes and LoadBalancers in one."""

    def __init__(self, ranges: Sequence[str] = ("172.29.0.200-172.29.0.250", "fd00:172:29::200-fd00:172:29::250")):
        self.machines: dict[str, Instance] = {}
        self.routes: set[Route] = set()
        self.balancers: dict[str, LoadBalancer] = {}  # `held` is what each was given
        self.ranges = [Range.parse(text) for text in ranges]
        self.broken = ""

    @property
    def cloud(self) -> Cloud:
        return Cloud("fake", self, routes=FakeRoutes(self), load_balancers=FakeLoadBalancers(self))

    def check(self) -> None:
        if self.broken:
            raise CloudError(self.broken)

    async def get(self, node: str, provider_id: str) -> Instance | None:
        self.check()
        return self.machines.get(provider_id.rpartition("/")[2] or node)


class FakeRoutes:
    def __init__(self, fake: FakeCloud) -> None:
        self._fake = fake

    async def list(self) -> frozenset[Route]:
        self._fake.check()
        return frozenset(self._fake.routes)

    async def create(self, route: Route) -> None:
        self._fake.check()
        self._fake.routes = {old for old in self._fake.routes if old.destination != route.destination} | {route}

    async def delete(self, route: Route) -> None:
        self._fake.check()
        self._fake.routes.discard(route)


class FakeLoadBalancers:
    def __init__(self, fake: FakeCloud) -> None:
        self._fake = fake

    async def restore(self, wanted: Sequence[LoadBalancer]) -> None:
        self._fake.check()
        names = {one.name for one in wanted}
        self._fake.balancers = {name: one for name, one in self._fake.balancers.items() if name in names}
        owners = gateway_addresses.restored(wanted, self._fake.ranges)
        for one in wanted:
            if all(owners.get(address) == one.name for address in one.held) and len(one.held) == len(one.families):
                self._fake.balancers[one.name] = one

    async def ensure(self, wanted: LoadBalancer) -> tuple[str, ...]:
        self._fake.check()
        owners = {address: one.name for one in self._fake.balancers.values() for address in one.held}
        addresses = gateway_addresses.choose(wanted, self._fake.ranges, owners)
        self._fake.balancers[wanted.name] = replace(wanted, held=addresses)
        return addresses

    async def delete(self, name: str) -> None:
        self._fake.check()
        self._fake.balancers.pop(name, None)
