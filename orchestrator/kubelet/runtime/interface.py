"""What pod workers need of a container runtime, and the records that pass between them.

A *sandbox* holds a pod's namespaces (in Podman: a pod with its infra container, made without a network); *containers*
live in one sandbox. Container states:

    created --start--> running --exits--> exited          unknown: it ran, and how it ended was lost (the node died)

Everything is found again by what the runtime keeps with it (labels), so a kubelet that restarts adopts what runs.
Times are seconds since the epoch, 0 where it has not happened. Errors: `RuntimeFailure` with the runtime's own words
(`NoSuchContainer`, `NoSuchImage` where the thing is gone); RuntimeUnavailable where it cannot be asked.
Source: the CRI, as far as the kubelet here uses it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from enum import Enum
from typing import Literal, Protocol

from msgspec import Struct, field

ContainerKind = Literal["app", "init", "ephemeral"]


class RuntimeFailure(Exception):
    """The runtime refused or failed; the text is its own."""


class NoSuchContainer(RuntimeFailure):
    """There is no such container or sandbox (any more)."""


class NoSuchImage(RuntimeFailure):
    """There is no such image on this node."""


class RuntimeUnavailable(RuntimeFailure):
    """The runtime does not answer."""


class State(Enum):
    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"
    UNKNOWN = "unknown"


class ContainerState(Struct, frozen=True, kw_only=True):
    """A container as the runtime has it. `attempt` counts its predecessors of the same name in the pod."""

    id: str
    name: str
    kind: ContainerKind
    state: State
    attempt: int = 0
    spec_hash: str = ""
    sandbox_id: str = ""
    image: str = ""
    image_id: str = ""
    pid: int = 0
    created_at: float = 0.0
    started_at: float = 0.0
    finished_at: float = 0.0
    exit_code: int = 0
    is_oom_killed: bool = False
    start_error: str = ""  # why it never ran, in the runtime's words


class Sandbox(Struct, frozen=True, kw_only=True):
    id: str
    is_ready: bool
    attempt: int = 0
    pid: int = 0  # of the process that holds the namespaces
    created_at: float = 0.0


class PodState(Struct, frozen=True, kw_only=True):
    """All that the runtime has of one pod: sandboxes and containers, newest first."""

    uid: str
    name: str = ""
    namespace: str = ""
    sandboxes: tuple[Sandbox, ...] = ()
    containers: tuple[ContainerState, ...] = ()

    def latest(self, name: str) -> ContainerState | None:
        return next((container for container in self.containers if container.name == name), None)

    def previous(self, name: str) -> ContainerState | None:
        """The one before the latest."""
        of_name = [container for container in self.containers if container.name == name]
        return of_name[1] if len(of_name) > 1 else None

    @property
    def sandbox(self) -> Sandbox | None:
        """The one that the pod lives in: the newest that is ready, else the newest."""
        ready = (sandbox for sandbox in self.sandboxes if sandbox.is_ready)
        return next(ready, self.sandboxes[0] if self.sandboxes else None)

    @property
    def outline(self) -> tuple[object, ...]:
        """What is there and in which state, without details: whether two looks differ."""
        return (
            frozenset((sandbox.id, sandbox.is_ready) for sandbox in self.sandboxes),
            frozenset((container.id, container.state) for container in self.containers),
        )

    @property
    def running(self) -> tuple[ContainerState, ...]:
        return tuple(container for container in self.containers if container.state is State.RUNNING)


class Mount(Struct, frozen=True, kw_only=True):
    """What a container sees at `destination`: a file, folder or (`is_device`) device of the node, or (`is_image`) an
    image's files."""

    source: str
    destination: str
    read_only: bool = False
    propagation: Literal["private", "rslave", "rshared"] = "private"
    is_image: bool = False
    sub_path: str = ""
    is_tmpfs: bool = False
    is_device: bool = False


class Limits(Struct, frozen=True, kw_only=True):
    """What a control group enforces; 0 is no limit."""

    memory_bytes: int = 0
    cpu_quota_us: int = 0
    cpu_period_us: int = 100_000
    cpu_shares: int = 2
    pids: int = 0


