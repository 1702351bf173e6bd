"""A runtime in memory, for tests and simulation: sandboxes and containers that do what the test says.

Containers run until `exit` is called for them; `behaviour` says, by container name, with which code some end at once.
Nothing takes time; every change is an event, as with a real runtime. `log` holds what was asked, in order.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from orchestrator.api.clock import Clock
from orchestrator.kubelet.runtime.interface import (
    ContainerSpec,
    ContainerState,
    ExecResult,
    Image,
    Limits,
    NoSuchContainer,
    PodState,
    RuntimeEvent,
    RuntimeFailure,
    Sandbox,
    SandboxSpec,
    State,
)


class _Pod(Struct):
    spec: SandboxSpec
    sandbox: Sandbox
    containers: dict[str, ContainerState] = field(default_factory=dict)


class FakeRuntime:
    """`image_names` are on the node; other names can be pulled if they are in `registry`."""

    def __init__(self, clock: Clock, image_names: tuple[str, ...] = ("busybox:1",)) -> None:
        self._clock = clock
        self._serial = itertools.count(1)
        self._pods: dict[str, _Pod] = {}  # by sandbox id
        self._specs: dict[str, ContainerSpec] = {}
        self._listeners: list[asyncio.Queue[RuntimeEvent]] = []
        self.image_names = set(image_names)
        self.registry: set[str] = set()
        self.behaviour: dict[str, int] = {}
        self.start_errors: dict[str, str] = {}
        self.limits: dict[str, Limits] = {}  # by container id
        self.limit_errors: dict[str, str] = {}
        self.exec_results: dict[str, ExecResult] = {}
        self.log: list[str] = []

    async def version(self) -> str:
        return "fake"

    async def close(self) -> None: ...

    async def pods(self) -> list[PodState]:
        return [await self.pod(uid) for uid in sorted({pod.spec.uid for pod in self._pods.values()})]

    async def pod(self, uid: str) -> PodState:
        mine = [pod for pod in self._pods.values() if pod.spec.uid == uid]
        if not mine:
            return PodState(uid=uid)
        containers = [state for pod in mine for state in pod.containers.values()]
        return PodState(
            uid=uid,
            name=mine[0].spec.name,
            namespace=mine[0].spec.namespace,
            sandboxes=tuple(sorted((pod.sandbox for pod in mine), key=lambda sandbox: -sandbox.attempt)),
            containers=tuple(reversed(containers)),
        )

    async def run_sandbox(self, spec: SandboxSpec) -> Sandbox:
        number = next(self._serial)
        sandbox = Sandbox(id=f"sandbox-{number}", is_ready=True, attempt=spec.attempt, pid=number)
        self._pods[sandbox.id] = _Pod(spec, sandbox)
        self.log.append(f"run sandbox {spec.name}/{spec.attempt}")
        return sandbox

    async def stop_sandbox(self, sandbox_id: str) -> None:
        if (pod := self._pods.get(sandbox_id)) is not None:
            pod.sandbox = replace(pod.sandbox, is_ready=False, pid=0)
            self.log.append(f"stop sandbox {pod.spec.name}")
            self._tell(pod.spec.uid, sandbox_id, "died")

    async def remove_sandbox(self, sandbox_id: str) -> None:
        if (pod := self._pods.pop(sandbox_id, None)) is not None:
            self.log.append(f"remove sandbox {pod.spec.name}/{pod.sandbox.attempt}")

    async def create_container(self, spec: ContainerSpec) -> str:
        pod = self._pods[spec.sandbox_id]
        container_id = f"{spec.name}-{next(self._serial)}"
        self._specs[container_id] = spec
        self.limits[container_id] = spec.limits
        pod.containers[container_id] = ContainerState(
            id=container_id,
            name=spec.name,
            kind=spec.kind,
            state=State.CREATED,
            attempt=spec.attempt,
            spec_hash=spec.spec_hash,
            sandbox_id=spec.sandbox_id,
            image=spec.image,
            created_at=self._clock.now(),
        )
        self.log.append(f"create {spec.name}/{spec.attempt}")
        return container_id

    async def start_container(self, container_id: str, spec: ContainerSpec) -> None:
        now = self._clock.now()
        if (error := self.start_errors.get(spec.name)) is not None:
            self._set(container_id, state=State.EXITED, exit_code=128, finished_at=now, start_error=error)
            raise RuntimeFailure(error)
        self._set(container_id, state=State.RUNNING, started_at=now)
        self.log.append(f"start {spec.name}/{spec.attempt}")
        if spec.name in self.behaviour:
            self.exit(container_id, self.behaviour[spec.name])

    async def limit_container(self, pod: PodState, container: ContainerState, limits: Limits) -> None:
        if (error := self.limit_errors.get(container.name)) is not None:
            raise RuntimeFailure(error)
        self.limits[container.id] = limits

    async def stop_container(self, container_id: str, grace_s: int) -> None:
        state = self._find(container_id)
        if state.state is State.RUNNING:
            self.log.append(f"stop {state.name}/{state.attempt} {grace_s}s")
            self.exit(container_id, 143)

    async def kill_container(self, container_id: str) -> None:
        if self._find(container_id).state is State.RUNNING:
            self.exit(container_id, 137)

    async def remove_container(self, container_id: str) -> None:
        for pod in self._pods.values():
            if pod.containers.pop(container_id, None) is not None:
                self.log.append(f"remove {container_id.rpartition('-')[0]}")

    async def exec(self, container_id: str, command: list[str], timeout_s: float) -> ExecResult:
        return self.exec_results.get(self._find(container_id).name, ExecResult(0, ""))

    async def reopen_log(self, container_id: str) -> None:
        self.log.append(f"reopen {self._find(container_id).name}")

    async def image(self, name: str) -> Image | None:
        return Image(id=f"sha256:{name}", names=(name,)) if name in self.image_names else None

    async def images(self) -> list[Image]:
        return [Image(id=f"sha256:{name}", names=(name,)) for name in sorted(self.image_names)]

    async def pull_image(self, name: str, credentials: Mapping[str, str] | None) -> Image:
        if name not in self.registry:
            raise RuntimeFailure(f"{name}: not found")
        self.image_names.add(name)
        return Image(id=f"sha256:{name}", names=(name,))

    async def remove_image(self, image_id: str) -> None:
        self.image_names.discard(image_id.removeprefix("sha256:"))

    async def events(self) -> AsyncIterator[RuntimeEvent]:
        queue: asyncio.Queue[RuntimeEvent] = asyncio.Queue()
        self._listeners.append(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._listeners.remove(queue)

    # What tests do to it.

    def exit(self, container_id: str, code: int, *, oom: bool = False) -> None:
        """The container's process ends."""
        self._set(container_id, state=State.EXITED, exit_code=code, finished_at=self._clock.now(), is_oom_killed=oom)

    def lose_everything(self) -> None:
        """The node was killed: nothing runs, and how it ended is unknown."""
        for pod in self._pods.values():
            pod.sandbox = replace(pod.sandbox, is_ready=False, pid=0)
            for container_id, state in pod.containers.items():
                if state.state is State.RUNNING:
                    pod.containers[container_id] = replace(state, state=State.UNKNOWN)

    def spec_of(self, container_id: str) -> ContainerSpec:
        return self._specs[container_id]

    def _find(self, container_id: str) -> ContainerState:
        for pod in self._pods.values():
            if container_id in pod.containers:
                return pod.containers[container_id]
        raise NoSuchContainer(container_id)

    def _set(self, container_id: str, **changes: object) -> None:
        for pod in self._pods.values():
            if container_id in pod.containers:
                pod.containers[container_id] = replace(pod.containers[container_id], **changes)
                self._tell(pod.spec.uid, container_id, "changed")

    def _tell(self, uid: str, container_id: str, action: str) -> None:
        for queue in self._listeners:
            queue.put_nowait(RuntimeEvent(uid, container_id, action))
