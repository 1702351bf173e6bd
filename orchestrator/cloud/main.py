"""The cloud controller: starts the controllers of what its cloud offers, on one client and one set of informers.

It runs where the cloud's gateway is: on the lab host's network, or in the network namespace of the hypervisor.
With leader election, controllers start when this replica leads; losing the lease ends the process.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from typing import Protocol

from msgspec import Struct, field

from orchestrator.api.clock import SystemClock
from orchestrator.api.settings import SettingsError
from orchestrator.client.client import Client
from orchestrator.client.election import LeaderElector, Timing
from orchestrator.client.informer import Informers
from orchestrator.cloud.context import Context
from orchestrator.cloud.gateway import Gateway
from orchestrator.cloud.gateway_addresses import Range
from orchestrator.cloud.gateway_routes import GatewayRoutes
from orchestrator.cloud.gateway_rules import Place
from orchestrator.cloud.hypervisors import Hypervisors
from orchestrator.cloud.libvirt import LibvirtConfig, LibvirtInstances, bridge_of
from orchestrator.cloud.libvirt_volumes import LibvirtVolumes
from orchestrator.cloud.local import LocalConfig, LocalInstances, node_pids
from orchestrator.cloud.local_volumes import LocalVolumes
from orchestrator.cloud.node import CloudNodeController
from orchestrator.cloud.nodelifecycle import LOOK_S, CloudNodeLifecycleController
from orchestrator.cloud.programs import PacketFilter
from orchestrator.cloud.provider import Cloud, Volumes
from orchestrator.cloud.route import RouteController
from orchestrator.cloud.service import ServiceController
from orchestrator.cloud.volume_attacher import VolumeAttacher
from orchestrator.cloud.volume_driver import VolumeDriver
from orchestrator.cloud.volume_provisioner import VolumeProvisioner
from orchestrator.cloud.volume_resizer import VolumeResizer

log = logging.getLogger(__name__)

LEASE = ("cloud-controller-manager", "kube-system")


class GatewayConfig(Struct, frozen=True, kw_only=True):
    """`bridge`: to the nodes; the libvirt network's where empty. `load_balancer_ranges`: FIRST-LAST, each of one
    family. `route_metric`: the lab's own, so that labs with the same pod networks can live on one machine. `host_root`:
    where this process, with a root of its own, sees that of the host whose network it changes."""

    table: str
    addresses: list[str]
    networks: list[str]
    load_balancer_ranges: list[str]
    bridge: str = ""
    route_metric: int = 1024
    host_root: str = ""


class Config(Struct, frozen=True, kw_only=True):
    """Exactly one of `local` and `libvirt` says what the machines are."""

    lab: str
    kubeconfig: str = ""
    leader_elect: bool = False
    leader_election: Timing = field(default_factory=Timing)
    node_monitor_period_s: float = LOOK_S
    gateway: GatewayConfig | None = None
    local: LocalConfig | None = None
    libvirt: LibvirtConfig | None = None


class Controller(Protocol):
    async def run(self) -> None: ...


async def run(config: Config, client: Client | None = None, informers: Informers | None = None) -> None:
    """Runs until cancelled, or until the lease is lost. Errors: SettingsError, CloudError, LeadershipLost."""
    async with AsyncExitStack() as stack:
        if client is None:
            client = Client.from_kubeconfig(config.kubeconfig, user_agent="cloud-controller-manager")
            stack.push_async_callback(client.close)
        if informers is None:
            informers = await stack.enter_async_context(Informers(client))
        cloud = await make_cloud(config, stack)
        context = Context(cloud, client, informers, SystemClock())

        async def lead() -> None:
            await run_all(context, config)

        if not config.leader_elect:
            await lead()
            return
        identity = f"{socket.gethostname()}_{Random().getrandbits(64):016x}"
        await LeaderElector(client, *LEASE, identity, context.clock, config.leader_election).run(lead)


async def run_all(context: Context, config: Config) -> None:
    """Controllers begin once the informers have the whole state: what is not seen yet must not count as gone."""
    running = controllers(context, config)
    await context.informers.wait_synced()
    log.info("controllers start", extra={"cloud": context.cloud.name, "count": len(running)})
    async with asyncio.TaskGroup() as group:
        for work in (*context.cloud.background, *running):
            group.create_task(work.run(), name=type(work).__name__)


def controllers(context: Context, config: Config) -> Sequence[Controller]:
    cloud = context.cloud
    found: list[Controller] = [
        CloudNodeController(context),
        CloudNodeLifecycleController(context, config.node_monitor_period_s),
    ]
    if cloud.routes is not None:
        found.append(RouteController(context, cloud.routes))
    if cloud.load_balancers is not None:
        found.append(ServiceController(context, cloud.load_balancers))
    if cloud.volumes is not None:
        found += volume_controllers(context, cloud.volumes)
    return found


def volume_controllers(context: Context, disks: Volumes) -> Sequence[Controller]:
    return (
        VolumeDriver(context),
        VolumeProvisioner(context, disks),
        VolumeAttacher(context, disks),
        VolumeResizer(context, disks),
    )


async def make_cloud(config: Config, stack: AsyncExitStack) -> Cloud:
    """The cloud that the settings describe; what it holds open is closed by `stack`."""
    if config.local is not None and config.libvirt is None:
        instances = LocalInstances(config.lab, config.local)
        socket_path = Path(config.local.control_socket)
        disks = LocalVolumes(socket_path.parent / "volumes", node_pids(socket_path))
        return _with_gateway(Cloud("local", instances, volumes=disks), config.gateway, "")
    if config.libvirt is not None and config.local is None:
        hypervisors = Hypervisors()
        stack.push_async_callback(hypervisors.close)
        machines = LibvirtInstances(config.lab, config.libvirt, hypervisors)
        bridge = await bridge_of(hypervisors, config.libvirt.uri, config.lab) if config.gateway else ""
        volumes = LibvirtVolumes(config.lab, config.libvirt, hypervisors)
        return _with_gateway(Cloud("libvirt", machines, volumes=volumes), config.gateway, bridge)
    raise SettingsError("cloud-controller: exactly one of `local` and `libvirt` must be set")


def _with_gateway(cloud: Cloud, config: GatewayConfig | None, bridge: str) -> Cloud:
    if config is None:
        return cloud
    link = config.bridge or bridge
    if not link:
        raise SettingsError("cloud-controller: gateway.bridge must be set where the lab has no libvirt network")
    try:
        ranges = [Range.parse(text) for text in config.load_balancer_ranges]
    except ValueError as error:
        raise SettingsError(f"cloud-controller: gateway.load_balancer_ranges: {error}") from error
    place = Place(table=config.table, bridge=link, addresses=tuple(config.addresses), networks=tuple(config.networks))
    gateway = Gateway(place, ranges, PacketFilter(config.host_root))
    return Cloud(
        cloud.name,
        cloud.instances,
        routes=GatewayRoutes(link, config.route_metric),
        load_balancers=gateway,
        volumes=cloud.volumes,
        background=(gateway,),
    )
