"""The scheduler against the real API server, in one process: Pods find their nodes, and are told why they do not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from orchestrator.api import conditions, meta
from orchestrator.api.meta import Object
from orchestrator.api.resources import EVENTS, NODES, PODS
from orchestrator.client.client import Client
from orchestrator.scheduler.main import Config, run
from tests.apiserver_fixture import serving


def node(name: str, cpu: str = "4", *, pods: str = "110", **more: Any) -> Object:
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name} | more.pop("labels", {})},
        "spec": more,
        "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": pods}},
    }


def pod(name: str, cpu: str = "100m", **spec: Any) -> Object:
    container = {"name": "c", "image": "busybox:1", "resources": {"requests": {"cpu": cpu}}}
    labels = spec.pop("labels", {})
    return {
        "metadata": {"name": name, "namespace": "default", "labels": labels},
        "spec": {"containers": [container], "schedulerName": "default-scheduler", **spec},
        "status": {"phase": "Pending"},
    }


@asynccontextmanager
async def cluster(*nodes: Object) -> AsyncIterator[Client]:
    async with serving() as served:
        for one in nodes:
            await served.client.create(NODES, one)
        task = asyncio.create_task(run(Config(seed=1), served.client))
        try:
            yield served.client
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def until(client: Client, name: str, holds: Callable[[Object], Any], limit_s: float = 10.0) -> Object:
    async with asyncio.timeout(limit_s):
        while not holds(found := await client.get(PODS, name, "default")):
            await asyncio.sleep(0.01)
    return found


def node_of(obj: Object) -> str:
    return obj["spec"].get("nodeName") or ""


def why(obj: Object) -> str:
    condition = conditions.find(obj["status"].get("conditions"), "PodScheduled") or {}
    return condition.get("message", "")


async def test_pods_are_spread_and_bound() -> None:
    async with cluster(node("n1"), node("n2")) as client:
        for index in range(10):
            await client.create(PODS, pod(f"p{index}"))
        placed = [node_of(await until(client, f"p{index}", node_of)) for index in range(10)]
        assert sorted(placed) == ["n1"] * 5 + ["n2"] * 5
        async with asyncio.timeout(5):
            while True:
                events = [event for event in (await client.list(EVENTS)).items if event["reason"] == "Scheduled"]
                if len(events) == 10:
                    break
                await asyncio.sleep(0.01)
        assert events[0]["message"].startswith("Successfully assigned default/p")


async def test_a_pod_without_a_node_says_why_and_goes_when_it_can() -> None:
    tainted = node("n1", taints=[{"key": "a", "effect": "NoSchedule"}])
    async with cluster(tainted, node("n2", cpu="1"), node("n3", cpu="1")) as client:
        await client.create(PODS, pod("big", cpu="2"))
        found = await until(client, "big", why)
        assert why(found) == (
            "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient cpu. "
            "preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
        )
        await client.create(NODES, node("n4"))
        assert node_of(await until(client, "big", node_of)) == "n4"


async def test_a_pod_waits_for_the_first_node() -> None:
    async with cluster() as client:
        await client.create(PODS, pod("early"))
        assert why(await until(client, "early", why)) == "no nodes available to schedule pods"
        await client.create(NODES, node("n1"))
        await until(client, "early", node_of)


async def test_a_gated_pod_waits_for_its_gates() -> None:
    async with cluster(node("n1")) as client:
        await client.create(PODS, pod("gated", schedulingGates=[{"name": "example.com/wait"}]))
        await client.create(PODS, pod("open"))
        await until(client, "open", node_of)
        assert not node_of(await client.get(PODS, "gated", "default"))
        await client.patch(PODS, "gated", "default", {"spec": {"schedulingGates": None}})
        await until(client, "gated", node_of)


async def test_a_freed_place_is_taken() -> None:
    async with cluster(node("n1", pods="1")) as client:
        await client.create(PODS, pod("first"))
        await until(client, "first", node_of)
        await client.create(PODS, pod("second"))
        found = await until(client, "second", why)
        assert why(found).startswith("0/1 nodes are available: 1 Too many pods.")
        await client.delete(PODS, "first", "default", grace_period_s=0)
        await until(client, "second", node_of)


async def test_a_more_important_pod_preempts() -> None:
    async with cluster(node("n1", cpu="1"), node("n2", cpu="1")) as client:
        await client.create(PODS, pod("low", cpu="800m", priority=1))
        await client.create(PODS, pod("middle", cpu="800m", priority=5))
        low = await until(client, "low", node_of)
        await until(client, "middle", node_of)
        await client.create(PODS, pod("high", cpu="800m", priority=10))
        high = await until(client, "high", lambda obj: obj["status"].get("nominatedNodeName"))
        assert high["status"]["nominatedNodeName"] == node_of(low)
        victims = (await client.list(PODS, "default")).items
        doomed = [meta.name(one) for one in victims if meta.is_deleting(one)]
        if doomed:  # graceful: what the kubelet would do
            assert doomed == ["low"]
            await client.delete(PODS, "low", "default", grace_period_s=0)
        assert node_of(await until(client, "high", node_of)) == node_of(low)
        assert node_of(await client.get(PODS, "middle", "default"))


async def test_another_schedulers_pods_are_left_alone() -> None:
    async with cluster(node("n1")) as client:
        await client.create(PODS, pod("theirs", schedulerName="other"))
        await client.create(PODS, pod("ours"))
        await until(client, "ours", node_of)
        assert not node_of(await client.get(PODS, "theirs", "default"))


@pytest.mark.parametrize("count", [300])
async def test_many_pods_at_once(count: int) -> None:
    async with cluster(*(node(f"n{index}", pods="110") for index in range(4))) as client:
        await asyncio.gather(*(client.create(PODS, pod(f"p{index}", cpu="10m")) for index in range(count)))
        async with asyncio.timeout(30):
            while True:
                pods = (await client.list(PODS, "default")).items
                if all(node_of(one) for one in pods):
                    break
                await asyncio.sleep(0.05)
        per_node = [sum(node_of(one) == f"n{index}" for one in pods) for index in range(4)]
        assert max(per_node) - min(per_node) <= 8  # scores are whole numbers: close nodes are equals
