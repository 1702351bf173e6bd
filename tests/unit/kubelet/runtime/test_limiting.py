"""Limits of a running container set anew: by Podman with cgroup v2, by the porter with v1."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from yarl import URL

from orchestrator.kubelet.porter import PorterFailure, SocketPorter
from orchestrator.kubelet.runtime.interface import ContainerState, Limits, PodState, RuntimeFailure, State
from orchestrator.kubelet.runtime.libpod import Libpod
from orchestrator.kubelet.runtime.podman import Podman

POD = PodState(uid="u", name="web", namespace="default")
CONTAINER = ContainerState(id="c1", name="c", kind="app", state=State.RUNNING)
LIMITS = Limits(memory_bytes=1 << 26, cpu_quota_us=50_000, cpu_shares=512)


@asynccontextmanager
async def podman_at(socket: Path) -> AsyncIterator[list[tuple[str, str, Any]]]:
    """What answers an update as Podman's service does: with an id, bare. Yields what it was asked."""
    asked = []

    async def answer(request: web.Request) -> web.Response:
        asked.append((request.method, request.path, await request.json()))
        return web.Response(status=201, text="bb96fde01034\n")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.UnixSite(runner, str(socket)).start()
    try:
        yield asked
    finally:
        await runner.cleanup()


class RecordingPorter(SocketPorter):
    def __init__(self, error: str = "") -> None:
        super().__init__(Path("/nowhere"))
        self.calls: list[tuple[str, Mapping[str, Any]]] = []
        self._error = error

    async def call(self, verb: str, arguments: Mapping[str, Any], timeout_s: float = 0) -> dict[str, Any]:
        if self._error:
            raise PorterFailure(self._error)
        self.calls.append((verb, arguments))
        return {}


async def test_podman_is_given_what_it_was_given_at_creation(tmp_path: Path) -> None:
    libpod = Libpod(tmp_path / "podman.sock")
    async with podman_at(libpod.socket) as asked:
        await Podman(libpod, RecordingPorter(), limits_by_porter=False).limit_container(POD, CONTAINER, LIMITS)
        await libpod.close()
    resources = {
        "cpu": {"shares": 512, "quota": 50_000, "period": 100_000},
        "memory": {"limit": 1 << 26, "swap": 1 << 26},
    }
    assert asked == [("POST", URL(libpod.url("/containers/c1/update")).path, resources | {"no_healthcheck": True})]


async def test_the_porter_lifts_what_has_no_limit() -> None:
    porter = RecordingPorter()
    podman = Podman(Libpod(Path("/nowhere")), porter, limits_by_porter=True)
    await podman.limit_container(POD, CONTAINER, Limits(cpu_shares=512))
    limits = {"memory_bytes": -1, "cpu_quota_us": -1, "cpu_period_us": 100_000, "cpu_shares": 512, "pids": -1}
    assert porter.calls == [("cgroup.update", {"uid": "u", "pod": "default/web", "container": "c", "limits": limits})]


async def test_a_refusal_is_the_runtimes() -> None:
    podman = Podman(Libpod(Path("/nowhere")), RecordingPorter("device busy"), limits_by_porter=True)
    with pytest.raises(RuntimeFailure, match="limits could not be set: device busy"):
        await podman.limit_container(POD, CONTAINER, LIMITS)
