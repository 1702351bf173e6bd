"""The scheduler with its own identity and rights, over the network, at a whole API server."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from orchestrator.api import conditions, meta
from orchestrator.api.resources import (
    EVENTS,
    LEASES,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODS,
    PRIORITYCLASSES,
    SERVICEACCOUNTS,
    STORAGECLASSES,
)
from orchestrator.scheduler.main import Config, run
from tests.integration.scheduler.test_scheduling import node, node_of, pod, until
from tests.whole_server import WholeServer, whole_server


async def add_node(server: WholeServer, name: str, cpu: str = "2") -> None:
    made = node(name, cpu)
    created = await server.admin.create(NODES, made)
    await server.admin.update(NODES, created | {"status": made["status"]}, subresource="status")
    await server.admin.patch(NODES, name, "", {"spec": {"taints": None}})  # what the node lifecycle controller does


@pytest.mark.parametrize("leader_elect", [False, True])
async def test_over_the_network(tmp_path: Path, leader_elect: bool) -> None:
    async with whole_server(tmp_path) as server:
        await server.admin.create(SERVICEACCOUNTS, {"metadata": {"name": "default", "namespace": "default"}})
        for name in ("n1", "n2"):
            await add_node(server, name)
        config = Config(kubeconfig=str(server.kubeconfig("scheduler")), leader_elect=leader_elect, seed=1)
        task = asyncio.create_task(run(config))
        try:
            await server.admin.create(PODS, pod("low", cpu="1500m"))
            low = await until(server.admin, "low", node_of)
            scheduled = conditions.find(low["status"]["conditions"], "PodScheduled") or {}
            assert scheduled["status"] == "True"
            await server.admin.create(PODS, pod("other", cpu="1500m"))
            await until(server.admin, "other", node_of)
            await server.admin.create(PRIORITYCLASSES, {"metadata": {"name": "high"}, "value": 1000})
            await server.admin.create(PODS, pod("high", cpu="1500m", priorityClassName="high"))
            high = await until(server.admin, "high", lambda one: one["status"].get("nominatedNodeName"))
            message = (conditions.find(high["status"]["conditions"], "PodScheduled") or {})["message"]
            assert message.startswith("0/2 nodes are available: 2 Insufficient cpu.")
            async with asyncio.timeout(5):
                while not (doomed := [one for one in (await server.admin.list(PODS)).items if meta.is_deleting(one)]):
                    await asyncio.sleep(0.01)
            (victim,) = doomed
            target = conditions.find(victim["status"]["conditions"], "DisruptionTarget") or {}
            assert target["reason"] == "PreemptionByScheduler"
            assert node_of(victim) == high["status"]["nominatedNodeName"]
            await server.admin.delete(PODS, meta.name(victim), "default", grace_period_s=0)
            assert node_of(await until(server.admin, "high", node_of)) == node_of(victim)
            async with asyncio.timeout(5):
                while {"Scheduled", "FailedScheduling", "Preempted"} - {
                    event["reason"] for event in (await server.admin.list(EVENTS, "default")).items
                }:
                    await asyncio.sleep(0.02)
            if leader_elect:
                lease = await server.admin.get(LEASES, "kube-scheduler", "kube-system")
                assert lease["spec"]["holderIdentity"]
            assert not task.done()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_a_claim_is_bound_with_its_pod(tmp_path: Path) -> None:
    async with whole_server(tmp_path) as server:
        await server.admin.create(SERVICEACCOUNTS, {"metadata": {"name": "default", "namespace": "default"}})
        for name in ("n1", "n2"):
            await add_node(server, name)
        local = {
            "metadata": {"name": "local"},
            "provisioner": "kubernetes.io/no-provisioner",
            "volumeBindingMode": "WaitForFirstConsumer",
        }
        await server.admin.create(STORAGECLASSES, local)
        terms = [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["n2"]}]}]
        volume = {
            "metadata": {"name": "v"},
            "spec": {
                "capacity": {"storage": "1Gi"},
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": "local",
                "local": {"path": "/v"},
                "nodeAffinity": {"required": {"nodeSelectorTerms": terms}},
            },
        }
        await server.admin.create(PERSISTENTVOLUMES, volume)
        await server.admin.patch(PERSISTENTVOLUMES, "v", "", {"status": {"phase": "Available"}}, subresource="status")
        claim = {
            "metadata": {"name": "data", "namespace": "default"},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": "local",
                "resources": {"requests": {"storage": "1Gi"}},
            },
        }
        claim = await server.admin.create(PERSISTENTVOLUMECLAIMS, claim)
        task = asyncio.create_task(run(Config(seed=1), server.client("system:kube-scheduler")))
        try:
            volumes = [{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}]
            await server.admin.create(PODS, pod("p", volumes=volumes))
            async with asyncio.timeout(5):
                while not (found := await server.admin.get(PERSISTENTVOLUMES, "v"))["spec"].get("claimRef"):
                    await asyncio.sleep(0.01)
            assert found["spec"]["claimRef"]["uid"] == meta.uid(claim)
            assert not node_of(await server.admin.get(PODS, "p", "default"))
            # What the volume controller does next.
            bound = {
                "metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
                "spec": {"volumeName": "v"},
            }
            await server.admin.patch(PERSISTENTVOLUMECLAIMS, "data", "default", bound)
            assert node_of(await until(server.admin, "p", node_of)) == "n2"
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
