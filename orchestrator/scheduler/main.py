"""The scheduler's process: read the configuration, follow the cluster, schedule while leading."""

from __future__ import annotations

import asyncio
import socket
import uuid
from contextlib import AsyncExitStack
from random import Random

from msgspec import Struct

from orchestrator.api.clock import Clock, SystemClock
from orchestrator.client.client import Client
from orchestrator.client.election import LeaderElector
from orchestrator.client.events import EventRecorder
from orchestrator.client.informer import Informers
from orchestrator.scheduler import configuration
from orchestrator.scheduler.binding import Binder
from orchestrator.scheduler.changes import Change, ChangeKind
from orchestrator.scheduler.configuration import Configuration, make_framework
from orchestrator.scheduler.follower import Follower
from orchestrator.scheduler.framework import Framework
from orchestrator.scheduler.outbox import Outbox
from orchestrator.scheduler.pod import Pod
from orchestrator.scheduler.queue import SchedulingQueue
from orchestrator.scheduler.scheduler import Scheduler

LEASE = ("kube-scheduler", "kube-system")


class Config(Struct, frozen=True, kw_only=True):
    """`configuration` is the path of a KubeSchedulerConfiguration; without one there is the default profile. `seed`
    fixes the choice among nodes of equal score."""

    kubeconfig: str = ""
    configuration: str = ""
    leader_elect: bool = False
    seed: int | None = None


async def run(config: Config, client: Client | None = None, informers: Informers | None = None) -> None:
    """Schedules until cancelled. Errors: ConfigurationError; LeadershipLost."""
    chosen = configuration.load(config.configuration) if config.configuration else Configuration()
    async with AsyncExitStack() as stack:
        if client is None:
            client = Client.from_kubeconfig(config.kubeconfig, user_agent="kube-scheduler")
            stack.push_async_callback(client.close)
        if informers is None:
            informers = await stack.enter_async_context(Informers(client))
        known_client, known_informers = client, informers

        async def lead() -> None:
            await schedule(chosen, Random(config.seed), known_client, known_informers)

        if not config.leader_elect:
            await lead()
            return
        identity = f"{socket.gethostname()}_{uuid.uuid4()}"
        await LeaderElector(client, *LEASE, identity).run(lead)


async def schedule(
    chosen: Configuration, random: Random, client: Client, informers: Informers, clock: Clock | None = None
) -> None:
    """Wires one scheduler and runs it."""
    clock = clock or SystemClock()
    frameworks = {profile.scheduler_name: make_framework(profile, random) for profile in chosen.profiles}
    recorders = {name: EventRecorder(client, name, clock=clock) for name in frameworks}
    follower = Follower(informers, frameworks.__contains__)

    def helps(change: Change, pod: Pod, plugins: frozenset[str]) -> bool:
        return _framework(frameworks, pod).helps(change, pod, plugins)

    def hears(kind: ChangeKind, plugins: frozenset[str]) -> bool:
        return any(framework.hears(kind, plugins) for framework in frameworks.values())

    queue = SchedulingQueue(
        asyncio.get_running_loop().time,
        hears,
        helps,
        backoff_first_s=chosen.backoff_first_s,
        backoff_max_s=chosen.backoff_max_s,
    )
    binder = Binder(client, recorders, clock, follower.listers.claims.get)
    await follower.wait_synced()
    try:
        async with Outbox() as outbox, asyncio.TaskGroup() as tasks:
            claims_changed = asyncio.Event()
            follower.start(queue, claims_changed.set)
            tasks.create_task(_tell_binder(binder, claims_changed))
            tasks.create_task(Scheduler(frameworks, follower, queue, binder, outbox, random).run())
    finally:
        for recorder in recorders.values():
            await recorder.close()


def _framework(frameworks: dict[str, Framework], pod: Pod) -> Framework:
    return frameworks[pod.scheduler_name]


async def _tell_binder(binder: Binder, claims_changed: asyncio.Event) -> None:
    while True:
        await claims_changed.wait()
        claims_changed.clear()
        await binder.claims_changed()
