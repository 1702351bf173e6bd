"""Ending containers gracefully: preStop hook, stop signal, grace period, SIGKILL.

The hook's time is part of the grace period. Whole pods: app containers end together, then sidecars, last started first.
A container is given at least `GRACE_MIN_S` to end.
Source: Kubernetes docs, "Pod Lifecycle", termination of pods; KEP-753.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from orchestrator.api.clock import Clock
from orchestrator.api.meta import Object
from orchestrator.api.podresources import is_sidecar
from orchestrator.kubelet import podspec
from orchestrator.kubelet.handlers import Handlers, Target
from orchestrator.kubelet.podspec import Container
from orchestrator.kubelet.runtime.interface import ContainerState, Runtime, RuntimeFailure

GRACE_MIN_S = 2.0
GRACE_DEFAULT_S = 30.0
Tell = Callable[[str, str, str, str], None]  # container, type, reason, message


class Killer:
    """Ends containers of one pod."""

    def __init__(self, runtime: Runtime, handlers: Handlers, clock: Clock, tell: Tell) -> None:
        self._runtime, self._handlers, self._clock, self._tell = runtime, handlers, clock, tell

    async def kill(
        self, state: ContainerState, container: Container, pod_ip: str, grace_s: float, message: str
    ) -> None:
        self._tell(state.name, "Normal", "Killing", message or f"Stopping container {state.name}")
        began = self._clock.now()
        hook = (container.get("lifecycle") or {}).get("preStop")
        if hook and grace_s > 0:
            await self._pre_stop(hook, Target(state.id, container, pod_ip), grace_s)
        left_s = max(GRACE_MIN_S, grace_s - (self._clock.now() - began))
        await self._runtime.stop_container(state.id, round(left_s))

    async def end(self, pod: Object, running: Iterable[ContainerState], pod_ip: str) -> None:
        """These containers together, with no time but the least."""
        kills = [self.kill(state, _declared(pod, state.name), pod_ip, 0.0, "") for state in running]
        for outcome in await asyncio.gather(*kills, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    async def kill_pod(self, pod: Object, running: Iterable[ContainerState], pod_ip: str, grace_s: float) -> None:
        """Everything of the pod, in order."""
        states = {state.name: state for state in running}
        sidecars = [found["name"] for found in podspec.containers(pod, "init") if is_sidecar(found)]
        first = [state for name, state in states.items() if name not in sidecars]
        began = self._clock.now()
        kills = [self.kill(state, _declared(pod, state.name), pod_ip, grace_s, "") for state in first]
        outcomes = await asyncio.gather(*kills, return_exceptions=True)  # one that fails must not spare the others
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        for name in reversed(sidecars):
            if name in states:
                left_s = max(0.0, grace_s - (self._clock.now() - began))
                await self.kill(states[name], _declared(pod, name), pod_ip, left_s, "")

    async def _pre_stop(self, hook: dict[str, object], target: Target, grace_s: float) -> None:
        name = str(target.container.get("name"))
        try:
            async with asyncio.timeout(grace_s):
                outcome = await self._handlers.run(hook, target, grace_s)
        except TimeoutError:
            return
        except RuntimeFailure as error:
            self._tell(name, "Warning", "FailedPreStopHook", f"PreStopHook failed: {error}")
            return
        if not outcome.passed:
            self._tell(name, "Warning", "FailedPreStopHook", f"PreStopHook failed: {outcome.message}")


def _declared(pod: Object, name: str) -> Container:
    found = podspec.find(pod, name)
    return found[1] if found else {"name": name}


def pod_grace_s(pod: Object) -> float:
    """What the deletion allows, or the pod's own period."""
    allowed = pod["metadata"].get("deletionGracePeriodSeconds")
    if allowed is not None:
        return float(allowed)
    own = podspec.spec(pod).get("terminationGracePeriodSeconds")
    return float(own) if own is not None else GRACE_DEFAULT_S


def probe_grace_s(pod: Object, container: Container, probe: str) -> float:
    """A probe may have a grace period of its own."""
    field = f"{probe}Probe"
    own = (container.get(field) or {}).get("terminationGracePeriodSeconds") if probe else None
    return float(own) if own is not None else pod_grace_s(pod)
