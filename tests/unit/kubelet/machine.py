"""A node for tests of the whole kubelet: an API server in memory, a fake runtime and porter, and what a test asks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest

from orchestrator.api import conditions
from orchestrator.api.clock import SystemClock
from orchestrator.api.meta import Object
from orchestrator.api.resources import EVENTS, PODS
from orchestrator.api.status import NotFound
from orchestrator.client.client import Client
from orchestrator.client.informer import Informers
from orchestrator.kubelet.config import Config
from orchestrator.kubelet.dirs import Dirs
from orchestrator.kubelet.fakeporter import FakePorter
from orchestrator.kubelet.main import Kubelet
from orchestrator.kubelet.runtime.fake import FakeRuntime
from tests.apiserver_fixture import serving

LIMIT_S = 5.0


@dataclass
class Machine:
    """A node that outlives its kubelets."""

    config: Config
    client: Client
    runtime: FakeRuntime
    porter: FakePorter

    @asynccontextmanager
    async def kubelet(self) -> AsyncIterator[Kubelet]:
        async with Informers(self.client) as informers:
            kubelet = Kubelet(self.config, self.client, informers, self.runtime, self.porter, random=Random(1))
            task = asyncio.create_task(kubelet.run())
            try:
                await asyncio.wait_for(kubelet.reporter.registered.wait(), LIMIT_S)
                yield kubelet
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def create(self, name: str = "web", **spec: Any) -> Object:
        containers = spec.pop("containers", [{"name": "c", "image": "busybox:1"}])
        body = {
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"nodeName": "n1", "containers": containers, "restartPolicy": "Always", **spec},
        }
        return await self.client.create(PODS, body)

    async def pod(self, name: str = "web") -> Object:
        return await self.client.get(PODS, name, "default")

    async def until(self, condition: Callable[[Object], bool], name: str = "web") -> Object:
        async with asyncio.timeout(LIMIT_S):
            while True:
                try:
                    pod = await self.pod(name)
                    if condition(pod):
                        return pod
                except NotFound:
                    pass
                await asyncio.sleep(0.01)

    async def until_gone(self, name: str = "web") -> None:
        async with asyncio.timeout(LIMIT_S):
            while True:
                try:
                    await self.pod(name)
                except NotFound:
                    return
                await asyncio.sleep(0.01)

    async def event(self, reason: str) -> Object:
        async with asyncio.timeout(LIMIT_S):
            while True:
                for event in (await self.client.list(EVENTS, "default")).items:
                    if event["reason"] == reason:
                        return event
                await asyncio.sleep(0.01)


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    config = Config(
        node_name="n1",
        node_ips=["192.168.0.7", "fd00::7"],
        root_dir=str(tmp_path / "kubelet"),
        log_dir=str(tmp_path / "logs"),
        cluster_dns=["10.96.0.10"],
        static_pod_path=str(tmp_path / "manifests"),
        capacity={"cpu": "4", "memory": "8Gi"},
    )
    (tmp_path / "manifests").mkdir()
    async with serving() as served:
        porter = FakePorter(Dirs(Path(config.root_dir), Path(config.log_dir)))
        yield Machine(config, served.client, FakeRuntime(SystemClock()), porter)


def is_ready(pod: Object) -> bool:
    return conditions.is_true(pod, "Ready")


def phase(wanted: str) -> Callable[[Object], bool]:
    return lambda pod: (pod.get("status") or {}).get("phase") == wanted


def container(pod: Object) -> dict[str, Any]:
    return dict(pod["status"]["containerStatuses"][0])