class Security(Struct, frozen=True, kw_only=True):
    """How a container's process differs from an ordinary one. `user` is `uid[:gid]` or a name, "" for the image's."""

    user: str = ""
    groups: tuple[str, ...] = ()
    capabilities_add: tuple[str, ...] = ()
    capabilities_drop: tuple[str, ...] = ()
    is_privileged: bool = False
    no_new_privileges: bool = False
    read_only_root: bool = False
    seccomp_profile: str = ""  # "" the runtime's default, "unconfined", or a file
    unmasked_proc: bool = False


class SandboxSpec(Struct, frozen=True, kw_only=True):
    uid: str
    name: str
    namespace: str
    attempt: int
    image: str
    hostname: str
    host_network: bool = False
    host_pid: bool = False
    host_ipc: bool = False
    share_pid: bool = False
    sysctls: Mapping[str, str] = field(default_factory=dict)
    cgroup_parent: str = ""


class ContainerSpec(Struct, frozen=True, kw_only=True):
    """`entrypoint` and `command` None mean the image's. `pid_container`: whose process namespace to join, by id."""

    sandbox: SandboxSpec
    sandbox_id: str
    name: str
    kind: ContainerKind
    attempt: int
    spec_hash: str
    image: str
    entrypoint: tuple[str, ...] | None = None
    command: tuple[str, ...] | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    working_dir: str = ""
    mounts: tuple[Mount, ...] = ()
    log_path: str = ""
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False
    security: Security = Security()
    limits: Limits = Limits()
    oom_score_adj: int | None = None
    stop_signal: str = ""
    pid_container: str = ""


class Image(Struct, frozen=True, kw_only=True):
    id: str
    names: tuple[str, ...] = ()  # tags
    digests: tuple[str, ...] = ()
    size_bytes: int = 0
    user: str = ""  # only where one image was asked for


class ExecResult(Struct, frozen=True):
    exit_code: int
    output: str  # stdout and stderr as they came, at most EXEC_OUTPUT_MAX_BYTES


class RuntimeEvent(Struct, frozen=True):
    """Something happened to a container of the pod: look again."""

    pod_uid: str
    container_id: str
    action: str


class Runtime(Protocol):
    """The runtime of one node's user. Stopping or removing what is gone already is no error."""

    async def version(self) -> str: ...

    async def pods(self) -> list[PodState]:
        """Everything of ours."""
        ...

    async def pod(self, uid: str) -> PodState: ...

    async def run_sandbox(self, spec: SandboxSpec) -> Sandbox: ...

    async def stop_sandbox(self, sandbox_id: str) -> None:
        """Ends what holds the namespaces; containers in it must have been stopped."""
        ...

    async def remove_sandbox(self, sandbox_id: str) -> None:
        """Removes it with all its containers, killing what runs."""
        ...

    async def create_container(self, spec: ContainerSpec) -> str: ...

    async def start_container(self, container_id: str, spec: ContainerSpec) -> None: ...

    async def limit_container(self, pod: PodState, container: ContainerState, limits: Limits) -> None:
        """Sets the limits of a running container anew."""
        ...

    async def stop_container(self, container_id: str, grace_s: int) -> None:
        """Its stop signal, then SIGKILL after the grace period; returns once it has ended."""
        ...

    async def kill_container(self, container_id: str) -> None: ...

    async def remove_container(self, container_id: str) -> None: ...

    async def exec(self, container_id: str, command: list[str], timeout_s: float) -> ExecResult:
        """Runs a command in it to its end. TimeoutError where it takes longer."""
        ...

    async def reopen_log(self, container_id: str) -> None:
        """The container's log file was renamed: go on in a new one of the old name."""
        ...

    async def image(self, name: str) -> Image | None: ...

    async def images(self) -> list[Image]: ...

    async def pull_image(self, name: str, credentials: Mapping[str, str] | None) -> Image: ...

    async def remove_image(self, image_id: str) -> None: ...

    def events(self) -> AsyncIterator[RuntimeEvent]:
        """What happens from now on, until the runtime goes away (RuntimeUnavailable)."""
        ...

    async def close(self) -> None: ...
