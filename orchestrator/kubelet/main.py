"""The kubelet as a component: adapters, the node's reporter, the table of pods and the server, wired and run."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from random import Random

from orchestrator.api import quantity
from orchestrator.api.clock import Clock, SystemClock
from orchestrator.api.resources import NODES, PODS, SERVICES
from orchestrator.client.client import Client
from orchestrator.client.events import EventRecorder
from orchestrator.client.informer import Informers
from orchestrator.kubelet import etcfiles
from orchestrator.kubelet.config import Config
from orchestrator.kubelet.dirs import Dirs
from orchestrator.kubelet.disks import Disks
from orchestrator.kubelet.downwardapi import NodeFacts
from orchestrator.kubelet.handlers import Handlers
from orchestrator.kubelet.images import Images
from orchestrator.kubelet.node import emptydirlimits
from orchestrator.kubelet.node.garbage import GarbageCollector
from orchestrator.kubelet.node.logrotation import LogRotation
from orchestrator.kubelet.node.reporter import Reporter
from orchestrator.kubelet.objects import Objects
from orchestrator.kubelet.pods import Pods
from orchestrator.kubelet.porter import NodeInfo, Porter, PorterFailure, SocketPorter
from orchestrator.kubelet.runtime.interface import Runtime, RuntimeUnavailable
from orchestrator.kubelet.runtime.libpod import Libpod
from orchestrator.kubelet.runtime.podman import Podman
from orchestrator.kubelet.server.server import serve
from orchestrator.kubelet.statuswriter import StatusWriter
from orchestrator.kubelet.surroundings import Surroundings
from orchestrator.kubelet.tokens import Tokens

__all__ = ["Config", "run"]

log = logging.getLogger(__name__)

WAIT_S = 0.1  # between looks at what is not up yet: Podman's service, the porter


async def run(config: Config, client: Client | None = None, informers: Informers | None = None) -> None:
    """This node's kubelet, until cancelled. Containers go on running after it."""
    client = client or Client.from_kubeconfig(config.kubeconfig, user_agent="kubelet")
    porter = SocketPorter(Path(config.porter_socket))
    info = await _porter_info(porter)
    runtime = Podman(Libpod(config.runtime_socket), porter, limits_by_porter=info.cgroup_version != 2)
    await _runtime_up(runtime)
    own = informers is None
    informers = informers or Informers(client)
    kubelet = Kubelet(config, client, informers, runtime, porter)
    try:
        async with asyncio.TaskGroup() as tasks:
            if own:
                tasks.create_task(informers.run())
            tasks.create_task(kubelet.run())
            tasks.create_task(serve(config, kubelet.pods, runtime, porter, client))
    finally:
        await runtime.close()


class Kubelet:
    """Everything but the server, on any runtime and porter."""

    def __init__(
        self,
        config: Config,
        client: Client,
        informers: Informers,
        runtime: Runtime,
        porter: Porter,
        clock: Clock | None = None,
        random: Random | None = None,
    ) -> None:
        self._config, self._informers = config, informers
        clock, random = clock or SystemClock(), random or Random()
        recorder = EventRecorder(client, "kubelet", config.node_name, clock)
        Path(config.root_dir).mkdir(parents=True, exist_ok=True)
        self.reporter = Reporter(config, client, recorder, clock, runtime, porter)
        self.pods = Pods()
        self.statuses = StatusWriter(client)
        self._log_rotation = LogRotation(Path(config.log_dir), runtime, clock)
        self._garbage = GarbageCollector(config, runtime, clock)
        self.disks = Disks(client, recorder, porter, self.reporter.report_in_use, self.pods.all)
        objects = Objects(client, informers, self.pods.object_changed)
        self._services = informers.informer(SERVICES)
        self._handlers = Handlers(runtime)
        self.surroundings = Surroundings(
            config=config,
            dirs=Dirs(Path(config.root_dir), Path(config.log_dir)),
            clock=clock,
            random=random,
            client=client,
            recorder=recorder,
            runtime=runtime,
            porter=porter,
            disks=self.disks,
            images=Images(runtime, objects, clock),
            objects=objects,
            tokens=Tokens(client, clock),
            handlers=self._handlers,
            statuses=self.statuses,
            facts=_facts(config, self.reporter),
            node=lambda: self.reporter.node,
            services=lambda: self._services.cache.list(),
            admitted=self.pods.admitted,
            mirror=self.pods.mirror,
            room_made=self.pods.room_made,
            resolver=_resolver(Path(config.resolv_conf)),
            memory_capacity_bytes=quantity.ceil(self.reporter.capacity["memory"]),
        )

    async def run(self) -> None:
        """Until cancelled: first what runs already is taken over, then the API is followed."""
        try:
            async with asyncio.TaskGroup() as tasks:
                await self.disks.recover()
                self.reporter.volumes_in_use = self.disks.in_use
                await self.pods.begin(self.surroundings)
                tasks.create_task(self.statuses.run())
                tasks.create_task(self.pods.follow_runtime())
                tasks.create_task(self.pods.follow_manifests())
                tasks.create_task(self._garbage.run())
                tasks.create_task(self._log_rotation.run())
                tasks.create_task(self.disks.run())
                tasks.create_task(emptydirlimits.run(self.pods.all, self.surroundings.dirs, self.pods.evict))
                await self._follow_api(tasks)
        finally:
            await self.pods.stop()
            await self._handlers.close()

    async def _follow_api(self, tasks: asyncio.TaskGroup) -> None:
        mine = self._config.node_name
        node = self._informers.informer(NODES, field_selector=f"metadata.name={mine}")
        node.add_handler(self.reporter.on_node)
        node.add_handler(lambda old, new: self.disks.node_changed(new))
        pods = self._informers.informer(PODS, field_selector=f"spec.nodeName={mine}")
        tasks.create_task(self.reporter.run())
        # A pod's environment has the services of its namespace, and its admission asks for the node.
        await self._services.wait_synced()
        await self.reporter.registered.wait()
        pods.add_handler(self.pods.on_pod)
        await pods.wait_synced()
        await self.pods.remove_orphans()


def _facts(config: Config, reporter: Reporter) -> Callable[[], NodeFacts]:
    return lambda: NodeFacts(config.node_name, tuple(config.node_ips), reporter.allocatable)


def _resolver(file: Path) -> Callable[[], etcfiles.Resolver]:
    """The node's own, read when a pod asks: it may have changed."""

    def read() -> etcfiles.Resolver:
        try:
            return etcfiles.parse_resolver(file.read_text())
        except OSError:
            return etcfiles.Resolver()

    return read


async def _porter_info(porter: Porter) -> NodeInfo:
    told = False
    while True:
        try:
            return await porter.node_info()
        except PorterFailure as error:
            if not told:
                log.info("waiting for the porter", extra={"error": str(error)})
                told = True
            await asyncio.sleep(WAIT_S)


async def _runtime_up(runtime: Runtime) -> None:
    told = False
    while True:
        try:
            version = await runtime.version()
            log.info("runtime is up", extra={"version": version})
            return
        except RuntimeUnavailable as error:
            if not told:
                log.info("waiting for the runtime", extra={"error": str(error)})
                told = True
            await asyncio.sleep(WAIT_S)
