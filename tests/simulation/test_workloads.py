"""Hours of workloads with faults drawn from seeds: everything arrives at its wish, and nothing promised is broken."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.api.resources import (
    DAEMONSETS,
    DEPLOYMENTS,
    ENDPOINTSLICES,
    JOBS,
    NAMESPACES,
    NODES,
    PODS,
    REPLICASETS,
    SERVICES,
    STATEFULSETS,
)
from orchestrator.client.client import Client
from orchestrator.controllers.job_plan import FINALIZER
from tests.simulation import invariants, virtual_time
from tests.simulation.cluster import Cluster, deployment, ready, simulated, tolerations
from tests.simulation.faults import Faults

SEEDS = [1, 2, 3]
FAULTS = Faults(refused=0.02, reply_lost=0.02, conflict=0.02, watch_cut=0.02)
NONE = Faults()


async def change_image(client: Client, name: str, image: str) -> None:
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}}
    await client.patch(DEPLOYMENTS, name, "default", patch, "strategic")


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("faults", [NONE, FAULTS], ids=["calm", "faults"])
def test_a_rolling_update_keeps_its_promise(seed: int, faults: Faults) -> None:
    async def main() -> None:
        async with simulated(seed, faults=faults) as cluster:
            rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 2, "maxUnavailable": 1}}
            await cluster.client.create(DEPLOYMENTS, deployment("web", 6, strategy=rolling))
            await cluster.until(lambda: len(ready(cluster, "web")) == 6, 300)
            cluster.invariants += [
                invariants.at_least_ready("web", 5),
                invariants.at_most_alive("web", 8),
                invariants.stable_binding(),
            ]
            for image in ("web:2", "web:3"):
                await change_image(cluster.client, "web", image)
                await cluster.until(lambda image=image: len(ready(cluster, "web", image)) == 6, 900)  # type: ignore[misc]
            await cluster.pass_time(60)
            seen = (await cluster.client.get(DEPLOYMENTS, "web", "default"))["status"]
            assert (seen["updatedReplicas"], seen["readyReplicas"], seen["replicas"]) == (6, 6, 6)

    virtual_time.run(main())


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("faults", [NONE, FAULTS], ids=["calm", "faults"])
def test_a_lost_node_is_repaired_in_the_documented_time(seed: int, faults: Faults) -> None:
    async def main() -> None:
        async with simulated(seed, faults=faults) as cluster:
            await cluster.client.create(DEPLOYMENTS, deployment("web", 6))
            await cluster.until(lambda: len(ready(cluster, "web")) == 6, 300)
            lost = str(ready(cluster, "web")[0]["spec"]["nodeName"])
            cluster.kubelets[lost].is_silent = True

            def elsewhere() -> bool:
                return sum(pod["spec"]["nodeName"] != lost for pod in ready(cluster, "web")) == 6

            took = await cluster.until(elsewhere, 600)
            if faults is NONE:  # 40 s of silence (a lease may be 10 s old), 30 s of toleration, a start
                assert 60 <= took <= 40 + 30 + 5
            assert await listening(cluster, "web") is None
            cluster.kubelets[lost].speak()
            await cluster.until(lambda: not any(meta.is_deleting(pod) for pod in cluster.pods.values()), 300)
            node = await cluster.client.get(NODES, lost)
            await cluster.pass_time(30)
            node = await cluster.client.get(NODES, lost)
            assert not node["spec"].get("taints")

    virtual_time.run(main())


async def listening(cluster: Cluster, app: str) -> None:
    """After quiescence, no slice names a pod that is not ready; the Service is made and looked at here."""
    service = {
        "metadata": {"name": app, "namespace": "default"},
        "spec": {
            "selector": {"app": app},
            "ports": [{"port": 80, "targetPort": 8080}],
            "clusterIP": "10.96.0.9",
            "clusterIPs": ["10.96.0.9"],
            "ipFamilies": ["IPv4"],
        },
    }
    await cluster.client.create(SERVICES, service)
    await cluster.pass_time(60)
    slices = await cluster.client.list(ENDPOINTSLICES, "default")
    shown = sorted(
        endpoint["targetRef"]["name"]
        for each in slices.items
        for endpoint in each["endpoints"]
        if endpoint["conditions"]["ready"]
    )
    assert shown == sorted(meta.name(pod) for pod in ready(cluster, app))


@pytest.mark.parametrize("seed", SEEDS)
def test_what_an_owner_leaves_is_collected_and_a_namespace_with_it(seed: int) -> None:
    async def main() -> None:
        async with simulated(seed, faults=FAULTS) as cluster:
            client = cluster.client
            await client.create(NAMESPACES, {"metadata": {"name": "shop"}})
            for namespace in ("default", "shop"):
                made = deployment("web", 3)
                made["metadata"]["namespace"] = namespace
                await client.create(DEPLOYMENTS, made)
            await cluster.until(lambda: len(ready(cluster, "web")) == 6, 300)
            await client.delete(DEPLOYMENTS, "web", "default", propagation="Foreground")
            await cluster.until(lambda: len(cluster.pods) == 3, 300, "the pods of one namespace go")
            await cluster.pass_time(30)
            assert (await client.list(DEPLOYMENTS, "default")).items == []
            assert (await client.list(REPLICASETS, "default")).items == []
            await client.delete(NAMESPACES, "shop")
            await cluster.until(lambda: not cluster.pods, 300, "the pods of the other go")
            await cluster.pass_time(60)
            assert "shop" not in [meta.name(each) for each in (await client.list(NAMESPACES)).items]

    virtual_time.run(main())


def test_orphans_stay_and_are_adopted_again() -> None:
    async def main() -> None:
        async with simulated(1) as cluster:
            await cluster.client.create(DEPLOYMENTS, deployment("web", 3))
            await cluster.until(lambda: len(ready(cluster, "web")) == 3, 60)
            names = sorted(cluster.pods)
            await cluster.client.delete(DEPLOYMENTS, "web", "default", propagation="Orphan")
            await cluster.pass_time(30)
            (left,) = (await cluster.client.list(REPLICASETS, "default")).items
            assert meta.owner_references(left) == []
            await cluster.client.create(DEPLOYMENTS, deployment("web", 3))
            await cluster.pass_time(30)
            (adopted,) = (await cluster.client.list(REPLICASETS, "default")).items
            assert [ref["kind"] for ref in meta.owner_references(adopted)] == ["Deployment"]
            assert sorted(cluster.pods) == names, "no pod was touched"

    virtual_time.run(main())


def stateful(replicas: int, image: str = "db:1") -> Object:
    labels = {"app": "db"}
    return {
        "metadata": {"name": "db", "namespace": "default"},
        "spec": {
            "serviceName": "db",
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "c", "image": image}], "tolerations": tolerations(30)},
            },
        },
    }


@pytest.mark.parametrize("seed", SEEDS)
def test_a_stateful_set_has_one_pod_a_name_in_order(seed: int) -> None:
    async def main() -> None:
        async with simulated(seed, faults=FAULTS) as cluster:
            order: list[str] = []

            def in_order(_: Cluster) -> None:
                for pod in ready(cluster, "db"):
                    if meta.name(pod) not in order:
                        order.append(meta.name(pod))

            cluster.invariants += [invariants.one_identity("db"), invariants.stable_binding(), in_order]
            await cluster.client.create(STATEFULSETS, stateful(4))
            await cluster.until(lambda: len(ready(cluster, "db")) == 4, 300)
            assert order == ["db-0", "db-1", "db-2", "db-3"]
            patch = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "db:2"}]}}}}
            await cluster.client.patch(STATEFULSETS, "db", "default", patch, "strategic")
            await cluster.until(lambda: len(ready(cluster, "db", "db:2")) == 4, 600)
            lost = str(ready(cluster, "db")[0]["spec"]["nodeName"])
            cluster.kubelets[lost].is_silent = True
            await cluster.pass_time(300)  # the name of a pod that may still run is not given again
            cluster.kubelets[lost].speak()
            await cluster.until(lambda: len(ready(cluster, "db")) == 4, 600)
            await cluster.client.patch(STATEFULSETS, "db", "default", {"spec": {"replicas": 1}})
            await cluster.until(lambda: sorted(cluster.pods) == ["default/db-0"], 300)
            seen = (await cluster.client.get(STATEFULSETS, "db", "default"))["status"]
            assert seen["currentRevision"] == seen["updateRevision"]

    virtual_time.run(main())


@pytest.mark.parametrize("seed", SEEDS)
def test_a_daemon_set_serves_each_node_and_is_replaced_one_by_one(seed: int) -> None:
    async def main() -> None:
        async with simulated(seed, node_count=5, faults=FAULTS) as cluster:
            made: dict[str, Any] = stateful(1, "agent:1")
            del made["spec"]["replicas"], made["spec"]["serviceName"]
            await cluster.client.create(DAEMONSETS, made)
            await cluster.until(lambda: len(ready(cluster, "db")) == 5, 300)
            assert len({pod["spec"]["nodeName"] for pod in ready(cluster, "db")}) == 5
            cluster.invariants.append(invariants.at_least_ready("db", 4))
            patch = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "agent:2"}]}}}}
            await cluster.client.patch(DAEMONSETS, "db", "default", patch, "strategic")
            await cluster.until(lambda: len(ready(cluster, "db", "agent:2")) == 5, 600)
            cluster.invariants.clear()
            await cluster.client.delete(NODES, "n4")
            await cluster.until(lambda: len(cluster.pods) == 4, 300)
            assert len((await cluster.client.list(PODS, "default")).items) == 4

    virtual_time.run(main())


def test_the_same_seed_is_the_same_history() -> None:
    async def main() -> list[tuple[float, str, str]]:
        history: list[tuple[float, str, str]] = []
        async with simulated(7, faults=FAULTS) as cluster:
            loop = asyncio.get_running_loop()

            async def record() -> None:
                async for event in cluster.client.watch(PODS, resource_version="1"):
                    history.append((loop.time(), event.type, str(event.object)))

            recorder = asyncio.create_task(record())
            await cluster.client.create(DEPLOYMENTS, deployment("web", 4))
            await cluster.until(lambda: len(ready(cluster, "web")) == 4, 300)
            await change_image(cluster.client, "web", "web:2")
            await cluster.pass_time(120)
            recorder.cancel()
            await asyncio.gather(recorder, return_exceptions=True)
        return history

    first, second = virtual_time.run(main()), virtual_time.run(main())
    assert len(first) > 20
    assert first == second


@pytest.mark.parametrize("seed", SEEDS)
def test_a_job_counts_each_pod_once_whatever_is_lost(seed: int) -> None:
    async def main() -> None:
        async with simulated(seed, faults=FAULTS) as cluster:
            made = job("sum", "once", completions=6, parallelism=2)
            await cluster.client.create(JOBS, made)
            await cluster.pass_time(240)
            seen = (await cluster.client.get(JOBS, "sum", "default"))["status"]
            assert (seen.get("succeeded"), seen.get("failed"), seen.get("active")) == (6, None, None)
            assert [each["type"] for each in seen["conditions"]] == ["SuccessCriteriaMet", "Complete"]
            assert all(not meta.finalizers(each) for each in cluster.pods.values())
            await cluster.client.delete(JOBS, "sum", "default", propagation="Background")
            await cluster.until(lambda: not cluster.pods, 120)

    virtual_time.run(main())


def job(name: str, image: str, **spec: Any) -> Object:
    """One that selects its pods by a label of ours, so that others may get it too."""
    labels = {"batch.kubernetes.io/job-name": name}
    template = {
        "metadata": {"labels": labels},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": image}]},
    }
    selection = {"manualSelector": True, "selector": {"matchLabels": labels}}
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {**selection, "template": template, **spec},
    }


@pytest.mark.parametrize("faults", [NONE, FAULTS], ids=["calm", "faults"])
def test_a_pod_that_a_job_gave_up_is_held_by_nobody(faults: Faults) -> None:
    async def main() -> None:
        async with simulated(1, faults=faults) as cluster:
            await cluster.client.create(JOBS, job("sum", "web:1", parallelism=1))
            await cluster.until(lambda: len(cluster.pods) == 1, 300)
            name, uid = next((meta.name(each), meta.uid(each)) for each in cluster.pods.values())

            def held() -> tuple[bool, bool]:
                found = next(each for each in cluster.pods.values() if meta.uid(each) == uid)
                return meta.controller_of(found) is not None, bool(meta.finalizers(found))

            await change(cluster.client, name, {"ownerReferences": None})
            await cluster.until(lambda: held() == (True, True), 300)
            await change(cluster.client, name, {"labels": None})
            await cluster.until(lambda: held() == (False, False), 300)
            await change(cluster.client, name, {"finalizers": [FINALIZER]})
            await cluster.until(lambda: held() == (False, False), 300)

    virtual_time.run(main())


def test_a_job_of_another_controller_is_left_alone() -> None:
    async def main() -> None:
        async with simulated(1, faults=NONE) as cluster:
            await cluster.client.create(JOBS, job("theirs", "web:1", managedBy="example.com/other"))
            await cluster.client.create(JOBS, job("ours", "web:1", managedBy="kubernetes.io/job-controller"))
            await cluster.until(lambda: len(cluster.pods) == 1, 300)
            await cluster.pass_time(30)
            assert [meta.name(each).rpartition("-")[0] for each in cluster.pods.values()] == ["ours"]
            assert not (await cluster.client.get(JOBS, "theirs", "default")).get("status")

    virtual_time.run(main())


async def change(client: Client, name: str, metadata: Object) -> None:
    await client.patch(PODS, name, "default", {"metadata": metadata})
