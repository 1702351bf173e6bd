"""An API server in memory for tests: everyone may do everything, nothing is admitted or refused; pods can be bound.

    async with serving() as served:
        await served.client.create(CONFIGMAPS, {...})

`served.server.handle(Request(...))` is the server itself; `serving(store=…, clock=…)` takes other parts.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from orchestrator.api.clock import Clock, SystemClock
from orchestrator.api.resources import ResourceTable
from orchestrator.api.wire import Identity, Request
from orchestrator.apiserver.cachedlookup import CachedLookup
from orchestrator.apiserver.endpoint import Core
from orchestrator.apiserver.handlers import Tables
from orchestrator.apiserver.request import AdmissionChain, Attributes, Decision
from orchestrator.apiserver.server import ApiServer
from orchestrator.apiserver.strategies.binding import PodBinding
from orchestrator.apiserver.strategies.rewrite import StoreRewriter
from orchestrator.apiserver.watchcache import WatchCache
from orchestrator.client.client import Client
from orchestrator.store.interface import Store
from orchestrator.store.memory import MemoryStore

ADMIN = Identity("admin", ("system:masters", "system:authenticated"))


class EveryoneIsAdmin:
    def authenticate(self, request: Request) -> Identity:
        return request.identity or ADMIN


class EverythingIsAllowed:
    def authorize(self, attributes: Attributes) -> Decision:
        return Decision(True)


class NothingIsAdmitted:
    """No admission plugin."""

    async def mutate(self, attributes: Attributes) -> None: ...

    async def validate(self, attributes: Attributes) -> None: ...


@dataclass
class Served:
    server: ApiServer
    client: Client
    store: Store


@asynccontextmanager
async def serving(
    store: Store | None = None,
    clock: Clock | None = None,
    tables: Tables | None = None,
    admission: AdmissionChain | None = None,
    seed: int = 1,
) -> AsyncIterator[Served]:
    clock = clock or SystemClock()
    store = store or MemoryStore(clock)
    cache = WatchCache(store)
    core = Core(
        store=store,
        cache=cache,
        clock=clock,
        new_uid=lambda: str(uuid.uuid4()),
        random=random.Random(seed),
        admission=admission or NothingIsAdmitted(),
        tables=tables or Tables(handlers=PodBinding(StoreRewriter(store, cache), clock).handlers()),
        resources=ResourceTable(),
    )
    server = ApiServer(core, CachedLookup(cache), EveryoneIsAdmin(), EverythingIsAllowed())
    server.add_resources(core.resources)
    await cache.start()
    server.start()
    try:
        yield Served(server, server.client, store)
    finally:
        await server.close()
        await store.close()
