"""A whole API server in this process, with its access chain, over the store in memory."""

from __future__ import annotations

import random
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from orchestrator.api.clock import SystemClock
from orchestrator.api.resources import NAMESPACES, ROWS, SERVICEACCOUNTS, ResourceTable
from orchestrator.api.wire import Identity
from orchestrator.apiserver.access import Access, AccessConfig, Surroundings
from orchestrator.apiserver.admission.chain import Chain
from orchestrator.apiserver.authn.clientcert import ClientCertificates
from orchestrator.apiserver.cachedlookup import CachedLookup
from orchestrator.apiserver.endpoint import Core
from orchestrator.apiserver.handlers import Tables
from orchestrator.apiserver.server import ApiServer
from orchestrator.apiserver.strategies.rewrite import StoreRewriter
from orchestrator.apiserver.strategies.service import ServiceAllocation
from orchestrator.apiserver.watchcache import WatchCache
from orchestrator.client.client import Client
from orchestrator.client.inprocess import InProcessTransport
from orchestrator.store.memory import MemoryStore


class Cluster:
    """The server, and clients of it under any name."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self.root = server.client

    def client(self, name: str, *groups: str) -> Client:
        return Client(InProcessTransport(self.server.handle, Identity(name, groups)))


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    key = ec.generate_private_key(ec.SECP256R1())
    path = tmp_path / "sa.key"
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    store = MemoryStore()
    cache = WatchCache(store)
    clock, chance = SystemClock(), random.Random(1)

    def new_uid() -> str:
        return str(uuid.UUID(int=chance.getrandbits(128), version=4))

    table = ResourceTable()
    core = Core(store, cache, clock, new_uid, chance, Chain([], []), Tables(), table)
    for row in ROWS:
        core.add(row)
    await cache.start()
    lookup = CachedLookup(cache)
    config = AccessConfig(service_account_signing_key_file=str(path))
    around = Surroundings(lookup=lookup, clock=clock, random=chance, new_uid=new_uid)
    access = Access(config, around, ClientCertificates(clock))
    core.admission = access.admission
    server = ApiServer(core, lookup, access.authenticator, access.authorizer)
    services = ServiceAllocation(access.addresses(server.client), access.node_ports(store))
    core.tables = access.tables(StoreRewriter(store, cache), server.client, services)
    server.start()
    for name in ("default", "kube-system", "kube-public", "kube-node-lease"):
        await server.client.create(NAMESPACES, {"metadata": {"name": name}})
    await access.bootstrap(server.client)
    account = {"metadata": {"name": "default", "namespace": "default"}}
    await server.client.create(SERVICEACCOUNTS, account)
    yield Cluster(server)
    await server.close()
    await store.close()
