"""Health checks of the gateway: which node addresses answer for a load balancer.

A check is of one kind:
    http    the node's health-check port says 200 while it has endpoints of the Service (policy Local)
    node    the node's proxy does not say that the node should get no traffic (policy Cluster): it says 200, or nobody
            listens on its health port (another proxy, or one that restarts: its rules go on) but the node is there
With policy Cluster a node port is no measure of its node: the node's proxy may choose a pod elsewhere, and a pod that
does not answer would take every node out.
A target is up after one success, down after FAILURES_MAX failures in a row, and down before the first answer. The first
check of a new target is awaited by who adds it, so a new load balancer serves at once.
Units: seconds. Errors: none; whatever goes wrong with a check is a failure of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from typing import Literal

from msgspec import Struct, field

from orchestrator.cloud.provider import LoadBalancer

log = logging.getLogger(__name__)

INTERVAL_S = 1.0
RETRY_S = 0.25  # after the first failure of a target that was up
TIMEOUT_S = 1.0
FAILURES_MAX = 2
ANSWER_BYTES_MAX = 4096
PROXY_PORT = 10256  # KEP-3836

Kind = Literal["http", "node"]


class Target(Struct, frozen=True, order=True):
    address: str
    port: int
    kind: Kind


def target(balancer: LoadBalancer, address: str) -> Target:
    """How a node's address is checked for a load balancer. Pure."""
    if balancer.health_check_port:
        return Target(address, balancer.health_check_port, "http")
    return Target(address, PROXY_PORT, "node")


async def check(target: Target) -> bool:
    """One check."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            reader, writer = await asyncio.open_connection(target.address, target.port)
            try:
                return await _says_ok(reader, writer, target)
            finally:
                writer.close()
    except ConnectionRefusedError:
        return target.kind == "node"
    except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return False


async def _says_ok(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: Target) -> bool:
    host = f"[{target.address}]" if ":" in target.address else target.address
    writer.write(f"GET /healthz HTTP/1.1\r\nHost: {host}:{target.port}\r\nConnection: close\r\n\r\n".encode())
    line = await reader.readuntil(b"\r\n")
    return line.split(b" ")[1:2] == [b"200"]


class _State(Struct):
    is_up: bool = False
    failures: int = 0
    first: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class HealthChecks:
    """Checks all targets while it runs; `changed` is told of a target that went up or down."""

    def __init__(self, changed: Callable[[Target], None]) -> None:
        self._changed = changed
        self._states: dict[Target, _State] = {}

    def is_up(self, target: Target) -> bool:
        state = self._states.get(target)
        return state is not None and state.is_up

    async def watch(self, targets: Iterable[Target]) -> None:
        """Make these the targets; returns when each has been checked once."""
        wanted = set(targets)
        for gone in set(self._states) - wanted:
            state = self._states.pop(gone)
            state.first.set()  # nobody shall wait for it any more
            if state.task is not None:
                state.task.cancel()
        loop = asyncio.get_running_loop()
        for new in sorted(wanted - set(self._states)):
            state = self._states[new] = _State()
            state.task = loop.create_task(self._keep_checking(new, state), name=f"health check {new.address}")
        for state in [self._states[one] for one in wanted if one in self._states]:
            await state.first.wait()

    async def close(self) -> None:
        tasks = [state.task for state in self._states.values() if state.task is not None]
        self._states.clear()
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep_checking(self, target: Target, state: _State) -> None:
        while True:
            self._note(target, state, await check(target))
            state.first.set()
            await asyncio.sleep(RETRY_S if state.is_up and state.failures else INTERVAL_S)

    def _note(self, target: Target, state: _State, answered: bool) -> None:
        state.failures = 0 if answered else state.failures + 1
        is_up = answered or (state.is_up and state.failures < FAILURES_MAX)
        if is_up == state.is_up:
            return
        state.is_up = is_up
        if state.first.is_set():  # of the first answer, whoever waits for it learns
            log.info("backend %s", "up" if is_up else "down", extra={"address": target.address, "port": target.port})
            self._changed(target)
