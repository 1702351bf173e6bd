"""The loop: take a Pod from the queue, decide, assume the decision, post its binding, take the next.

A decision never awaits, so the snapshot it sees is one state. Binding happens in the background, many Pods at once; one
that fails is forgotten and its Pod tries again. The loop gives way every few milliseconds, so that informers are heard
and calls leave while a thousand Pods wait. When no node fits, preemption may nominate one: the victims are asked to
go, and the Pod waits for them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from random import Random

from orchestrator.api import status
from orchestrator.scheduler.binding import Binder, VolumesNotBound
from orchestrator.scheduler.follower import Follower
from orchestrator.scheduler.framework import Chosen, Cycle, Diagnosis, Framework
from orchestrator.scheduler.outbox import Outbox
from orchestrator.scheduler.plugins.defaultpreemption import DefaultPreemption, Preemption
from orchestrator.scheduler.plugins.volumebinding import Binding, VolumeBinding
from orchestrator.scheduler.pod import Pod
from orchestrator.scheduler.queue import SchedulingQueue, Waiting

log = logging.getLogger(__name__)

TURN_S = 0.005  # of decisions before others get their turn


class Scheduler:
    """One process's scheduler, with a framework for each scheduler name."""

    def __init__(
        self,
        frameworks: Mapping[str, Framework],
        follower: Follower,
        queue: SchedulingQueue,
        binder: Binder,
        outbox: Outbox,
        random: Random,
    ) -> None:
        self._frameworks = frameworks
        self._follower = follower
        self._queue = queue
        self._binder = binder
        self._outbox = outbox
        self._random = random

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        turn_ends = loop.time() + TURN_S
        while True:
            waiting = await self._queue.pop()
            await self.schedule(waiting)
            if loop.time() > turn_ends:
                await asyncio.sleep(0)
                turn_ends = loop.time() + TURN_S

    async def schedule(self, waiting: Waiting) -> None:
        """One Pod's cycle. Awaits only to post."""
        pod = waiting.pod
        framework = self._frameworks[pod.scheduler_name]
        cycle = Cycle(pod, self._follower.snapshot, self._follower.listers)
        nominated = self._nominated_beside(pod)
        decision = framework.decide(cycle, nominated)
        if isinstance(decision, Chosen):
            await self._place(waiting, framework, cycle, decision)
        else:
            await self._refuse(waiting, framework, cycle, decision, nominated)

    def _nominated_beside(self, pod: Pod) -> list[Pod]:
        return [
            other
            for other in self._follower.nominated.values()
            if other.key != pod.key and other.priority >= pod.priority
        ]

    async def _place(self, waiting: Waiting, framework: Framework, cycle: Cycle, chosen: Chosen) -> None:
        placed = waiting.pod.on(chosen.node_name)
        volumes = framework.plugin(VolumeBinding.name)
        plan = volumes.reserve(cycle, chosen.node_name) if isinstance(volumes, VolumeBinding) else []
        self._follower.assume(placed)
        await self._outbox.post(lambda: self._bind(waiting, placed, plan, framework))

    async def _bind(self, waiting: Waiting, placed: Pod, plan: list[Binding], framework: Framework) -> None:
        try:
            await self._binder.bind(placed, plan)
        except status.NotFound:
            self._follower.forget(placed)
            self._queue.done(waiting)  # deleted meanwhile, as its informer will say
        except (status.ApiError, ConnectionError, VolumesNotBound) as error:
            log.warning("pod not bound", extra={"pod": placed.key, "node": placed.node_name, "error": str(error)})
            self._follower.forget(placed)
            self._queue.failed(waiting, frozenset(), is_error=True)
            await self._report(waiting.pod, "SchedulerError", f"binding rejected: {error}", None)
        else:
            self._queue.done(waiting)
            log.info("pod bound", extra={"pod": placed.key, "node": placed.node_name})
        finally:
            volumes = framework.plugin(VolumeBinding.name)
            if isinstance(volumes, VolumeBinding):
                volumes.release(plan)

    async def _refuse(
        self, waiting: Waiting, framework: Framework, cycle: Cycle, diagnosis: Diagnosis, nominated: list[Pod]
    ) -> None:
        pod = waiting.pod
        node_name = None
        preemption = self._preempt(framework, cycle, diagnosis, nominated)
        self._queue.failed(waiting, diagnosis.plugins)  # before anything awaits: the change that helps may come then
        if isinstance(preemption, Preemption):
            node_name = preemption.node_name
            self._follower.nominated[pod.key] = pod.nominated_to(node_name)
            await self._make_room(pod, preemption)
        elif preemption:
            diagnosis = diagnosis.with_preemption(f"preemption: {preemption}")
            if pod.nominated_node and not preemption.startswith("not eligible"):
                node_name = ""
                self._follower.nominated.pop(pod.key, None)
        log.debug("pod not scheduled", extra={"pod": pod.key, "why": str(diagnosis)})
        message, name = str(diagnosis), node_name
        await self._outbox.post(lambda: self._report(pod, "Unschedulable", message, name))

    def _preempt(
        self, framework: Framework, cycle: Cycle, diagnosis: Diagnosis, nominated: list[Pod]
    ) -> Preemption | str:
        plugin = framework.plugin(DefaultPreemption.name)
        if not isinstance(plugin, DefaultPreemption) or framework.is_without("preempt", plugin.name):
            return ""
        if not diagnosis.node_count:
            return ""
        return plugin.preempt(framework, cycle, diagnosis, nominated, self._random)

    async def _make_room(self, pod: Pod, preemption: Preemption) -> None:
        """Victims are asked to go; less important Pods that hoped for this node have to look again."""
        for victim in preemption.victims:
            await self._outbox.post(lambda victim=victim: self._evict(victim, pod))  # type: ignore[misc]
        for other in list(self._follower.nominated.values()):
            if other.nominated_node == preemption.node_name and other.priority < pod.priority:
                del self._follower.nominated[other.key]
                await self._outbox.post(lambda other=other: self._binder.clear_nomination(other))  # type: ignore[misc]
                self._queue.activate(other.key)

    async def _evict(self, victim: Pod, preemptor: Pod) -> None:
        try:
            await self._binder.evict(victim, preemptor)
        except (status.ApiError, ConnectionError) as error:
            log.warning("victim not removed", extra={"pod": victim.key, "error": str(error)})
            self._queue.activate(preemptor.key)

    async def _report(self, pod: Pod, reason: str, message: str, nominated_node: str | None) -> None:
        seen = self._follower.pods.cache.get(pod.key)
        if seen is None:
            return
        try:
            await self._binder.report(pod, seen, reason, message, nominated_node)
        except (status.ApiError, ConnectionError) as error:
            log.info("condition not written", extra={"pod": pod.key, "error": str(error)})
