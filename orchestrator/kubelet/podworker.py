"""Pod worker: the one task that makes one pod's containers what they should be, and says in the API what they are.

    running  --deleted, failed, or all has ended-->  ending  --containers and sandbox gone-->  ended
                                                                      | (deleted)
                                                                      v
                                                             files removed, object deleted

A worker wakes when its pod changes, the runtime reports, a probe decides, an object of a volume changes, or a time
comes that it waits for; then it looks (runtime), decides (`sync`) and acts, until there is nothing left to do. Waking
it once too often costs a look, never a wrong action. A step is cut short when the pod's deletion (or a shorter grace
period) comes in the middle of it: whatever it had made is found by the next look.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.api.status import ApiError
from orchestrator.kubelet import admission, killing, podspec, podstatus, resize, sync, termination
from orchestrator.kubelet.backoff import Backoff, shown
from orchestrator.kubelet.handlers import Outcome
from orchestrator.kubelet.health import Health, ProbeKind
from orchestrator.kubelet.killing import Killer
from orchestrator.kubelet.podending import PodEnding
from orchestrator.kubelet.podresize import PodResize
from orchestrator.kubelet.podstart import Delay, HookFailed, PodStart, described
from orchestrator.kubelet.podstatus import Known, Status, Verdict, Waiting
from orchestrator.kubelet.porter import PodKey, PorterFailure
from orchestrator.kubelet.prober import Prober
from orchestrator.kubelet.resize import Resizing
from orchestrator.kubelet.runtime.interface import (
    ContainerState,
    PodState,
    RuntimeFailure,
    State,
)
from orchestrator.kubelet.statuswriter import PASSING_CONDITIONS
from orchestrator.kubelet.surroundings import Surroundings
from orchestrator.kubelet.volumes import mounter
from orchestrator.kubelet.volumes.volume import VolumeFailure

log = logging.getLogger(__name__)

RETRY_FIRST_S, RETRY_MAX_S = 0.5, 30.0
STEP_MIN_S = 0.05  # between two steps that only the time asks for
ROUNDS_MAX = 100  # of looking and acting in one step: an initialization of many containers, never an endless loop
Failures = (RuntimeFailure, PorterFailure, VolumeFailure, ApiError, ConnectionError, OSError, TimeoutError)


class PodWorker:
    """`run` returns when the pod has left the node. `overlay` is the pod with the status that this node gives it."""

    def __init__(self, around: Surroundings, pod: Object, adopted: PodState | None) -> None:
        self._around = around
        self._desired = pod  # as the API has it; `pod` has the resources that are allocated to it
        self.uid = meta.uid(pod)
        self.key = PodKey(self.uid, meta.namespace(pod), meta.name(pod))
        self.dirs = around.dirs.of(pod)
        self._resize = PodResize(around, self.key, Resizing.of(pod, self.dirs.resources), self._tell_pod)
        self.pod = resize.with_allocated(pod, self._resize.record.allocated)
        self.state = adopted or PodState(uid=self.uid)
        self._is_state_fresh = adopted is not None
        self._wake = asyncio.Event()
        self._step: asyncio.Task[float | None] | None = None
        self._cut_short = False
        self._failures = 0
        self._is_gone = False  # the API has no such pod any more
        self._refresh_volumes = False
        self._backoff = Backoff()
        self._waiting: dict[str, Waiting] = {}
        self._retry_at: dict[str, float] = {}
        self._messages: dict[str, str] = {}
        self._succeeded: set[str] = set()
        self._verdict: Verdict | None = None
        self._status: Status = {}
        self._prober = Prober(around.handlers, around.clock, around.random, self.wake, self._unhealthy)
        self._killer = Killer(around.runtime, around.handlers, around.clock, self._tell)
        self._starting = PodStart(around, self.key, self.dirs, self._tell, self._tell_pod)
        self._adopt()

    # What others tell the worker.

    def update(self, pod: Object | None) -> None:
        """The pod as the API (or the manifest) has it now; None when it is no more."""
        before = self._urgency
        if pod is None:
            self._is_gone = True
        else:
            if mounter.has_live(pod) and meta.metadata(pod) != meta.metadata(self.pod):
                self._refresh_volumes = True
            self._desired = pod
            self.pod = resize.with_allocated(pod, self._resize.record.allocated)
        if self._urgency != before and self._step is not None:
            self._cut_short = True
            self._step.cancel()
        self.wake()

    def wake(self) -> None:
        self._wake.set()

    def runtime_changed(self) -> None:
        """What a failed step itself made and undid must not cut its back-off short."""
        self._is_state_fresh = False
        if not self._failures:
            self._wake.set()

    def object_changed(self) -> None:
        """An object that the pod refers to: volumes follow it, and what waited for it may be tried."""
        self._refresh_volumes = True
        self._retry_at.clear()
        self._wake.set()

    def evict(self, verdict: Verdict) -> None:
        self._verdict = verdict
        self._wake.set()

    @property
    def overlay(self) -> Object:
        return {**self.pod, "status": self._merged_status()} if self._status else self.pod

    @property
    def is_ending(self) -> bool:
        return self._is_gone or meta.is_deleting(self.pod) or podspec.is_terminal(self.overlay) or bool(self._verdict)

    @property
    def is_resize_pending(self) -> bool:
        return self._resize.record.pending is not None

    @property
    def _urgency(self) -> tuple[bool, float]:
        """What cuts a step short when it changes: the pod is to end, and how soon."""
        deleting = self._is_gone or meta.is_deleting(self.pod)
        return deleting, killing.pod_grace_s(self.pod) if deleting else 0.0

    # The loop.

    async def run(self) -> None:
        try:
            while True:
                self._wake.clear()
                wake_at = await self._one_step()
                if wake_at is not None and wake_at < 0:
                    return
                await self._sleep(wake_at)
        finally:
            self._prober.stop()

    async def _one_step(self) -> float | None:
        """When to look again at the latest; None for not before something happens, negative for never."""
        self._step = asyncio.create_task(self._sync())
        try:
            wake_at = await self._step
            self._failures = 0
            return wake_at
        except asyncio.CancelledError:
            if not self._cut_short or (task := asyncio.current_task()) is None or task.cancelling():
                self._step.cancel()
                raise
            self._cut_short = False
            self._is_state_fresh = False
            return self._around.clock.now()
        except Failures as error:
            return self._failed(error)
        except Exception as error:  # a fault of ours must not leave the pod without its worker
            log.exception("pod worker step failed", extra={"pod": meta.key(self.pod)})
            return self._failed(error)
        finally:
            self._step = None

    def _failed(self, error: Exception) -> float:
        self._failures += 1
        self._is_state_fresh = False
        delay_s = min(RETRY_FIRST_S * 2 ** min(self._failures, 10), RETRY_MAX_S)
        log.warning("pod sync failed", extra={"pod": meta.key(self.pod), "error": str(error), "retry_s": delay_s})
        if not self.is_ending:
            self._publish()
        if not isinstance(error, VolumeFailure):
            self._tell_pod("Warning", "FailedSync", f"Error syncing pod: {error}")
        return self._around.clock.now() + delay_s

    async def _sleep(self, wake_at: float | None) -> None:
        timeout_s = None if wake_at is None else max(0.0, wake_at - self._around.clock.now())
        try:
            async with asyncio.timeout(timeout_s):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _sync(self) -> float | None:
        if not self._is_state_fresh:
            await self._look()
        if self.is_ending:
            return await self._end()
        if (refusal := self._refusal()) is not None:
            self._tell_pod("Warning", refusal.reason, refusal.message)
            self._verdict = Verdict("Failed", refusal.reason, refusal.message)
            return await self._end()
        self._allocate()
        for _ in range(ROUNDS_MAX):
            if self._deadline_passed():
                return await self._end()
            actions = sync.sync(self._observed())
            changed = False
            for action in actions:
                changed = await self._act(action) or changed
            if not changed:
                break
            await self._look()
        self._resize.conclude(self.pod, self.state)
        self._publish()
        await self._follow_volumes()
        if podspec.is_terminal(self.overlay):
            return await self._end()
        return self._wake_at()

    def _allocate(self) -> None:
        """Gives the pod the resources that the API wants for it, if the node has them."""
        if not self._resize.decide(self._desired):
            return
        self.pod = self._desired
        self._retry_at.clear()
        self._refresh_volumes = True
        self._publish()
        self._around.room_made()

    async def _look(self) -> None:
        self._is_state_fresh = True  # before the question: what happens while it is answered asks for another look
        self.state = await self._around.runtime.pod(self.uid)
        self._read_messages()
        running = {}
        for state in self.state.running:
            found = podspec.find(self.pod, state.name)
            if found is not None and state.kind != "ephemeral":
                running[state.id] = (state, found[1])
        self._prober.follow(running, self._pod_ip)

    def _observed(self) -> sync.Observed:
        now = self._around.clock.now()
        ended = [state for state in self.state.containers if state.state in (State.EXITED, State.UNKNOWN)]
        attempts = {}
        for _, container in podspec.all_containers(self.pod):
            name = container["name"]
            before = podstatus.previous_status(self.overlay, name)
            if self.state.latest(name) is None and (before.get("containerID") or before.get("lastState")):
                attempts[name] = int(before.get("restartCount") or 0)
        return sync.Observed(
            pod=self.pod,
            state=self.state,
            now=now,
            health=self._prober.health,
            backoff_until={
                state.name: self._backoff.until(state.name, state.finished_at or now) for state in reversed(ended)
            },
            attempts=attempts,
            succeeded=frozenset(self._succeeded),
            actuated=self._resize.record.actuated,
        )

    def _wake_at(self) -> float | None:
        """The first time that something is due. What came due since it was looked at is due at once."""
        now = self._around.clock.now()
        times = list(self._retry_at.values())
        deadline = self._deadline()
        if deadline is not None:
            times.append(deadline)
        if self._resize.retry_at is not None:
            times.append(self._resize.retry_at)
        refresh_at = self._around.tokens.refresh_at(self.uid)
        if refresh_at is not None and refresh_at > now:
            times.append(refresh_at)
        return max(now + STEP_MIN_S, min(times)) if times else None

    # Actions.

    async def _act(self, action: sync.Action) -> bool:
        """Carries an action out; whether the runtime must be looked at again."""
        match action:
            case sync.ReplaceSandbox(attempt):
                await self._replace_sandbox(attempt)
            case sync.RemoveSandbox(sandbox_id):
                await self._around.runtime.remove_sandbox(sandbox_id)
            case sync.StartContainer():
                if self._retry_at.get(action.name, 0.0) > self._around.clock.now():
                    return False
                return await self._start(action)
            case sync.KillContainer():
                found = podspec.find(self.pod, action.name)
                container = found[1] if found else {"name": action.name}
                state = next(state for state in self.state.containers if state.id == action.id)
                await self._kill(state, container, action.message, action.probe)
            case sync.ResizeContainer():
                return await self._limit(action)
            case sync.ResetContainers(ids):
                await self._reset(ids)
            case sync.BackOff(name, until):
                self._back_off(name, until)
                return False
            case sync.StopPod():
                await self._stop_all()
        return True

    async def _replace_sandbox(self, attempt: int) -> None:
        self._succeeded |= {
            state.name for state in self.state.containers if state.state is State.EXITED and state.exit_code == 0
        }
        if self.state.sandboxes:
            self._tell_pod("Normal", "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.")
            self._publish()  # what is known of the containers that go with it
        self._retry_at.clear()
        await self._starting.replace_sandbox(self.pod, self.state, attempt)

    async def _reset(self, ids: tuple[str, ...]) -> None:
        """All containers go, without a grace period; what they are started with again, sandbox and volumes, stays."""
        self._publish()  # how they ended, and why they go
        states = [state for each in ids for state in self.state.containers if state.id == each]
        running = [state for state in states if state.state is State.RUNNING]
        self._prober.stop_killing(state.id for state in running)
        await self._killer.end(self.pod, running, self._pod_ip)
        for state in states:
            await self._around.runtime.remove_container(state.id)
            self._waiting[state.name] = podstatus.RESTARTING
        self._succeeded.clear()
        self._retry_at.clear()
        await self._look()
        self._publish()  # that they wait, and for what: their next run is told with how this one ended

    async def _follow_volumes(self) -> None:
        if not self.state.containers or not mounter.has_live(self.pod):
            return
        refresh_at = self._around.tokens.refresh_at(self.uid)
        is_token_due = refresh_at is not None and refresh_at <= self._around.clock.now()
        if self._refresh_volumes or is_token_due:
            self._refresh_volumes = False
            await self._starting.update_volumes(self.pod)

    async def _start(self, action: sync.StartContainer) -> bool:
        name, now = action.name, self._around.clock.now()
        found = podspec.find(self.pod, name)
        assert found is not None, "sync names containers of the pod"
        latest = self.state.latest(name)
        if latest is not None and latest.state is not State.CREATED:
            self._backoff.next(name, now)
        outcome = await self._starting.start(self.pod, self.state, action, found[1])
        self._retry_at.pop(name, None)
        match outcome:
            case None:
                self._waiting.pop(name, None)
                self._resize.record.actuate(found[1])
            case Delay(waiting, retry_at):
                self._waiting[name] = waiting
                if retry_at is not None:
                    self._retry_at[name] = max(retry_at, now + RETRY_FIRST_S)
                    return False
            case HookFailed(container_id, message):
                self._waiting[name] = Waiting("PostStartHookError", message)
                await self._look()
                for state in self.state.running:
                    if state.id == container_id:
                        await self._kill(state, found[1], "FailedPostStartHook")
        return True

    async def _limit(self, action: sync.ResizeContainer) -> bool:
        name = action.name
        found = podspec.find(self.pod, name)
        assert found is not None, "sync names containers of the pod"
        if self._retry_at.get(name, 0.0) > self._around.clock.now():
            return False
        self._retry_at.pop(name, None)
        state = next(state for state in self.state.running if state.id == action.id)
        retry_at = await self._resize.actuate(self.pod, self.state, found[1], state)
        if retry_at is not None:
            self._retry_at[name] = retry_at
        return retry_at is None

    async def _kill(self, state: ContainerState, container: podspec.Container, message: str, probe: str = "") -> None:
        grace_s = killing.probe_grace_s(self.pod, container, probe)
        self._prober.stop_killing([state.id])
        await self._killer.kill(state, container, self._pod_ip, grace_s, message)

    def _back_off(self, name: str, until: float) -> None:
        delay, pod_described = shown(self._backoff.delay_s(name)), described(self.pod)
        self._retry_at[name] = until
        if self._waiting.get(name, Waiting("")).reason != "CrashLoopBackOff":
            message = f"Back-off restarting failed container {name} in pod {pod_described}"
            self._tell(name, "Warning", "BackOff", message)
        message = f"back-off {delay} restarting failed container={name} pod={pod_described}"
        self._waiting[name] = Waiting("CrashLoopBackOff", message)

    async def _stop_all(self) -> None:
        """The pod has come to its end by itself: sidecars, then the sandbox; ended containers stay for their logs."""
        grace_s = killing.pod_grace_s(self.pod)
        await self._killer.kill_pod(self.pod, self.state.running, self._pod_ip, grace_s)
        for sandbox in self.state.sandboxes:
            await self._around.runtime.stop_sandbox(sandbox.id)

    # The end.

    async def _end(self) -> float | None:
        ending = PodEnding(self._around, self.pod, self.key, self.dirs)
        if self.state.running:
            self._publish()
            self._prober.stop_killing(state.id for state in self.state.running)
            is_evicted = self._verdict is not None and self._verdict.reason == "Evicted"
            grace_s = 0.0 if is_evicted else killing.pod_grace_s(self.pod)
            await self._telling(self._killer.kill_pod(self.pod, self.state.running, self._pod_ip, grace_s))
            await self._look()
        self._waiting.clear()
        self._addresses_after_end()
        self._publish()
        if self._is_gone or meta.is_deleting(self.pod):
            self._prober.stop()
            await ending.remove(self.state, is_gone=self._is_gone)
            self._around.room_made()
            return -1.0
        self._around.room_made()
        await ending.release_sandboxes(self.state)
        await self._look()
        self._publish()
        self._prober.stop()
        return None

    async def _telling(self, ending: Coroutine[Any, Any, None]) -> None:
        """Until it is done, telling what probes find meanwhile: a pod that winds down may become unready."""
        work, was_woken = asyncio.create_task(ending), False
        try:
            while not work.done():
                self._wake.clear()
                woken = asyncio.create_task(self._wake.wait())
                await asyncio.wait((work, woken), return_when=asyncio.FIRST_COMPLETED)
                was_woken |= not woken.cancel()
                if not work.done():
                    self._publish()
        finally:
            work.cancel()
            if was_woken:
                self._wake.set()  # it may have been for more than the status
            await asyncio.gather(work, return_exceptions=True)
        work.result()

    def _addresses_after_end(self) -> None:
        """The status keeps the addresses that the pod had; a new sandbox would get others."""
        if not self._starting.addresses:
            self._starting.addresses = tuple(entry["ip"] for entry in podspec.status(self.pod).get("podIPs") or ())

    # What is known.

    def _adopt(self) -> None:
        """Takes over what runs already: its addresses and, for containers that were ready, their readiness."""
        sandbox = self.state.sandbox
        if sandbox is None:
            return
        self._starting.adopt(self.pod, sandbox)
        self._read_messages()
        for state in self.state.running:
            before = podstatus.previous_status(self.pod, state.name)
            if before.get("containerID") == f"{podstatus.RUNTIME_NAME}://{state.id}":
                started, ready = bool(before.get("started")) or None, bool(before.get("ready")) or None
                self._prober.adopt(state.id, Health(startup=started, readiness=ready))
        self._is_state_fresh = False
        self._refresh_volumes = True  # from here on their objects are followed by this kubelet

    def _refusal(self) -> admission.Refusal | None:
        """A pod is admitted once, before anything of it runs."""
        node = self._around.node()
        if self.state.sandboxes or self._status or podspec.status(self.pod).get("startTime") or node is None:
            return None
        return admission.admit(self.pod, node, self._around.admitted(self.uid))

    def _deadline(self) -> float | None:
        seconds = podspec.spec(self.pod).get("activeDeadlineSeconds")
        started = podspec.status(self.overlay).get("startTime")
        return meta.parse_time(started) + seconds if seconds is not None and started else None

    def _deadline_passed(self) -> bool:
        deadline = self._deadline()
        if deadline is None or deadline > self._around.clock.now():
            return False
        message = "Pod was active on the node longer than the specified deadline"
        self._tell_pod("Normal", "DeadlineExceeded", message)
        self._verdict = Verdict("Failed", "DeadlineExceeded", message)
        return True

    def _read_messages(self) -> None:
        known, self._messages = self._messages, {}
        for state in self.state.containers:
            found = podspec.find(self.pod, state.name)
            if state.id in known:
                self._messages[state.id] = known[state.id]
            elif state.state is State.EXITED and found is not None:
                self._messages[state.id] = termination.message_of(found[1], state, self.dirs)

    def _merged_status(self) -> Status:
        """What the API has, with ours over it; conditions are merged by their type."""
        theirs, ours = podspec.status(self.pod), self._status
        own = {*PASSING_CONDITIONS, *(condition["type"] for condition in ours.get("conditions") or ())}
        others = [condition for condition in theirs.get("conditions") or () if condition["type"] not in own]
        return {**theirs, **ours, "conditions": [*(ours.get("conditions") or ()), *others]}

    def _publish(self) -> None:
        config = self._around.config
        known = Known(
            pod=self.overlay,
            state=self.state,
            now=self._around.clock.now(),
            health=self._prober.health,
            waiting=self._waiting,
            messages=self._messages,
            pod_ips=self._starting.addresses,
            host_ips=tuple(config.node_ips),
            verdict=self._verdict,
            is_ending=self.is_ending,
            resizing=self._resize.record,
        )
        self._status = podstatus.pod_status(known)
        if (target := self._around.mirror(self.pod)) is not None:
            self._around.statuses.set(target, self._status)

    @property
    def _pod_ip(self) -> str:
        return next(iter(self._starting.addresses), "")

    # What users are told.

    def _tell(self, name: str, kind: str, reason: str, message: str) -> None:
        if reason == "Pulling":
            self._publish()  # it may take long; most containers run before there is anything to say of them
        found = podspec.find(self.pod, name)
        path = podspec.field_path(found[0], name) if found else ""
        self._around.recorder.event(self.pod, kind, reason, message, field_path=path)

    def _tell_pod(self, kind: str, reason: str, message: str) -> None:
        self._around.recorder.event(self.pod, kind, reason, message)

    def _unhealthy(self, name: str, probe: ProbeKind, outcome: Outcome) -> None:
        self._tell(name, "Warning", "Unhealthy", f"{probe.capitalize()} probe failed: {outcome.message}")
