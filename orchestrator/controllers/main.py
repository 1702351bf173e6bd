"""The controller manager: starts every controller on one client and one set of shared informers.

With leader election, controllers start when this replica leads; losing the lease ends the process, as in Kubernetes.
Controllers begin after their informers have the whole state, so that nothing is created for want of having looked.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Protocol

from msgspec import Struct, field

from orchestrator.api.clock import SystemClock
from orchestrator.api.resources import REPLICATIONCONTROLLERS
from orchestrator.client.client import Client
from orchestrator.client.election import LeaderElector, Timing
from orchestrator.client.informer import Informers
from orchestrator.controllers.attachdetach import AttachDetachController
from orchestrator.controllers.bootstraptoken import BootstrapTokenCleaner
from orchestrator.controllers.certificates import CertificateController, Signer
from orchestrator.controllers.clusterroleaggregation import ClusterRoleAggregationController
from orchestrator.controllers.context import Context
from orchestrator.controllers.cronjob import CronJobController
from orchestrator.controllers.daemonset import DaemonSetController
from orchestrator.controllers.deployment import DeploymentController
from orchestrator.controllers.disruption import DisruptionController
from orchestrator.controllers.endpointslice import EndpointSliceController
from orchestrator.controllers.endpointslicemirroring import EndpointSliceMirroringController
from orchestrator.controllers.ephemeralvolume import EphemeralVolumeController
from orchestrator.controllers.expand import ExpandController
from orchestrator.controllers.garbagecollector import GarbageCollector
from orchestrator.controllers.job import JobController
from orchestrator.controllers.namespace import NamespaceController
from orchestrator.controllers.nodeipam import NodeIpamController
from orchestrator.controllers.nodelifecycle import GRACE_S, NodeLifecycleController
from orchestrator.controllers.podgc import TERMINATED_MAX, PodGarbageCollector
from orchestrator.controllers.policystatus import PolicyStatusController
from orchestrator.controllers.replicaset import ReplicaSetController
from orchestrator.controllers.resourcequota import ResourceQuotaController
from orchestrator.controllers.serviceaccount import RootCaPublisher, ServiceAccountController
from orchestrator.controllers.servicecidr import ServiceCidrController
from orchestrator.controllers.statefulset import StatefulSetController
from orchestrator.controllers.tainteviction import TaintEvictionController
from orchestrator.controllers.tokensecret import TokenSecretController
from orchestrator.controllers.ttlafterfinished import TtlAfterFinishedController
from orchestrator.controllers.volumebinder import VolumeBinder
from orchestrator.controllers.volumeprotection import VolumeProtection

log = logging.getLogger(__name__)

LAG_TOLD_S = 10.0


class Config(Struct, frozen=True, kw_only=True):
    kubeconfig: str = ""
    leader_elect: bool = False
    leader_election: Timing = field(default_factory=Timing)
    cluster_cidrs: list[str] = field(default_factory=list)  # pods; none: nodes get no ranges
    node_cidr_mask_size_ipv4: int = 24
    node_cidr_mask_size_ipv6: int = 64
    root_ca_file: str = ""  # published to every namespace
    cluster_signing_cert_file: str = ""
    cluster_signing_key_file: str = ""
    cluster_signing_duration_s: int = 365 * 24 * 3600
    service_account_key_file: str = ""  # signs tokens of secrets
    node_monitor_grace_period_s: float = GRACE_S
    terminated_pod_gc_threshold: int = TERMINATED_MAX


class Controller(Protocol):
    async def run(self) -> None: ...


async def run(config: Config, client: Client | None = None, informers: Informers | None = None) -> None:
    """Runs until cancelled, or until the lease is lost."""
    client = client or Client.from_kubeconfig(config.kubeconfig, user_agent="kube-controller-manager")
    context = Context(client, informers or Informers(client), SystemClock(), Random())

    async def lead() -> None:
        await run_all(context, config, runs_informers=informers is None)

    if not config.leader_elect:
        await lead()
        return
    identity = f"{socket.gethostname()}_{context.random.getrandbits(64):016x}"
    elector = LeaderElector(
        client, "kube-controller-manager", "kube-system", identity, context.clock, config.leader_election
    )
    await elector.run(lead)


async def run_all(context: Context, config: Config, *, runs_informers: bool) -> None:
    running = controllers(context, config)
    async with asyncio.TaskGroup() as group:
        if runs_informers:
            group.create_task(context.informers.run())
        await synced(context.informers)
        log.info("controllers start", extra={"count": len(running)})
        for controller in running:
            group.create_task(controller.run(), name=type(controller).__name__)


async def synced(informers: Informers) -> None:
    """Until all informers have their first state; says now and then which have not."""
    while informers.lagging():
        try:
            await asyncio.wait_for(informers.wait_synced(), LAG_TOLD_S)
        except TimeoutError:
            log.warning("informers have no state yet", extra={"resources": informers.lagging()})


def controllers(context: Context, config: Config) -> Sequence[Controller]:
    """All controllers; the garbage collector last, as it takes the informers that the others have."""
    found: list[Controller] = [
        ServiceAccountController(context),
        NamespaceController(context),
        ReplicaSetController(context),
        ReplicaSetController(context, REPLICATIONCONTROLLERS),
        DeploymentController(context),
        StatefulSetController(context),
        DaemonSetController(context),
        JobController(context),
        TtlAfterFinishedController(context),
        CronJobController(context),
        EndpointSliceController(context),
        EndpointSliceMirroringController(context),
        NodeLifecycleController(context, config.node_monitor_grace_period_s),
        TaintEvictionController(context),
        PodGarbageCollector(context, config.terminated_pod_gc_threshold),
        VolumeBinder(context),
        VolumeProtection(context),
        AttachDetachController(context),
        ExpandController(context),
        EphemeralVolumeController(context),
        DisruptionController(context),
        ResourceQuotaController(context),
        BootstrapTokenCleaner(context),
        ClusterRoleAggregationController(context),
        PolicyStatusController(context),
        ServiceCidrController(context),
    ]
    found += with_credentials(context, config)
    if config.cluster_cidrs:
        found.append(NodeIpamController(context, node_ranges(config)))
    found.append(GarbageCollector(context))
    return found


def with_credentials(context: Context, config: Config) -> list[Controller]:
    """Those that need the cluster's CA or keys, as far as they are there."""
    found: list[Controller] = []
    root_ca = Path(config.root_ca_file).read_text() if config.root_ca_file else ""
    if root_ca:
        found.append(RootCaPublisher(context, root_ca))
    if config.service_account_key_file:
        key = Path(config.service_account_key_file).read_bytes()
        found.append(TokenSecretController(context, key, root_ca))
    if config.cluster_signing_cert_file and config.cluster_signing_key_file:
        certificate = Path(config.cluster_signing_cert_file).read_bytes()
        signing_key = Path(config.cluster_signing_key_file).read_bytes()
        signer = Signer(certificate, signing_key, config.cluster_signing_duration_s)
        found.append(CertificateController(context, signer))
    return found


def node_ranges(config: Config) -> list[tuple[str, int]]:
    """Each cluster range with the size that a node gets of it."""
    sizes = {4: config.node_cidr_mask_size_ipv4, 6: config.node_cidr_mask_size_ipv6}
    return [(text, sizes[ipaddress.ip_network(text).version]) for text in config.cluster_cidrs]
