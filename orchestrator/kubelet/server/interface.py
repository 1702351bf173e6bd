"""What the server needs of the kubelet around it: its pods, its runtime's streams, and the porter.

`Process` is a command or a container's own process with its streams, whatever runtime started it; `Channels` is the
same on the caller's side, whatever protocol carries it. `remotecommand.py` joins the two.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Literal, Protocol

from orchestrator.api.meta import Object
from orchestrator.kubelet.porter import CgroupStat, PodKey
from orchestrator.kubelet.runtime.interface import ExecResult, PodState

Output = Literal[1, 2]  # the file descriptor that it came from
STDOUT: Output = 1
STDERR: Output = 2
Size = tuple[int, int]  # columns, rows


class Pods(Protocol):
    """The kubelet's own table of pods, static ones included."""

    def all(self) -> list[Object]: ...

    def get(self, namespace: str, name: str) -> Object | None: ...

    async def state(self, uid: str) -> PodState: ...


class Process(Protocol):
    """Streams of a process. `output` ends when the process has ended and all is read."""

    def output(self) -> AsyncIterator[tuple[Output, bytes]]: ...

    async def write(self, data: bytes) -> None:
        """To its standard input. ConnectionError where it reads no more."""
        ...

    async def end_input(self) -> None: ...

    async def resize(self, size: Size) -> None: ...

    async def exit_code(self) -> int:
        """After the output has ended; 0 for an attached process, whose end is the pod's affair."""
        ...

    async def close(self) -> None: ...


class Streaming(Protocol):
    """The streams of a container runtime. Errors: RuntimeFailure in the runtime's words."""

    async def exec(
        self, container_id: str, command: list[str], *, stdin: bool, stdout: bool, stderr: bool, tty: bool
    ) -> Process: ...

    async def attach(self, container_id: str, *, stdin: bool, stdout: bool, stderr: bool, tty: bool) -> Process: ...


class Channels(Protocol):
    """The caller's streams."""

    async def read(self) -> bytes:
        """Standard input as it comes; b"" once it has ended, or the caller has gone."""
        ...

    async def next_size(self) -> Size | None:
        """The terminal's next size; None when there will be none."""
        ...

    async def write(self, output: Output, data: bytes) -> None:
        """ConnectionError where the caller has gone."""
        ...

    async def finish(self, status: Object) -> None:
        """How it ended (a Status), after all output; closes the streams."""
        ...

    async def gone(self) -> None:
        """Returns when the caller has hung up."""
        ...


class Commands(Protocol):
    """Runs a command without input to its end."""

    async def exec(self, container_id: str, command: list[str], timeout_s: float) -> ExecResult: ...


class Porter(Protocol):
    async def call(self, verb: str, arguments: Mapping[str, Any]) -> dict[str, Any]: ...

    async def cgroup_stat(self, pod: PodKey, container: str) -> CgroupStat: ...
