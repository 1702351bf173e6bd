"""A booted node with rootless Podman, and the Runtime on it: the adapter runs here and reaches in by /proc/PID/root."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.install import steps
from infra.local import lab
from infra.local.control import Control
from infra.topology import Topology
from orchestrator.kubelet.dirs import Dirs
from orchestrator.kubelet.fakeporter import FakePorter
from orchestrator.kubelet.runtime.libpod import Libpod
from orchestrator.kubelet.runtime.podman import Podman

NAME = f"kubelet{os.getpid()}"  # two runs of the tests on one machine must not meet
SERVICE = (
    "mkdir -p /run/user/$(id -u)/podman && "
    "setsid podman system service --time=0 unix:///run/user/$(id -u)/podman/podman.sock >/dev/null 2>&1 </dev/null &"
)
SOCKET_LIMIT_S = 20.0


@dataclass(frozen=True)
class PodmanNode:
    control: Control
    name: str
    user_id: int
    root: Path  # the node's file system, seen from here

    @property
    def socket(self) -> Path:
        return self.root / f"run/user/{self.user_id}/podman/podman.sock"

    def folder(self, path: str) -> Path:
        """A folder of the node's user."""
        made = self.root / path.lstrip("/")
        made.mkdir(parents=True, exist_ok=True)
        os.chown(made, self.user_id, self.user_id)
        return made


@pytest.fixture(scope="session")
def podman_node() -> Iterator[PodmanNode]:
    if os.geteuid() != 0:
        pytest.skip("booting a node needs root")
    try:
        topology, control = lab.nodes_up(Topology(name=NAME, workers=0), print)
        node = topology.nodes[0]
        steps.prepare_node(control.shell(node.name), topology, node)
        control.run(node.name, ["sh", "-c", SERVICE], user="sampan")
        pid = control.ask("status")["nodes"][node.name]["pid"]
        ready = PodmanNode(control, node.name, node.user_id, Path(f"/proc/{pid}/root"))
        deadline = time.monotonic() + SOCKET_LIMIT_S
        while not ready.socket.exists():
            assert time.monotonic() < deadline, "podman's service did not come up"
            time.sleep(0.02)
        yield ready
    finally:
        lab.down(NAME)


@pytest.fixture
async def podman(podman_node: PodmanNode, tmp_path: Path) -> AsyncIterator[Podman]:
    """The adapter; whatever a test leaves is removed. Limits are the porter's affair, which is a fake here."""
    porter = FakePorter(Dirs(tmp_path, tmp_path))
    runtime = Podman(Libpod(podman_node.socket), porter, limits_by_porter=True)
    async with asyncio.timeout(SOCKET_LIMIT_S):
        await runtime.version()
    try:
        yield runtime
    finally:
        for pod in await runtime.pods():
            for sandbox in pod.sandboxes:
                await runtime.remove_sandbox(sandbox.id)
        await runtime.close()
