"""ServiceCIDRs: ready once they are there, and held while addresses of Services would lose their only range.

The allocators of the API servers give addresses of every range that is Ready. One that is being deleted goes when each
of its ranges lies in another's, or no address lies in it alone; and not before RELEASE_S, so that no allocator still
believes it ready. Source: KEP-1880; upstream pkg/controller/servicecidrs.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

from orchestrator.api import conditions, meta, status
from orchestrator.api.meta import Object
from orchestrator.api.resources import IPADDRESSES, SERVICECIDRS
from orchestrator.client.loop import Loop
from orchestrator.controllers.context import Context
from orchestrator.controllers.fields import spec, status_of, with_status

FINALIZER = "networking.k8s.io/service-cidr-finalizer"
RELEASE_S = 10.0
READY = "Kubernetes Service CIDR is ready"
HELD = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR"
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def networks(service_cidr: Object) -> list[Network]:
    return [ipaddress.ip_network(text, strict=False) for text in spec(service_cidr).get("cidrs") or ()]


def is_needed(leaving: Object, others: Sequence[Object], addresses: Iterable[str]) -> bool:
    """Whether an address would be in no range without it; `others` are all the other ServiceCIDRs."""
    kept = [network for other in others for network in networks(other)]
    own = networks(leaving)
    if all(any(_holds(wide, network) for wide in kept) for network in own):
        return False
    for text in addresses:
        address = ipaddress.ip_address(text)
        if any(address in network for network in own) and not any(address in network for network in kept):
            return True
    return False


def _holds(wide: Network, narrow: Network) -> bool:
    if isinstance(wide, ipaddress.IPv4Network):
        return isinstance(narrow, ipaddress.IPv4Network) and narrow.subnet_of(wide)
    return isinstance(narrow, ipaddress.IPv6Network) and narrow.subnet_of(wide)


class ServiceCidrController:
    def __init__(self, context: Context) -> None:
        self._client, self._clock = context.client, context.clock
        self.loop = Loop("servicecidr", self.reconcile, workers=1)
        self._cidrs = context.informers.informer(SERVICECIDRS)
        self._addresses = context.informers.informer(IPADDRESSES)
        self._cidrs.add_handler(self._cidr_changed)
        self._addresses.add_handler(self._address_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _cidr_changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None:
            self.loop.queue.add(meta.key(new))
        self._look_at_leaving()

    def _address_changed(self, old: Object | None, new: Object | None) -> None:
        if new is None:
            self._look_at_leaving()

    def _look_at_leaving(self) -> None:
        for each in self._cidrs.cache.list():
            if meta.is_deleting(each):
                self.loop.queue.add(meta.key(each))

    async def reconcile(self, key: str) -> None:
        found = self._cidrs.cache.get(key)
        if found is None:
            return
        try:
            if meta.is_deleting(found):
                await self._let_go(key, found)
                return
            if FINALIZER not in meta.finalizers(found):
                patch = {"metadata": {"finalizers": [FINALIZER]}}
                found = await self._client.patch(SERVICECIDRS, meta.name(found), "", patch, "strategic")
            await self._tell(found, "True", "", READY)
        except status.NotFound:
            return

    async def _let_go(self, key: str, found: Object) -> None:
        if FINALIZER not in meta.finalizers(found):
            return
        others = [each for each in self._cidrs.cache.list() if meta.name(each) != meta.name(found)]
        if is_needed(found, others, (meta.name(each) for each in self._addresses.cache.list())):
            await self._tell(found, "False", "Terminating", HELD)
            return
        left_s = RELEASE_S - (self._clock.now() - meta.parse_time(meta.metadata(found)["deletionTimestamp"]))
        if left_s > 0:
            self.loop.queue.add_after(key, left_s)
            return
        patch = {"metadata": {"$deleteFromPrimitiveList/finalizers": [FINALIZER]}}
        await self._client.patch(SERVICECIDRS, meta.name(found), "", patch, "strategic")

    async def _tell(self, found: Object, value: str, reason: str, message: str) -> None:
        known = conditions.find(status_of(found).get("conditions"), "Ready")
        if known is not None and known.get("status") == value:
            return
        ready = {"type": "Ready", "status": value, "reason": reason, "message": message}
        made = conditions.updated(status_of(found).get("conditions"), ready, meta.format_time(self._clock.now()))
        changed = with_status(found, {**status_of(found), "conditions": made})
        await self._client.update(SERVICECIDRS, changed, subresource="status")
