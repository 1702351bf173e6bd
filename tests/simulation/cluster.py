"""A simulated cluster: API server in memory, all controllers, a scheduler, fake kubelets, faults, and one seed.

Everything that is left to chance comes from one Random, and time is the loop's: the same seed is the same history.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.api.resources import DEPLOYMENTS, NAMESPACES, PODS, ResourceTable
from orchestrator.api.wire import Identity
from orchestrator.apiserver.cachedlookup import CachedLookup
from orchestrator.apiserver.discovery import Discovery
from orchestrator.apiserver.endpoint import Core
from orchestrator.apiserver.handlers import Tables
from orchestrator.apiserver.server import ApiServer
from orchestrator.apiserver.strategies.binding import PodBinding
from orchestrator.apiserver.strategies.rewrite import StoreRewriter
from orchestrator.apiserver.watchcache import WatchCache
from orchestrator.client.client import Client
from orchestrator.client.informer import Informers
from orchestrator.client.inprocess import InProcessTransport
from orchestrator.controllers import main as controllers
from orchestrator.controllers.context import Context
from orchestrator.scheduler import main as scheduler
from orchestrator.scheduler.configuration import Configuration
from orchestrator.store.memory import MemoryStore
from tests.apiserver_fixture import EveryoneIsAdmin, EverythingIsAllowed, NothingIsAdmitted
from tests.simulation.fake_kubelet import FakeKubelet
from tests.simulation.faults import Faults, FaultyTransport
from tests.simulation.virtual_time import VirtualClock

log = logging.getLogger(__name__)

STEP_S = 0.25  # between two looks at the invariants


@dataclass
class Cluster:
    """A running cluster; `client` never suffers faults."""

    client: Client
    random: Random
    kubelets: dict[str, FakeKubelet]
    transports: list[FaultyTransport] = field(default_factory=list)
    invariants: list[Callable[[Cluster], object]] = field(default_factory=list)
    pods: dict[str, Object] = field(default_factory=dict)

    def faults(self, *, on: bool) -> None:
        for transport in self.transports:
            transport.is_on = on

    async def until(self, holds: Callable[[], object], limit_s: float, what: str = "") -> float:
        """Lets time pass until the condition holds; returns the seconds that took."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while not holds():
            assert loop.time() - began < limit_s, f"not within {limit_s} s: {what or holds}"
            await asyncio.sleep(STEP_S)
            self._check()
        return loop.time() - began

    async def pass_time(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while loop.time() < end:
            await asyncio.sleep(STEP_S)
            self._check()

    def _check(self) -> None:
        for invariant in self.invariants:
            invariant(self)


@asynccontextmanager
async def simulated(seed: int, *, node_count: int = 3, faults: Faults = Faults()) -> AsyncIterator[Cluster]:  # noqa: B008
    random = Random(seed)
    loop = asyncio.get_running_loop()
    clock = VirtualClock(loop)
    store = MemoryStore(clock)
    cache = WatchCache(store)
    core = Core(
        store=store,
        cache=cache,
        clock=clock,
        new_uid=lambda: str(uuid.UUID(int=random.getrandbits(128), version=4)),
        random=Random(random.random()),
        admission=NothingIsAdmitted(),
        tables=Tables(handlers=PodBinding(StoreRewriter(store, cache), clock).handlers()),
        resources=ResourceTable(),
    )
    server = ApiServer(core, CachedLookup(cache), EveryoneIsAdmin(), EverythingIsAllowed())
    server.add_resources(core.resources)
    discovery = Discovery(core.resources)
    server.routes |= {
        "/api": discovery.core,
        "/api/": discovery.core,
        "/apis": discovery.groups,
        "/apis/": discovery.groups,
    }
    await cache.start()
    server.start()
    transports: list[FaultyTransport] = []

    def client(name: str) -> Client:
        inner = InProcessTransport(server.handle, Identity(name, ("system:masters",)))
        transport = FaultyTransport(inner, faults, Random(random.random()))
        transports.append(transport)
        return Client(transport, name)

    for name in ("default", "kube-system", "kube-node-lease"):
        await server.client.create(NAMESPACES, {"metadata": {"name": name}})
    kubelets = {
        f"n{number}": FakeKubelet(f"n{number}", number, client(f"kubelet-n{number}"), clock, Random(random.random()))
        for number in range(node_count)
    }
    cluster = Cluster(server.client, random, kubelets, transports)
    manager = client("kube-controller-manager")
    context = Context(manager, Informers(manager, Random(random.random())), clock, Random(random.random()))
    config = controllers.Config(cluster_cidrs=["10.244.0.0/16", "fd00:10:244::/56"])
    running = [
        asyncio.create_task(controllers.run_all(context, config, runs_informers=True)),
        asyncio.create_task(run_scheduler(client("kube-scheduler"), Random(random.random()), clock)),
        asyncio.create_task(follow(server.client, cluster)),
        *(asyncio.create_task(kubelet.run()) for kubelet in kubelets.values()),
    ]
    try:
        yield cluster
    finally:
        for task in running:
            task.cancel()
        ended = await asyncio.gather(*running, return_exceptions=True)
        await server.close()
        await store.close()
        for result in ended:
            if isinstance(result, Exception):
                raise result


async def follow(client: Client, cluster: Cluster) -> None:
    """Keeps the cluster's own view of all pods, for conditions and invariants."""
    informers = Informers(client, Random(0))
    pods = informers.informer(PODS)

    def changed(old: Object | None, new: Object | None) -> None:
        if new is None:
            cluster.pods.pop(meta.key(old or {}), None)
        else:
            cluster.pods[meta.key(new)] = new

    pods.add_handler(changed)
    await informers.run()


async def run_scheduler(client: Client, random: Random, clock: VirtualClock) -> None:
    async with Informers(client, random) as informers:
        await scheduler.schedule(Configuration(), random, client, informers, clock)


def deployment(name: str, replicas: int, image: str = "web:1", **spec: object) -> Object:
    labels = {"app": name}
    container = {"name": "c", "image": image}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [container], "tolerations": tolerations(30)},
            },
            **spec,
        },
    }


def tolerations(seconds: int) -> list[Object]:
    return [
        {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}
        for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
    ]


def ready(cluster: Cluster, app: str, image: str = "") -> list[Object]:
    """The ready pods of an app that are not being deleted."""
    return [
        pod
        for pod in cluster.pods.values()
        if meta.labels(pod).get("app") == app
        and not meta.is_deleting(pod)
        and any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions") or ())
        and (not image or pod["spec"]["containers"][0]["image"] == image)
    ]


__all__ = ["DEPLOYMENTS", "Cluster", "deployment", "ready", "simulated", "tolerations"]
