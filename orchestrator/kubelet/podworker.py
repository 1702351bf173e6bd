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
from pathlib import Path

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.api.status import ApiError
from orchestrator.kubelet import admission, etcfiles, killing, network, podspec, podstatus, sync, termination
from orchestrator.kubelet.backoff import Backoff, shown
from orchestrator.kubelet.containers import ConfigFailure, Making, container_spec, sandbox_spec
from orchestrator.kubelet.handlers import Outcome, Target
from orchestrator.kubelet.health import Health, ProbeKind
from orchestrator.kubelet.images import ImageFailure
from orchestrator.kubelet.killing import Killer
from orchestrator.kubelet.podending import PodEnding
from orchestrator.kubelet.podstatus import Known, Status, Verdict, Waiting
from orchestrator.kubelet.porter import PodKey, PorterFailure
from orchestrator.kubelet.prober import Prober
from orchestrator.kubelet.runtime.interface import (
    PodState,
    RuntimeFailure,
    Sandbox,
    State,
)
from orchestrator.kubelet.surroundings import Surroundings
from orchestrator.kubelet.volumes import mounter
from orchestrator.kubelet.volumes.mounter import Mounts
from orchestrator.kubelet.volumes.volume import Place, VolumeFailure

log = logging.getLogger(__name__)

RETRY_FIRST_S, RETRY_MAX_S = 0.5, 30.0
CONFIG_RETRY_S = 10.0
ROUNDS_MAX = 100  # of looking and acting in one step: an initialization of many containers, never an endless loop
DEAD_KEPT = 1  # ended containers of one name, beside the newest: `kubectl logs --previous`
NODE_HOSTS = Path("/etc/hosts")
Failures = (RuntimeFailure, PorterFailure, VolumeFailure, ApiError, ConnectionError, OSError, TimeoutError)


