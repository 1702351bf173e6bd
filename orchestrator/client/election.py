"""Leader election: of several replicas of a component the one that holds a Lease works.

    follower --(lease free or expired)--> leader --(not renewed within the deadline)--> LeadershipLost

Every candidate tries each `retry_period_s`. Expiry is judged by the local clock from the moment the record was last
seen to change, never by comparing clocks of machines. A leader that cannot renew for `renew_deadline_s` stops its work
before another may take over at `lease_duration_s`; one that ends in order releases the lease so that the next need not
wait. Source: client-go tools/leaderelection; coordination/v1 Lease.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import Awaitable, Callable
from random import Random

from msgspec import Struct

from orchestrator.api import meta, status
from orchestrator.api.clock import Clock, SystemClock
from orchestrator.api.meta import Object
from orchestrator.api.resources import LEASES
from orchestrator.client.client import Client

log = logging.getLogger(__name__)


class LeadershipLost(RuntimeError):
    """The lease could not be renewed in time: the component must end and start over as a candidate."""


class Timing(Struct, frozen=True, kw_only=True):
    lease_duration_s: float = 15.0
    renew_deadline_s: float = 10.0
    retry_period_s: float = 2.0


class LeaderElector:
    """One candidate for one lease."""

    def __init__(
        self,
        client: Client,
        name: str,
        namespace: str,
        identity: str,
        clock: Clock | None = None,
        timing: Timing | None = None,
        random: Random | None = None,
    ) -> None:
        self._client = client
        self._name = name
        self._namespace = namespace
        self._identity = identity
        self._clock = clock or SystemClock()
        self._timing = timing or Timing()
        self._random = random or Random()
        self._seen: Object | None = None
        self._seen_at = 0.0

    async def run(self, on_started_leading: Callable[[], Awaitable[None]]) -> None:
        """Waits for the lease, then runs the callback under it. Raises LeadershipLost."""
        while not await self._try():  # noqa: ASYNC110 (the event is at the server)
            await asyncio.sleep(self._timing.retry_period_s * self._random.uniform(1.0, 1.2))
        log.info("became leader", extra={"lease": self._name, "identity": self._identity})
        work = asyncio.ensure_future(on_started_leading())
        renewal = asyncio.create_task(self._renew())
        try:
            await asyncio.wait((work, renewal), return_when=asyncio.FIRST_COMPLETED)
            if renewal.done():
                raise LeadershipLost(f"lease {self._namespace}/{self._name} was not renewed in time")
            await work
        finally:
            for task in (work, renewal):
                task.cancel()
            await asyncio.gather(work, renewal, return_exceptions=True)
            await self._release()

    async def _renew(self) -> None:
        """Returns when the deadline has passed without a renewal."""
        loop = asyncio.get_running_loop()
        renewed_at = loop.time()
        while loop.time() - renewed_at < self._timing.renew_deadline_s:
            await asyncio.sleep(self._timing.retry_period_s)
            try:
                async with asyncio.timeout_at(renewed_at + self._timing.renew_deadline_s):
                    if await self._try():
                        renewed_at = loop.time()
            except TimeoutError:
                return

    async def _try(self) -> bool:
        """Takes or renews the lease, if it is ours, free or expired."""
        try:
            lease = await self._client.get(LEASES, self._name, self._namespace)
        except status.NotFound:
            lease = None
        except (status.ApiError, ConnectionError) as error:
            log.warning("lease not readable", extra={"lease": self._name, "error": str(error)})
            return False
        if lease is not None and not self._may_take(lease):
            return False
        wanted = self._record(lease)
        try:
            write = self._client.update if lease is not None else self._client.create
            self._observe(await write(LEASES, wanted))
        except (status.ApiError, ConnectionError) as error:
            log.info("lease not taken", extra={"lease": self._name, "error": str(error)})
            return False
        return True

    def _may_take(self, lease: Object) -> bool:
        self._observe(lease)
        spec = lease.get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        if holder in ("", self._identity):
            return True
        duration = spec.get("leaseDurationSeconds") or self._timing.lease_duration_s
        return asyncio.get_running_loop().time() - self._seen_at > duration

    def _observe(self, lease: Object) -> None:
        if self._seen is None or self._seen.get("spec") != lease.get("spec"):
            self._seen, self._seen_at = lease, asyncio.get_running_loop().time()

    def _record(self, lease: Object | None) -> Object:
        now = meta.format_micro_time(self._clock.now())
        new: Object = {"metadata": {"name": self._name, "namespace": self._namespace}}
        wanted = copy.deepcopy(lease) if lease else new
        spec = wanted.setdefault("spec", {})
        if spec.get("holderIdentity") != self._identity:
            spec["acquireTime"] = now
            spec["leaseTransitions"] = (spec.get("leaseTransitions") or 0) + 1 if lease else 0
        spec["holderIdentity"] = self._identity
        spec["leaseDurationSeconds"] = max(1, int(self._timing.lease_duration_s))
        spec["renewTime"] = now
        return wanted

    async def _release(self) -> None:
        """An ordered end hands the lease on at once."""
        try:
            async with asyncio.timeout(self._timing.retry_period_s):
                lease = await self._client.get(LEASES, self._name, self._namespace)
                if (lease.get("spec") or {}).get("holderIdentity") != self._identity:
                    return
                released = self._record(lease)
                released["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
                await self._client.update(LEASES, released)
        except (status.ApiError, ConnectionError, TimeoutError) as error:
            log.info("lease not released", extra={"lease": self._name, "error": str(error)})
