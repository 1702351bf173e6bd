"""The proxier: what informers say becomes the wish, and the wish becomes transactions.

Handlers only note which Service changed. One loop takes all that has been noted, works out the rules of just those
Services, and commits the difference; what arrives meanwhile waits for the next turn, so a burst becomes one transaction
and a single change is in the kernel at once. A refused transaction throws the record away and starts with a full sync.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

from orchestrator.api import meta
from orchestrator.api.clock import Clock, SystemClock
from orchestrator.api.meta import Object
from orchestrator.proxy import conntrack, healthz
from orchestrator.proxy.endpoints import Here, choose
from orchestrator.proxy.healthcheck import HealthCheckPorts, ServiceHealth
from orchestrator.proxy.nft import NftError, PacketFilter
from orchestrator.proxy.ruleset import Rules, rules_of, skeleton
from orchestrator.proxy.services import ServicePort, Slice, parse_service, parse_slice
from orchestrator.proxy.transaction import Committed

log = logging.getLogger(__name__)
ZONE_LABEL = "topology.kubernetes.io/zone"
RETRY_S = 1.0
HEALTH_PORT_RETRY_S = 10.0

Forget = Callable[[Iterable[conntrack.Stale]], Awaitable[None]]


class Proxier:
    """Services and slices of the whole cluster, seen from one node."""

    def __init__(
        self,
        node_name: str,
        pod_networks: Iterable[str],
        kernel: PacketFilter,
        forget: Forget = conntrack.forget,
        clock: Clock | None = None,
    ) -> None:
        self._here = Here(node_name)
        self._pod_networks = tuple(pod_networks)
        self._kernel = kernel
        self._forget = forget
        self._ports: dict[str, tuple[ServicePort, ...]] = {}
        self._slices: dict[str, dict[str, Slice]] = {}
        self._dirty: set[str] = set()
        self._wake = asyncio.Event()
        self._committed: Committed | None = None
        self._clock = clock or SystemClock()
        self.synced_at: float | None = None
        self.is_eligible = True
        self._health: dict[str, tuple[int, ServiceHealth]] = {}
        self._health_ports = HealthCheckPorts()

    def on_service(self, old: Object | None, new: Object | None) -> None:
        key = meta.key(new or old or {})
        self._ports[key] = parse_service(new) if new else ()
        self._note(key)

    def on_slice(self, old: Object | None, new: Object | None) -> None:
        for obj, is_there in ((old, False), (new, True)):
            parsed = parse_slice(obj) if obj else None
            if obj and parsed:
                slices = self._slices.setdefault(parsed.service, {})
                slices.pop(meta.name(obj), None)
                if is_there:
                    slices[meta.name(obj)] = parsed
                self._note(parsed.service)

    def on_node(self, old: Object | None, new: Object | None) -> None:
        if new and meta.name(new) == self._here.node:
            self.is_eligible = healthz.is_eligible(new)
            here = Here(self._here.node, meta.labels(new).get(ZONE_LABEL, ""))
            if here != self._here:
                self._here = here
                for key in list(self._ports):  # `_wanted` forgets Services that are gone
                    self._note(key)

    def _note(self, key: str) -> None:
        self._dirty.add(key)
        self._wake.set()

    async def run(self) -> None:
        """Commit what is noted, until cancelled. The caller waits for the informers' first lists before."""
        try:
            while True:
                await self.sync()
                await self._wake.wait()
        finally:
            self._health_ports.close()

    async def sync(self) -> None:
        """One turn: everything noted so far is in the kernel when this returns, or is noted again."""
        self._wake.clear()
        try:
            if self._committed is None:
                await self._sync_all()
            else:
                await self._sync_dirty(self._committed)
            self.synced_at = self._clock.now()
        except (NftError, OSError):
            log.exception("sync failed; starting over", extra={"node": self._here.node})
            self._committed = self.synced_at = None
            self._wake.set()
            await asyncio.sleep(RETRY_S)
            return
        await self._sync_health_ports()

    async def _sync_health_ports(self) -> None:
        """A port that somebody else has is one Service's trouble: traffic must not wait for it."""
        failed = await self._health_ports.sync(dict(self._health.values()))
        for port, error in failed.items():
            log.warning("health-check node port not opened", extra={"port": port, "error": str(error)})
        if failed:
            asyncio.get_running_loop().call_later(HEALTH_PORT_RETRY_S, self._wake.set)

    async def _sync_all(self) -> None:
        """The whole table in one transaction, replacing what an earlier process left."""
        self._dirty.clear()
        committed = Committed()
        wanted: dict[str, Rules | None] = {}
        for key in list(self._ports):  # `_wanted` forgets Services that are gone
            wanted |= self._wanted(key)
        await self._kernel.commit(skeleton(self._pod_networks) + committed.change(wanted))
        self._committed = committed
        log.info("full sync", extra={"services": len(self._ports), "rules": len(wanted)})

    async def _sync_dirty(self, committed: Committed) -> None:
        keys, self._dirty = self._dirty, set()
        wanted: dict[str, Rules | None] = {}
        for key in sorted(keys):
            wanted |= dict.fromkeys(committed.names_of(key))
            wanted |= self._wanted(key)
        stale = {
            entry for name, rules in wanted.items() for entry in conntrack.stale_udp(committed.rules.get(name), rules)
        }
        await self._kernel.commit(committed.change(wanted))
        if stale:
            await self._forget(stale)

    def _wanted(self, key: str) -> dict[str, Rules | None]:
        """The rules of each service port of one Service, by `service|port|protocol|family`."""
        ports = self._ports.get(key, ())
        self._health.pop(key, None)
        wanted: dict[str, Rules | None] = {}
        for port in ports:
            slices = self._slices.get(key, {}).values()
            endpoints = [
                endpoint
                for found in slices
                if found.family == port.family
                for endpoint in found.ports.get((port.port_name, port.protocol), ())
            ]
            choice = choose(port, endpoints, self._here)
            wanted[f"{key}|{port.port_name}|{port.protocol}|{port.family}"] = rules_of(port, choice)
            if port.external_local and port.health_check_node_port:
                health = ServiceHealth(key, sum(endpoint.ready for endpoint in choice.local))
                self._health[key] = (port.health_check_node_port, health)
        if not ports:
            self._ports.pop(key, None)
        return wanted