class PodWorker:
    """`run` returns when the pod has left the node. `overlay` is the pod with the status that this node gives it."""

    def __init__(self, around: Surroundings, pod: Object, adopted: PodState | None) -> None:
        self._around = around
        self.pod = pod
        self.uid = meta.uid(pod)
        self.key = PodKey(self.uid, meta.namespace(pod), meta.name(pod))
        self.dirs = around.dirs.of(pod)
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
        self._mounted: Mounts | None = None
        self._addresses: tuple[str, ...] = ()
        self._verdict: Verdict | None = None
        self._status: Status = {}
        self._prober = Prober(around.handlers, around.clock, around.random, self.wake, self._unhealthy)
        self._killer = Killer(around.runtime, around.handlers, around.clock, self._tell)
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
            self.pod = pod
        if self._urgency != before and self._step is not None:
            self._cut_short = True
            self._step.cancel()
        self.wake()

    def wake(self) -> None:
        self._wake.set()

    def runtime_changed(self) -> None:
        self._is_state_fresh = False
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
        self._publish()
        await self._follow_volumes()
        if podspec.is_terminal(self.overlay):
            return await self._end()
        return self._wake_at()

    async def _look(self) -> None:
        self._is_state_fresh = True  # before the question: what happens while it is answered asks for another look
        self.state = await self._around.runtime.pod(self.uid)
        self._read_messages()
        running = {}
        for state in self.state.running:
            found = podspec.find(self.pod, state.name)
            if found is not None and state.kind != "ephemeral":
                running[state.id] = (state, found[1])
        self._prober.follow(running, self._addresses[0] if self._addresses else "")

    def _observed(self) -> sync.Observed:
        now = self._around.clock.now()
        ended = [state for state in self.state.containers if state.state in (State.EXITED, State.UNKNOWN)]
        attempts = {}
        for _, container in podspec.all_containers(self.pod):
            name = container["name"]
            before = podstatus.previous_status(self.overlay, name)
            if self.state.latest(name) is None and before.get("containerID"):
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
        )

    def _wake_at(self) -> float | None:
        times = list(self._retry_at.values())
        deadline = self._deadline()
        if deadline is not None:
            times.append(deadline)
        if (refresh_at := self._around.tokens.refresh_at(self.uid)) is not None:
            times.append(refresh_at)
        return min(times, default=None)

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
                grace_s = killing.probe_grace_s(self.pod, container, action.probe)
                self._prober.stop_killing([state.id])
                await self._killer.kill(state, container, self._pod_ip, grace_s, action.message)
            case sync.BackOff(name, until):
                self._back_off(name, until)
                return False
            case sync.StopPod():
                await self._stop_all()
        return True

    async def _replace_sandbox(self, attempt: int) -> None:
        around = self._around
        self._succeeded |= {
            state.name for state in self.state.containers if state.state is State.EXITED and state.exit_code == 0
        }
        if self.state.sandboxes:
            self._tell_pod("Normal", "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.")
            self._publish()  # what is known of the containers that go with it
        for old in self.state.sandboxes:
            await around.runtime.remove_sandbox(old.id)
        self._addresses, self._mounted = (), None
        self.dirs.root.mkdir(parents=True, exist_ok=True)
        # The sandbox does not need the volumes nor they it: both are made at once.
        mounting = asyncio.create_task(self._mount())
        try:
            sandbox = await self._run_sandbox(attempt)
            if podspec.is_host_network(self.pod):
                self._addresses = tuple(around.config.node_ips)
            else:
                self._addresses = await network.attach(around.porter, self.key, self.pod, sandbox, self.dirs)
        except (RuntimeFailure, PorterFailure) as error:
            mounting.cancel()
            self._tell_pod("Warning", "FailedCreatePodSandBox", f"Failed to create pod sandbox: {error}")
            raise
        self._write_files()
        await mounting

    async def _run_sandbox(self, attempt: int) -> Sandbox:
        return await self._around.runtime.run_sandbox(sandbox_spec(self.pod, attempt, self._around.config))

    def _write_files(self) -> None:
        config, resolver = self._around.config, self._resolver()
        node_hosts = NODE_HOSTS.read_text() if NODE_HOSTS.exists() else ""
        network.write_files(self.pod, self._addresses, self.dirs, resolver, node_hosts, config.cluster_domain)

    async def _mount(self) -> Mounts:
        if self._mounted is None:
            try:
                self._mounted = await mounter.mount_all(self._place())
            except (VolumeFailure, PorterFailure, ApiError) as error:
                self._tell_pod("Warning", "FailedMount", str(error))
                raise VolumeFailure(str(error)) from error
        return self._mounted

    async def _follow_volumes(self) -> None:
        if not self.state.containers or not mounter.has_live(self.pod):
            return
        refresh_at = self._around.tokens.refresh_at(self.uid)
        is_token_due = refresh_at is not None and refresh_at <= self._around.clock.now()
        if self._refresh_volumes or is_token_due:
            self._refresh_volumes = False
            await mounter.mount_all(self._place(), live_only=True)

    async def _start(self, action: sync.StartContainer) -> bool:
        name = action.name
        found = podspec.find(self.pod, name)
        sandbox = self.state.sandbox
        assert found is not None and sandbox is not None, "sync names containers of the pod, in a sandbox"
        container = found[1]
        latest = self.state.latest(name)
        if latest is not None and latest.state is not State.CREATED:
            self._backoff.next(name, self._around.clock.now())
        self._publish()
        try:
            await self._create_and_start(action, container, sandbox)
        except ImageFailure as error:
            self._wait(name, error.reason, error.message, error.retry_at or self._around.clock.now() + CONFIG_RETRY_S)
            if error.reason != "ImagePullBackOff":
                self._tell(name, "Warning", "Failed", f"Error: {error.reason}")
            return False
        except ConfigFailure as error:
            self._wait(name, "CreateContainerConfigError", str(error), self._around.clock.now() + CONFIG_RETRY_S)
            self._tell(name, "Warning", "Failed", f"Error: {error}")
            return False
        return True

    async def _create_and_start(self, action: sync.StartContainer, container: podspec.Container, box: Sandbox) -> None:
        around, name = self._around, action.name
        image = await around.images.ensure(self.pod, container, lambda *event: self._tell(name, *event))
        mounted = await self._mount()
        if not self.dirs.hosts.exists():
            self._write_files()
        making = Making(
            container=container,
            kind=action.kind,
            attempt=action.attempt,
            image=image,
            sandbox=sandbox_spec(self.pod, box.attempt, around.config),
            sandbox_id=box.id,
            mounted=mounted,
            services=around.services(),
            memory_capacity_bytes=around.memory_capacity_bytes,
        )
        spec = await container_spec(making, self._place(), self.state, around.config)
        await self._remove_dead(name)
        try:
            container_id = await around.runtime.create_container(spec)
        except RuntimeFailure as error:
            self._tell(name, "Warning", "Failed", f"Error: {error}")
            self._wait(name, "CreateContainerError", str(error), around.clock.now() + CONFIG_RETRY_S)
            return
        self._tell(name, "Normal", "Created", "Container created")
        try:
            await around.runtime.start_container(container_id, spec)
        except RuntimeFailure as error:
            self._tell(name, "Warning", "Failed", f"Error: {error}")
            self._waiting[name] = Waiting("RunContainerError", str(error))
            return
        self._tell(name, "Normal", "Started", "Container started")
        self._waiting.pop(name, None)
        self._retry_at.pop(name, None)
        await self._post_start(container_id, container)

    async def _post_start(self, container_id: str, container: podspec.Container) -> None:
        hook = (container.get("lifecycle") or {}).get("postStart")
        if not hook:
            return
        name = container["name"]
        timeout_s = 24 * 3600.0  # a hook has no time limit of its own; the container waits for it
        outcome = await self._around.handlers.run(hook, Target(container_id, container, self._pod_ip), timeout_s)
        if not outcome.passed:
            self._tell(name, "Warning", "FailedPostStartHook", f"PostStartHook failed: {outcome.message}")
            self._waiting[name] = Waiting("PostStartHookError", outcome.message)
            await self._look()
            state = next((state for state in self.state.running if state.id == container_id), None)
            if state is not None:
                grace_s = killing.pod_grace_s(self.pod)
                await self._killer.kill(state, container, self._pod_ip, grace_s, "FailedPostStartHook")

    async def _remove_dead(self, name: str) -> None:
        """Predecessors that nobody will ask for, and what was made and never started."""
        of_name = [state for state in self.state.containers if state.name == name]
        dead = [state for state in of_name if state.state is not State.CREATED]
        for state in [state for state in of_name if state.state is State.CREATED] + dead[DEAD_KEPT:]:
            await self._around.runtime.remove_container(state.id)
            self._messages.pop(state.id, None)

    def _back_off(self, name: str, until: float) -> None:
        delay = shown(self._backoff.delay_s(name))
        described = f"{meta.name(self.pod)}_{meta.namespace(self.pod)}({self.uid})"
        self._retry_at[name] = until
        if self._waiting.get(name, Waiting("")).reason != "CrashLoopBackOff":
            message = f"Back-off restarting failed container {name} in pod {described}"
            self._tell(name, "Warning", "BackOff", message)
        message = f"back-off {delay} restarting failed container={name} pod={described}"
        self._waiting[name] = Waiting("CrashLoopBackOff", message)

    def _wait(self, name: str, reason: str, message: str, retry_at: float) -> None:
        self._waiting[name] = Waiting(reason, message)
        self._retry_at[name] = max(retry_at, self._around.clock.now() + RETRY_FIRST_S)

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
            await self._killer.kill_pod(self.pod, self.state.running, self._pod_ip, grace_s)
            await self._look()
        self._waiting.clear()
        self._addresses_after_end()
        self._publish()
        if self._is_gone or meta.is_deleting(self.pod):
            self._prober.stop()
            await ending.remove(self.state, is_gone=self._is_gone)
            return -1.0
        await ending.release_sandboxes(self.state)
        await self._look()
        self._publish()
        self._prober.stop()
        return None

    def _addresses_after_end(self) -> None:
        """The status keeps the addresses that the pod had; a new sandbox would get others."""
        if not self._addresses:
            self._addresses = tuple(entry["ip"] for entry in podspec.status(self.pod).get("podIPs") or ())

    # What is known.

    def _adopt(self) -> None:
        """Takes over what runs already: its addresses and, for containers that were ready, their readiness."""
        sandbox = self.state.sandbox
        if sandbox is None:
            return
        if podspec.is_host_network(self.pod):
            self._addresses = tuple(self._around.config.node_ips)
        else:
            self._addresses = network.remembered(sandbox, self.dirs)
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
        for state in self.state.containers:
            found = podspec.find(self.pod, state.name)
            if state.state is State.EXITED and state.id not in self._messages and found is not None:
                self._messages[state.id] = termination.message_of(found[1], state, self.dirs)

    def _merged_status(self) -> Status:
        """What the API has, with ours over it; conditions are merged by their type."""
        theirs, ours = podspec.status(self.pod), self._status
        own = {condition["type"] for condition in ours.get("conditions") or ()}
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
            pod_ips=self._addresses,
            host_ips=tuple(config.node_ips),
            verdict=self._verdict,
            is_ending=self.is_ending,
        )
        self._status = podstatus.pod_status(known)
        if (target := self._around.mirror(self.pod)) is not None:
            self._around.statuses.set(target, self._status)

    def _place(self) -> Place:
        around = self._around
        return Place(
            pod=self.pod,
            dirs=self.dirs,
            porter=around.porter,
            objects=around.objects,
            tokens=around.tokens,
            facts=around.facts(),
            clock=around.clock,
            pod_ips=self._addresses,
        )

    def _resolver(self) -> etcfiles.Resolver:
        config = self._around.config
        return etcfiles.resolver(self.pod, self._around.resolver(), config.cluster_dns, config.cluster_domain)

    @property
    def _pod_ip(self) -> str:
        return self._addresses[0] if self._addresses else ""

    # What users are told.

    def _tell(self, name: str, kind: str, reason: str, message: str) -> None:
        found = podspec.find(self.pod, name)
        path = podspec.field_path(found[0], name) if found else ""
        self._around.recorder.event(self.pod, kind, reason, message, field_path=path)

    def _tell_pod(self, kind: str, reason: str, message: str) -> None:
        self._around.recorder.event(self.pod, kind, reason, message)

    def _unhealthy(self, name: str, probe: ProbeKind, outcome: Outcome) -> None:
        self._tell(name, "Warning", "Unhealthy", f"{probe.capitalize()} probe failed: {outcome.message}")
