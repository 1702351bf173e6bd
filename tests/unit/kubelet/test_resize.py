"""A resize in place: from what the API wants to what control groups hold, and what users are told meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.api import conditions
from orchestrator.api.meta import Object
from orchestrator.api.resources import PODS
from orchestrator.kubelet import resize
from orchestrator.kubelet.resize import IN_PROGRESS, PENDING, Resizing
from tests.unit.kubelet.machine import Machine, container, is_ready

Amounts = dict[str, str]
OLD: Amounts = {"cpu": "500m", "memory": "64Mi"}
NEW: Amounts = {"cpu": "1", "memory": "128Mi"}
MIB = 1 << 20


def resources(requests: Amounts | None = None, limits: Amounts | None = None) -> dict[str, Any]:
    return {name: given for name, given in (("requests", requests), ("limits", limits)) if given is not None}


@pytest.mark.parametrize(
    ("one", "other", "found"),
    [
        pytest.param(resources(OLD), resources(OLD), set(), id="the-same"),
        pytest.param(resources({"cpu": "1"}), resources({"cpu": "1000m"}), set(), id="the-same-in-other-words"),
        pytest.param(resources(OLD), resources(NEW), {"cpu", "memory"}, id="both"),
        pytest.param(resources(OLD, OLD), resources(OLD, OLD | {"cpu": "1"}), {"cpu"}, id="a-limit-alone"),
        pytest.param({}, resources({"memory": "1Mi"}), {"memory"}, id="one-that-was-not-given"),
        pytest.param({}, resources({"example.com/gpu": "1"}), set(), id="no-other-resource-can-change"),
    ],
)
def test_what_differs(one: Any, other: Any, found: set[str]) -> None:
    assert resize.differing(one, other) == found


def test_the_record_outlives_the_kubelet(tmp_path: Path) -> None:
    before = {"spec": {"containers": [{"name": "c", "resources": resources(OLD)}]}}
    after = {"spec": {"containers": [{"name": "c", "resources": resources(NEW)}]}}
    record = Resizing.of(before, tmp_path / "pod" / "resources.json")
    record.actuate(before["spec"]["containers"][0])
    record.allocate(after)
    again = Resizing.of(after, record.file)
    assert (again.allocated, again.actuated) == ({"c": resources(NEW)}, {"c": resources(OLD)})
    assert resize.with_allocated(before, again.allocated) == after


async def make(machine: Machine, requests: Amounts, limits: Amounts | None = None, **more: Any) -> Object:
    made = {"name": "c", "image": "busybox:1", "resources": resources(requests, limits), **more}
    await machine.create(containers=[made])
    return await machine.until(is_ready)


async def ask(machine: Machine, requests: Amounts, limits: Amounts | None = None, name: str = "web") -> Object:
    patch = {"spec": {"containers": [{"name": "c", "resources": resources(requests, limits)}]}}
    return await machine.client.patch(PODS, name, "default", patch, "strategic", subresource="resize")


def in_force(requests: Amounts) -> Callable[[Object], bool]:
    def is_so(pod: Object) -> bool:
        status = pod.get("status") or {}
        found = conditions.find(status.get("conditions"), IN_PROGRESS)
        return found is None and container(pod)["resources"]["requests"] == requests

    return is_so


def condition_of(kind: str, **wanted: Any) -> Callable[[Object], bool]:
    def is_so(pod: Object) -> bool:
        found = conditions.find((pod.get("status") or {}).get("conditions"), kind)
        return found is not None and found | wanted == found

    return is_so


async def test_a_running_container_is_given_more(machine: Machine) -> None:
    async with machine.kubelet():
        before = await make(machine, OLD, OLD)
        asked = await ask(machine, NEW, NEW)
        after = await machine.until(in_force(NEW))
        found = container(after)
        assert found["containerID"] == container(before)["containerID"]
        assert found["allocatedResources"] == NEW
        assert after["status"]["observedGeneration"] == asked["metadata"]["generation"]
        limits = machine.runtime.limits[found["containerID"].removeprefix("podman://")]
        assert (limits.memory_bytes, limits.cpu_quota_us, limits.cpu_shares) == (128 * MIB, 100_000, 1024)
        assert (await machine.event("ResizeStarted"))["message"].startswith('Pod resize started: {"containers":[{')
        await machine.event("ResizeCompleted")


async def test_what_does_not_fit_waits_until_it_does(machine: Machine) -> None:
    async with machine.kubelet():
        other = {"name": "c", "image": "busybox:1", "resources": resources({"cpu": "3"})}
        await machine.create("other", containers=[other])
        await machine.until(is_ready, "other")
        await make(machine, {"cpu": "500m"})
        asked = await ask(machine, {"cpu": "2"})
        message = "Node didn't have enough resource: cpu, requested: 2000, used: 3000, capacity: 4000"
        generation = asked["metadata"]["generation"]
        waiting = await machine.until(
            condition_of(PENDING, reason="Deferred", message=message, observedGeneration=generation)
        )
        assert container(waiting)["resources"] == resources({"cpu": "500m"})
        assert container(waiting)["allocatedResources"] == {"cpu": "500m"}
        await machine.event("ResizeDeferred")
        await ask(machine, {"cpu": "1"}, name="other")
        after = await machine.until(in_force({"cpu": "2"}))
        assert conditions.find(after["status"]["conditions"], PENDING) is None


async def test_a_container_may_want_to_be_restarted(machine: Machine) -> None:
    policy = [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]
    async with machine.kubelet():
        before = await make(machine, OLD, OLD, resizePolicy=policy)
        await ask(machine, OLD | {"cpu": "1"}, OLD | {"cpu": "1"})
        after = await machine.until(in_force(OLD | {"cpu": "1"}))
        assert container(after)["containerID"] == container(before)["containerID"]
        await ask(machine, NEW, NEW)
        after = await machine.until(lambda pod: in_force(NEW)(pod) and container(pod)["restartCount"] == 1)
        limits = machine.runtime.limits[container(after)["containerID"].removeprefix("podman://")]
        assert limits.memory_bytes == 128 * MIB


async def test_memory_is_not_taken_from_under_a_container(machine: Machine) -> None:
    machine.porter.memory_bytes = 40 * MIB
    less = OLD | {"memory": "32Mi"}
    async with machine.kubelet():
        await make(machine, OLD, OLD)
        await ask(machine, less, less)
        message = (
            f'cannot decrease memory limits: attempting to set container "c" memory limit ({32 * MIB}) '
            f"below current usage ({40 * MIB})"
        )
        waiting = await machine.until(condition_of(IN_PROGRESS, reason="Error", message=message))
        assert container(waiting)["resources"] == resources(OLD, OLD)
        assert container(waiting)["allocatedResources"] == less
        await machine.event("ResizeError")
        await ask(machine, OLD, OLD)
        await machine.until(in_force(OLD))


async def test_a_new_kubelet_goes_on_with_a_resize(machine: Machine) -> None:
    machine.runtime.limit_errors["c"] = "no"
    async with machine.kubelet():
        await make(machine, OLD, OLD)
        await ask(machine, NEW, NEW)
        await machine.until(condition_of(IN_PROGRESS, reason="Error", message="no"))
    del machine.runtime.limit_errors["c"]
    async with machine.kubelet():
        after = await machine.until(in_force(NEW))
        limits = machine.runtime.limits[container(after)["containerID"].removeprefix("podman://")]
        assert limits.memory_bytes == 128 * MIB
