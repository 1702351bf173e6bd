"""Probes: one task for each probe of each running container; what they find out wakes the pod's worker.

Startup goes first; liveness and readiness begin when the container has started. A result counts after as many equal
ones in a row as its threshold says. A probe begins after initialDelaySeconds of the container's life and repeats every
periodSeconds (the first one after a kubelet restart spread over a period, so that they do not all come at once).
Source: Kubernetes docs, "Configure Liveness, Readiness and Startup Probes"; kubelet's prober worker.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from random import Random
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.api.clock import Clock
from orchestrator.kubelet.handlers import Handlers, Outcome, Target
from orchestrator.kubelet.health import FIELDS, NOTHING_KNOWN, Health, ProbeKind
from orchestrator.kubelet.podspec import Container
from orchestrator.kubelet.runtime.interface import ContainerState, RuntimeFailure

log = logging.getLogger(__name__)

Report = Callable[[str, ProbeKind, Outcome], None]  # container name, probe, a failed outcome


class _Run(Struct):
    """The results of one probe in a row."""

    outcome: bool | None = None
    count: int = 0

    def add(self, passed: bool) -> int:
        self.count = self.count + 1 if passed is self.outcome else 1
        self.outcome = passed
        return self.count


class Prober:
    """The probes of one pod's containers."""

    def __init__(
        self, handlers: Handlers, clock: Clock, random: Random, on_change: Callable[[], None], report: Report
    ) -> None:
        self._handlers, self._clock, self._random = handlers, clock, random
        self._on_change, self._report = on_change, report
        self._tasks: dict[str, list[asyncio.Task[None]]] = {}  # by container id
        self._started: dict[str, asyncio.Event] = {}
        self.health: dict[str, Health] = {}

    def adopt(self, container_id: str, health: Health) -> None:
        """What was known of a container before this kubelet began."""
        self.health[container_id] = health

    def follow(self, running: Mapping[str, tuple[ContainerState, Container]], pod_ip: str) -> None:
        """Probes exactly these containers, by id."""
        for gone in [known for known in self._tasks if known not in running]:
            for task in self._tasks.pop(gone):
                task.cancel()
            self.health.pop(gone, None)
            self._started.pop(gone, None)
        for container_id, (state, container) in running.items():
            if container_id not in self._tasks:
                self._begin(state, container, pod_ip)

    def stop(self) -> None:
        self.follow({}, "")

    def stop_killing(self, container_ids: Iterable[str]) -> None:
        """These containers are ending: of their probes only readiness goes on."""
        for container_id in container_ids:
            for task in self._tasks.get(container_id, ()):
                if not task.get_name().startswith("readiness"):
                    task.cancel()

    def _begin(self, state: ContainerState, container: Container, pod_ip: str) -> None:
        started = self._started[state.id] = asyncio.Event()
        known = self.health.get(state.id, NOTHING_KNOWN)
        if not container.get("startupProbe") or known.startup:
            started.set()
        target = Target(state.id, container, pod_ip)
        self._tasks[state.id] = [
            asyncio.create_task(self._probe(kind, container[field], state, target, started), name=f"{kind} {state.id}")
            for kind, field in FIELDS.items()
            if container.get(field) and not (kind == "startup" and started.is_set())
        ]

    async def _probe(
        self, kind: ProbeKind, probe: Mapping[str, Any], state: ContainerState, target: Target, started: asyncio.Event
    ) -> None:
        if kind != "startup":
            await started.wait()
        period_s = float(probe.get("periodSeconds") or 10)
        begin_at = state.started_at + float(probe.get("initialDelaySeconds") or 0)
        await asyncio.sleep(max(0.0, begin_at - self._clock.now()))
        if self._clock.now() - state.started_at > 2 * period_s:
            await asyncio.sleep(self._random.uniform(0, period_s))
        row = _Run()
        while True:
            outcome = await self._once(probe, target)
            if outcome is not None and self._decide(kind, probe, target, row, outcome):
                started.set()
                if kind == "startup":
                    return
            await asyncio.sleep(period_s)

    async def _once(self, probe: Mapping[str, Any], target: Target) -> Outcome | None:
        """None where nobody could look: that says nothing about the container."""
        try:
            return await self._handlers.run(probe, target, float(probe.get("timeoutSeconds") or 1))
        except RuntimeFailure as error:
            log.debug("probe could not run", extra={"container": target.container_id, "error": str(error)})
            return None

    def _decide(self, kind: ProbeKind, probe: Mapping[str, Any], target: Target, row: _Run, outcome: Outcome) -> bool:
        """Takes a result in; whether a startup probe has passed with it."""
        if not outcome.passed:
            self._report(target.container["name"], kind, outcome)
        count = row.add(outcome.passed)
        needed = int(probe.get("successThreshold") or 1) if outcome.passed else int(probe.get("failureThreshold") or 3)
        if count < needed:
            return False
        old = self.health.get(target.container_id, NOTHING_KNOWN)
        new = replace(old, **{kind: outcome.passed})
        if new != old:
            self.health[target.container_id] = new
            self._on_change()
        return kind == "startup" and outcome.passed
